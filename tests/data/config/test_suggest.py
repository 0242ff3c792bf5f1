"""Hints for misspelt names."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deiii.data.config.keys import all_keys
from deiii.data.config.suggest import (
    did_you_mean,
    near_name,
    nearest,
    no_config,
    no_settings,
    suggest_setting,
)

KNOWN = ["faces.size", "flow.batch", "train.lr"]


def test_the_nearest_known_word_is_found():
    assert nearest("faces.siz", KNOWN) == "faces.size"
    assert did_you_mean("flow.bacth", KNOWN) == "; did you mean 'flow.batch'?"


def test_nothing_is_suggested_for_a_word_unlike_all_others():
    assert nearest("zzz", KNOWN) is None and did_you_mean("zzz", KNOWN) == ""
    assert nearest("faces.siz", []) is None


def test_a_higher_cutoff_suggests_less():
    assert nearest("flow.bacthes", KNOWN, cutoff=0.95) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("flow.precison", ["flow.precision"]),
        ("flow.update", ["flow.updates"]),
        ("flow.prec", ["flow.precision"]),  # the beginning of one name
        ("Flow.Updates", ["flow.updates"]),
        ("fow.updates", ["flow.updates"]),  # the section is misspelt
        ("face.size", ["faces.size"]),  # not that of corpus.synthetic
        ("speach.encoder", ["speech.encoder"]),
        ("faces.size.x", ["faces.size"]),
        ("epocs", ["train.epochs"]),
        ("loader.batch_size", ["loader.batch"]),
        ("train.max_epochs", ["train.epochs"]),
        ("flow.hop_ms", ["logmel.hop_ms"]),
        ("seed", ["corpus.synthetic.seed", "split.seed", "train.seed"]),
    ],
)
def test_a_setting_that_is_near_is_suggested(typed, meant):
    hint = suggest_setting(typed, all_keys())
    assert hint.startswith("; did you mean ") and re.findall("'(.*?)'", hint) == meant


@pytest.mark.parametrize(
    "typed", ["flow.iterations", "flow.iters", "flow.z", "fow.iterations", "flow.direction", "flow.motion"]
)
def test_without_a_near_name_the_settings_of_the_section_are_listed(typed):
    names = [key.removeprefix("flow.") for key in all_keys() if key.startswith("flow.")]
    hint = suggest_setting(typed, all_keys())
    assert re.split(", | and ", hint.removeprefix("; flow has the settings ")) == names


@pytest.mark.parametrize("typed", ["learning_rate", "zzzzzz", "gaze.points"])
def test_nothing_is_suggested_where_nothing_is_near(typed):
    assert suggest_setting(typed, all_keys()) == ""


def edits(one: str, other: str) -> int:
    """Letters to insert, remove or change (Levenshtein), by the usual table."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row = row, [i]
        for j, second in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != second)))
    return row[-1]


@given(st.sampled_from(all_keys()), st.integers(0, 40), st.sampled_from(["swap", "drop", "double", "change"]))
@example("cluster.queue", 2, "change")
def test_one_wrong_letter_is_always_understood(key, place, how):
    section, dot, name = key.rpartition(".")
    i = place % len(name)
    letters = {
        "swap": name[:i] + name[i + 1 : i + 2] + name[i] + name[i + 2 :],
        "drop": name[:i] + name[i + 1 :],
        "double": name[: i + 1] + name[i:],
        "change": name[:i] + "q" + name[i + 1 :],
    }[how]
    if len(letters) < 3 or f"{section}{dot}{letters}" in all_keys():
        return
    hint = suggest_setting(f"{section}{dot}{letters}", all_keys())
    meant = re.findall("'(.*?)'", hint)
    assert hint.startswith("; did you mean ")
    # Another name may be as near: gpu is gpus with a letter less, and heads is head with one more.
    assert key in meant or edits(meant[0].rpartition(".")[2], letters) <= 2


@given(st.text("abcdefghijklmnop_", min_size=1, max_size=16))
def test_a_name_in_which_most_letters_differ_is_not_suggested(typed):
    names = [key.rpartition(".")[2] for key in all_keys()]
    found = near_name(typed, names)
    if found is not None and not found.startswith(typed):
        assert edits(found, typed) <= max(2, max(len(found), len(typed)) / 2)


def test_a_word_that_is_no_config_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/config.yaml").touch()
    (tmp_path / "clips").mkdir()
    (tmp_path / "own.yaml").touch()
    keys = ["faces.size", "faces.margin", "workers"]
    assert no_config("runs/mine", ["tiny"], keys).endswith("the config in it is runs/mine/config.yaml")
    assert "table corpus.root=clips, or let `deiii init clips`" in no_config("clips", ["tiny"], keys)
    (tmp_path / "features/mine/faces-123").mkdir(parents=True)
    (tmp_path / "features/mine/faces-123/index.json").touch()
    (tmp_path / "workers").mkdir()
    assert no_config("features", ["tiny"], keys).endswith("write cache=features")
    assert "is the folder of one corpus in a cache" in no_config("features/mine", ["tiny"], keys)
    assert "write cache=features with the config" in no_config("features/mine", ["tiny"], keys)
    monkeypatch.chdir(tmp_path / "features")
    assert f"write cache={tmp_path / 'features'} with" in no_config("mine", ["tiny"], keys)
    monkeypatch.chdir(tmp_path)
    assert no_config("", ["tiny"], keys).startswith("an empty word names no config file")
    assert no_config("workers", ["tiny"], keys).endswith("workers=VALUE")
    assert no_config("faces", ["tiny"], keys).endswith("such as faces.size=VALUE")
    assert "did you mean 'own.yaml'?" in no_config("own", ["tiny"], keys)
    assert "no such config file: owm.yml; did you mean 'own.yaml'?" in no_config("owm.yml", ["tiny"], keys)
    assert "no such config file: tinny; did you mean 'tiny'?" in no_config("tinny", ["tiny"], keys)
    assert no_config("x/y", ["tiny", "base"], keys).endswith("a YAML file, or one of tiny, base")


@pytest.mark.parametrize(
    ("name", "tree", "words"),
    [
        (
            "metrics.json",
            {"test": {"uar": 1}},
            "metrics.json is not a config file: it holds test; give a YAML file",
        ),
        (
            "runs/a/run.json",
            {"keys": {}},
            "run.json is not a config file: it holds keys; the settings of the run are in",
        ),
        ("a.yaml", {"faces.size": 96}, "write faces.size as a section: a line 'faces:', and below it"),
        (
            "p.yaml",
            {"about": "x", "kind": "fixed"},
            "p.yaml is a split protocol, not a config file; write split.",
        ),
        ("a.yaml", {"facs": {"size": 96}}, ""),  # a misspelt setting
        ("a.json", {"faces": {"size": 96}}, ""),
        ("a.json", {}, ""),
    ],
)
def test_a_file_without_settings_is_named(tmp_path, monkeypatch, name, tree, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/config.yaml").touch()
    found = no_settings(name, tree, ["faces", "cache"])
    assert words in found and bool(words) == bool(found)


def test_the_same_letters_at_other_places_are_no_misspelling():
    assert near_name("portex", ["export"]) is None
    assert near_name("epxort", ["export"]) == "export"  # two letters that changed places
