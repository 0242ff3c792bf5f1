"""Types of options that are numbers; a number outside the limits of its option is refused.

>>> whole_number(1, 64)("8"), seconds(3600)("0.5")
(8, 0.5)
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any

from deiii.data.config.schema_fields import describe_range, in_range


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return the type of an option that takes a whole number from ``low`` to ``high``, both included."""

    def read(text: str) -> int:
        return _checked(_parse(int, text, "a whole number"), text, {"low": low, "high": high})

    return read


def whole_numbers(low: int, high: int) -> Callable[[str], list[int]]:
    """Return the type of an option that takes whole numbers, separated by commas.

    >>> whole_numbers(0, 9)("0,3")
    [0, 3]
    """
    read = whole_number(low, high)
    return lambda text: [read(word) for word in text.split(",")]


def seconds(most: float) -> Callable[[str], float]:
    """Return the type of an option that takes a time in s, more than 0 and at most ``most``."""

    def read(text: str) -> float:
        return _checked(_parse(float, text, "a number"), text, {"above": 0, "high": most})

    return read


def _parse(kind: Callable[[str], Any], text: str, what: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None


def _checked(value: Any, text: str, limits: Mapping[str, float]) -> Any:
    if not math.isfinite(value) or not in_range(value, limits):
        raise argparse.ArgumentTypeError(f"must be {describe_range(limits)}, not {text}")
    return value
