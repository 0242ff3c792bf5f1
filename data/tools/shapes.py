"""Shapes of the arrays in a dataclass: checked when it is made, printed instead of numbers.

Arrays are anything with ``shape`` and ``dtype``: of numpy or of PyTorch, which is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def check_axes(record: Any, axes: Mapping[str, tuple[str | int, ...]]) -> None:
    """Compare the shapes of a dataclass's arrays with its declared axes, in a few microseconds.

    Args:
        record: the dataclass; fields that are ``None`` are left out.
        axes: length of each axis, or a letter, keyed by field; one letter has one length in all fields.

    Raises:
        ValueError: names the class, the field, the shape found and the one expected.

    >>> from types import SimpleNamespace as Record
    >>> import numpy as np
    >>> check_axes(Record(x=np.zeros((4, 3)), t=np.zeros(5)), {"x": ("n", 3), "t": ("n",)})
    Traceback (most recent call last):
    ValueError: SimpleNamespace.t has the shape [5], expected [n] with n=4
    """
    known: dict[str, int] = {}
    for name, wanted in axes.items():
        array = getattr(record, name)
        if array is None:
            continue
        shape = array.shape
        fits = len(shape) == len(wanted)
        if fits:
            for size, axis in zip(shape, wanted):  # noqa: B905 - lengths are equal; strict costs time
                if size != (known.setdefault(axis, size) if isinstance(axis, str) else axis):
                    fits = False
        if not fits:
            letters = [a for a in dict.fromkeys(wanted) if isinstance(a, str) and a in known]
            where = f" with {', '.join(f'{a}={known[a]}' for a in letters)}" if letters else ""
            expected = ",".join(str(a) for a in wanted)
            raise ValueError(
                f"{type(record).__name__}.{name} has the shape {list(shape)}, expected [{expected}]{where}"
            )


def describe_shapes(record: Any) -> str:
    """Return a dataclass in a line, with types and shapes in place of its arrays' numbers."""
    shown = ", ".join(f"{f.name}={_brief(getattr(record, f.name))}" for f in fields(record))
    return f"{type(record).__name__}({shown})"


def _brief(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_brief(v)}" for key, v in value.items()) + "}"
    return repr(value)
