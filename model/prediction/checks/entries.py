"""The entries of ``deiii.json`` that prediction reads, and what each must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

Test = Callable[[Any], bool]


def wrong_entry(manifest: Mapping[str, Any], ensemble: bool = False) -> str:
    """Return what is wrong with the entries of ``deiii.json``; empty where nothing is.

    Args:
        manifest: its content.
        ensemble: whether it is that of an exported ensemble, whose members have one each.

    >>> wrong_entry({"classes": "happy"}, ensemble=True)
    'its entry members is missing'
    """
    entries, required = (OF_ENSEMBLE, OF_ENSEMBLE_REQUIRED) if ensemble else (ENTRIES, REQUIRED)
    for name in required:
        if name not in manifest:
            return f"its entry {name} is missing"
    for name, (words, test) in entries.items():
        if name in manifest and not test(manifest[name]):
            return f"its entry {name} is not {words}"
    if not ensemble:
        pairs, attributes = manifest["ranges"], manifest["attributes"]
        if len(pairs) != len(attributes):
            return f"it has {len(attributes)} attributes, but {len(pairs)} ranges"
        if not manifest["classes"] and not attributes:
            return "it has neither classes nor attributes"
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(test: Test, length: int | None = None) -> Test:
    def is_list(value: Any) -> bool:
        return isinstance(value, list) and length in (None, len(value)) and all(map(test, value))

    return is_list


def _table_of(test: Test) -> Test:
    def is_table(value: Any) -> bool:
        return isinstance(value, dict) and all(map(test, value.values()))

    return is_table


def _or_null(test: Test) -> Test:
    def is_null_or(value: Any) -> bool:
        return value is None or test(value)

    return is_null_or


def _table_with(tests: Mapping[str, Test]) -> Test:
    """Return a test for a table that has some entries, and may have others."""

    def has_entries(value: Any) -> bool:
        return isinstance(value, dict) and all(n in value and test(value[n]) for n, test in tests.items())

    return has_entries


def _are_names(value: Any) -> bool:
    return _list_of(_is_text)(value) and len(set(value)) == len(value)


def _is_range(value: Any) -> bool:
    return _list_of(_is_number, 2)(value) and value[0] < value[1]


def _is_shape(value: Any) -> bool:
    """Return whether a value is the shape of an input: the batch, the rows, and what each row holds."""
    sizes = value[1:] if isinstance(value, list) else []
    return bool(sizes) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes)


_PREPARATION: dict[str, Test] = {
    "mean": _list_of(_is_number, 3), "std": _list_of(_is_positive, 3), "db_centre": _is_number,
    "db_scale": _is_positive, "flow_unit_s": _is_positive, "shortest_step_s": _is_positive,
}  # fmt: skip
_TRAINING: dict[str, Test] = {
    "finished": lambda value: isinstance(value, bool), "epochs": _is_number, "planned": _is_number,
}  # fmt: skip
_SECONDS: dict[str, Test] = {"median": _is_positive, "longest": _is_positive}
# Entries that every version of deiii wrote and prediction reads.
REQUIRED: Collection[str] = ("classes", "attributes", "ranges", "settings", "inputs", "keys")
_SHARED: dict[str, tuple[str, Test]] = {
    "scores": ("a table or null", _or_null(_is_table)),
    "temperature": ("a positive number or null", _or_null(_is_positive)),
    "sha256": ("a table of texts", _table_of(_is_text)),
}
# What each entry must be, in words and as a test.
ENTRIES: dict[str, tuple[str, Test]] = {
    "corpus": ("a text", _is_text),
    "classes": ("a list of different names", _are_names),
    "attributes": ("a list of different names", _are_names),
    "ranges": ("a list of pairs of a low and a high number", _list_of(_is_range)),
    "seconds": ("a table with median and longest in s, or null", _or_null(_table_with(_SECONDS))),
    "settings": ("a table of tables", _is_table),
    "inputs": (
        "a table with shape and dtype of each input",
        _table_of(_table_with({"shape": _is_shape, "dtype": _is_text})),
    ),
    "preparation": (f"a table with {', '.join(_PREPARATION)}", _table_with(_PREPARATION)),
    "hidden": ("a list of names", _list_of(_is_text)),
    "keys": ("a table of texts", _table_of(_is_text)),
    "encoders": ("a list of tables", _list_of(_is_table)),
    "training": (f"a table with {', '.join(_TRAINING)}, or null", _or_null(_table_with(_TRAINING))),
    "epoch": ("a number", _is_number),
    "parameters": ("a number", _is_number),
    **_SHARED,
}
OF_ENSEMBLE_REQUIRED: Collection[str] = ("members",)
OF_ENSEMBLE: dict[str, tuple[str, Test]] = {
    "members": ("a list of the names of folders", lambda value: bool(value) and _are_names(value)),
    **_SHARED,
}
