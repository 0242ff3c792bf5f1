"""Stage keys: equal where results are equal, different where anything that matters differs."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.cache.recipes import stage_key
from deiii.data.config.schema import FacesConfig, FlowConfig, LogMelConfig, result_params
from deiii.data.tools.text.canonical_json import canonical_json

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3), max_leaves=8
)
params = st.dictionaries(st.text(), values, max_size=5)


@given(params)
def test_order_of_parameters_does_not_matter(tree):
    assert stage_key("s", 1, tree) == stage_key("s", 1, dict(reversed(tree.items())))


@given(values)
def test_canonical_json_is_json_and_stable(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


@given(params, params)
def test_different_parameters_have_different_keys(a, b):
    same = canonical_json(a) == canonical_json(b)
    assert (stage_key("s", 1, a) == stage_key("s", 1, b)) == same


def test_known_key():
    """Independent spelling of the format: a change here throws away every cache."""
    text = '{"params":{"a":1,"b":[true,0.5,"x"]},"stage":"s","upstream":"u","version":2,"weights":"w"}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert stage_key("s", 2, {"b": (True, 0.5, "x"), "a": 1.0}, "w", "u") == expected


@pytest.mark.parametrize(
    "other",
    [
        ("t", 1, {"a": 1}, "w", "u"),
        ("s", 2, {"a": 1}, "w", "u"),
        ("s", 1, {"a": 2}, "w", "u"),
        ("s", 1, {"a": "1"}, "w", "u"),
        ("s", 1, {"a": True}, "w", "u"),
        ("s", 1, {"a": None}, "w", "u"),
        ("s", 1, {"a": [1]}, "w", "u"),
        ("s", 1, {"b": 1}, "w", "u"),
        ("s", 1, {"a": 1}, "v", "u"),
        ("s", 1, {"a": 1}, None, "u"),
        ("s", 1, {"a": 1}, "w", None),
        ("s", 1, {"a": 1}, "u", "w"),
    ],
)
def test_everything_that_matters_enters(other):
    assert stage_key(*other) != stage_key("s", 1, {"a": 1}, "w", "u")


def test_whole_floats_are_integers():
    assert stage_key("s", 1, {"a": 1.0}) == stage_key("s", 1, {"a": 1})
    assert canonical_json(-0.0) == canonical_json(0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": float("-inf")}]])
def test_not_finite(value):
    with pytest.raises(ValueError, match="finite"):
        stage_key("s", 1, {"a": value})


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), {1: 2}, 1j])
def test_other_types(value):
    with pytest.raises(TypeError):
        stage_key("s", 1, {"a": value})


def test_another_process_agrees():
    tree = "{'b': [0.1, 'ü'], 'a': {'d': 1, 'c': None}}"
    code = f"from deiii.data.cache.recipes import stage_key; print(stage_key('s', 1, {tree}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == stage_key("s", 1, {"a": {"c": None, "d": 1}, "b": [0.1, "ü"]})


@pytest.mark.parametrize(
    "section", [FacesConfig(), FlowConfig(), LogMelConfig()], ids=lambda s: type(s).__name__
)
def test_results_alone_enter(section):
    key = stage_key("s", 1, result_params(section))
    for f in fields(section):
        value = getattr(section, f.name)
        changed = {str: "other", type(None): "other", bool: not value}.get(type(value)) or value + 1
        moved = stage_key("s", 1, result_params(replace(section, **{f.name: changed}))) != key
        assert moved is not f.metadata["operational"], f.name
