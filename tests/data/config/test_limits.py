"""Every number among the settings has limits, and a value beyond them is an error before any work."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.config.schema_fields import describe_range, in_range
from deiii.data.config.strict_yaml import ConfigError


def numbers(section=None, prefix=""):
    """Name and metadata of every number and list of numbers."""
    section = section or Config()
    for f in fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            yield from numbers(value, f"{prefix}{f.name}.")
        elif ("int" in str(f.type) or "float" in str(f.type)) and not isinstance(value, bool):
            yield prefix + f.name, f


NUMBERS = dict(numbers())
GOES_WITH = {"mix_weights": ["mix=[synthetic]", "model.attributes=[]"]}  # one weight for each corpus of mix


def test_every_number_has_a_lowest_and_a_highest_value():
    assert len(NUMBERS) > 70 and {"train.warmup", "faces.fps", "model.channels", "gpus"} <= set(NUMBERS)
    for name, f in NUMBERS.items():
        m = f.metadata
        assert (m["low"] is None) != (m["above"] is None), name
        assert (m["high"] is None) != (m["below"] is None), name


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_values_beyond_the_limits_are_refused_with_the_setting_and_its_range(data):
    name = data.draw(st.sampled_from(sorted(NUMBERS)))
    f = NUMBERS[name]
    m, whole = f.metadata, "float" not in str(f.type)
    low = m["low"] if m["low"] is not None else m["above"]
    high = m["high"] if m["high"] is not None else m["below"]
    beyond = st.integers(-(2**40), 2**40) if whole else st.floats(-1e12, 1e12, allow_nan=False)
    value = data.draw(
        beyond.filter(lambda x: x < low or x > high)
        | st.sampled_from([low - 1, high + 1, *(x for x in (m["above"], m["below"]) if x is not None)])
    )
    value = int(value) if whole else float(value)
    word = f"[{value}]" if "list" in str(f.type) else repr(value)
    assert not in_range(value, m)
    with pytest.raises(ConfigError) as error:
        load_config(overrides=[f"{name}={word}"])
    assert str(error.value).startswith(f"{name} must be {describe_range(m)}, not ")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_values_within_the_limits_are_taken(data):
    name = data.draw(st.sampled_from(sorted(set(NUMBERS) - {"logmel.fmin", "logmel.fmax"})))
    f = NUMBERS[name]
    m, whole = f.metadata, "float" not in str(f.type)
    low = m["low"] if m["low"] is not None else math.nextafter(m["above"], math.inf)
    high = m["high"] if m["high"] is not None else math.nextafter(m["below"], -math.inf)
    value = data.draw(st.integers(int(low), int(high)) if whole else st.floats(low, high))
    word = f"{name}={f'[{value}]' if 'list' in str(f.type) else repr(value)}"
    dividing = {"train.accumulate": [f"loader.batch={value}"]}  # a batch that has so many equal parts
    load_config(overrides=[word, *GOES_WITH.get(name, dividing.get(name, []))])


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("train.warmup=500", "at most 1, not 500.0; it is a share"),
        ("train.modality_dropout=3", "at most 1"),
        ("train.label_smoothing=1.5", "less than 1"),
        ("train.label_smoothing=1", "all classes would be alike"),
        ("loader.spec_masks=-1", "at least 0"),
        ("train.seed=-1", "at least 0"),
        ("model.dropout=1.5", "less than 1"),
        ("train.lr=0", "more than 0"),
        ("train.patience=-1", "at least 0"),
        ("model.channels=[]", "needs at least one item"),
        ("model.channels=[16,0]", "at most 16384, not 0"),
        ("logmel.fmin=8000", "must be less than logmel.fmax"),
    ],
)
@pytest.mark.parametrize("command", ["train", "preprocess", "crossval"])
def test_commands_refuse_them_before_any_work(word, reason, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([command, "synthetic", "tiny", word]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: " + word.split("=")[0]) and reason in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
