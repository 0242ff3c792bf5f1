"""Which words of `deiii sweep` are varied, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from deiii.data.config.strict_yaml import ConfigError
from deiii.model.sweep import space
from deiii.model.sweep.space import grid, notes_without_effect, quoted, split_space, text


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("train.lr=[1e-3,0.002]", (0.001, 0.002)),
        ("lr=[1e-3,0.002]", (0.001, 0.002)),
        ("model.width=[32]", (32,)),
        ("model.conformer=[true,false]", (True, False)),
        ("model.ov=[attention,concat]", ("attention", "concat")),
        ("train.amp=[auto,off]", ("auto", "off")),  # off is no boolean here
        ("model.channels=[[8,16],[16,32]]", ([8, 16], [16, 32])),
        ("model.attributes=[[valence],[valence,arousal]]", (["valence"], ["valence", "arousal"])),
        ("model.head_dropout=[null,0.5]", (None, 0.5)),
        ("model.video=[true,false]", (True, False)),
    ],
)
def test_a_list_of_values_is_varied(word, values):
    (axis,), rest = split_space(["tiny", word])
    assert axis.values == values and rest == ["tiny"]


@pytest.mark.parametrize(
    "word",
    ["model.channels=[8,16]", "stages=[logmel]", "model.video=[frames,flow]", "model.audio=[logmel,speech]",
     "corpus.codes={an: angry}", "train.lr=0.1", "corpus.root=/a/[b]", "model.attributes=[]"],
)  # fmt: skip
def test_a_list_that_is_one_value_is_a_setting(word):
    assert split_space([word]) == ([], [word])


@pytest.mark.parametrize(
    ("word", "kind", "low", "high", "whole"),
    [
        ("train.lr=log(1e-4,1e-2)", "log", 1e-4, 1e-2, False),
        ("train.label_smoothing=uniform(0, 0.3)", "uniform", 0, 0.3, False),
        ("model.blocks=int(1,4)", "int", 1, 4, True),
        ("model.width=log(16,128)", "log", 16, 128, True),
    ],
)
def test_ranges(word, kind, low, high, whole):
    (axis,), _ = split_space([word])
    assert (axis.kind, axis.low, axis.high, axis.whole) == (kind, low, high, whole)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lr=log(1e-2,1e-4)"], "less than the second"),
        (["lr=log(0,1)"], "begins above 0"),
        (["lr=log(1e-4,99)"], "train.lr must be more than 0 and at most 10"),
        (["lr=lag(1,2)"], r"log\(a,b\), uniform\(a,b\) or int\(a,b\)"),
        (["lr=int(1,2)"], "takes any number"),
        (["model.blocks=int(1,2.5)"], "whole numbers"),
        (["model.ov=uniform(0,1)"], "is not a number"),
        (["seed=[1,2]"], "it cannot be varied"),
        (["train.device=[cpu,cuda]"], "it cannot be varied"),
        (["lr=[1e-3,1e-3]"], "names a value twice"),
        (["lr=[1e-3]", "train.lr=[1e-2]"], "varied twice"),
        (["train.lrr=[1,2]"], "did you mean 'train.lr'"),
        (["channels=[1,2]", "fps=[1,2]"], "may be"),
    ],
)
def test_what_is_refused(words, says):
    with pytest.raises(ConfigError, match=says):
        split_space(words)


def test_the_grid_has_every_combination_once():
    axes, _ = split_space(["model.width=[16,32]", "train.lr=[1,2,3]", "model.ov=[attention,concat]"])
    found = list(grid(axes))
    assert len(found) == 12 == len({tuple(settings.items()) for settings in found})
    assert found[0] == {"model.width": 16, "train.lr": 1, "model.ov": "attention"}


@pytest.mark.parametrize(
    ("words", "noted"),
    [
        (["train.w_match=[0.1,1]"], ["train.w_match=[0.1,1]"]),
        (["train.w_match=uniform(0.1,1)", "train.lr=log(1e-4,1e-2)"], ["train.w_match=uniform(0.1,1)"]),
        (["model.time_match=[false,true]", "train.w_match=[0.1,1]"], []),  # it has one in half of the runs
        (["model.time_match=[false,true]", "train.w_match=0.5"], []),
        (["model.flow=[false,true]", "train.w_match=0.5", "model.flow_scale=[1,2]"], ["train.w_match=0.5"]),
        (["model.flow=false", "model.flow_scale=[0.5,2]"], ["model.flow_scale=[0.5,2]"]),
        (["train.monitor=[last,loss]", "train.patience=3"], []),
        (["train.monitor=last", "train.patience=int(0,3)"], ["train.patience=int(0,3)"]),  # 0 is off
        (["train.w_audio=[0,0.5]", "model.audio=false"], ["train.w_audio=[0,0.5]"]),
        (["model.width=[30,33]", "model.heads=[4,7]"], []),  # some are not allowed: the sweep says so
    ],
)
def test_settings_without_effect_in_any_run_are_named(words, noted):
    axes, rest = split_space(["tiny", *words])
    lines = notes_without_effect(axes, rest)
    assert [line.partition(" has no effect here; it is for ")[0] for line in lines] == noted


def test_a_large_sweep_is_not_read_combination_by_combination_for_notes(monkeypatch):
    read = []
    real = space.read_settings
    monkeypatch.setattr(space, "read_settings", lambda words: read.append(words) or real(words))
    values = ",".join(str(i / 1000) for i in range(1, 101))
    axes = split_space([f"train.w_match=[{values}]", f"train.lr=[{values}]"])[0]
    assert notes_without_effect(axes, ["tiny"]) == [] and len(read) == 1


@pytest.mark.parametrize("word", ["lr=[1,1.0]", "lr=[1e-3,'0.001']", "train.w_audio=[0,-0.0]"])
def test_a_number_that_is_written_in_two_ways_is_one_value(word):
    with pytest.raises(ConfigError, match="names a value twice"):
        split_space([word])


TEXTS = (
    "a",
    "a b",
    "a, b",
    "a: b",
    "a #b",
    "-a",
    "*b",
    "[c]",
    "{d}",
    "null",
    "~",
    "'",
    '"',
    "",
    "é",
    "a\\b",
    "|",
)


@pytest.mark.parametrize("value", TEXTS)
def test_text_is_quoted_where_yaml_would_read_something_else(value):
    assert yaml.safe_load(f"[{quoted(value, True)}]") == [value]
    assert yaml.safe_load(f"a: {quoted(value)}") == {"a": value}
    assert (quoted(value) == value) or quoted(value)[0] == '"'


@pytest.mark.parametrize("value", ["noise=10", "/a/b c", "no", "1e-3", "2024-01-01", "a=b", "a|b"])
def test_text_that_needs_no_quotes_has_none(value):
    """The folders of runs are named by it."""
    assert quoted(value) == value and text([value, "x"]) == f"[{value},x]"
