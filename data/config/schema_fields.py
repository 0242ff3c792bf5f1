"""How a setting is declared: a dataclass field with a help text, its limits and its effect on stage keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

MOST_SEED = 2**32 - 1  # the largest seed that the generators of both numpy and PyTorch accept


def opt(
    default: Any,
    help: str,
    *,
    choices: tuple = (),
    operational: bool = False,
    low: float | None = None,
    group: str = "",
    path: bool = False,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    nonempty: bool = False,
) -> Any:
    """Declare a setting as a dataclass field.

    Args:
        default: the value where no config or word sets it.
        help: full sentences: what it is, its unit, what a larger value does. `deiii settings` prints them.
        choices: the allowed values (of each item, for a list); empty for any.
        operational: whether it changes only how a result is computed (where, how fast), never the
            result; operational settings never enter a stage key.
        group: entry-point group (`deiii.data.config.plugins`); names that installed packages add to it are
            allowed beside ``choices``.
        path: whether it names a file or folder (each item, for a list); a leading ``~`` is then the home
            folder.
        low, high: the lowest and the highest allowed value (of each item, for a list). Every number has
            both: a value beyond them would fail later, or train nothing.
        above, below: borders that are not allowed themselves, in place of ``low`` or ``high``.
        nonempty: whether a list needs at least one item.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Section:
    ...     size: int = opt(112, "Height and width of the crop in px.", low=1)
    >>> Section().size
    112
    """
    meta = {
        "help": help, "choices": choices, "operational": operational, "group": group, "path": path,
        "low": low, "high": high, "above": above, "below": below, "nonempty": nonempty,
    }  # fmt: skip
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=meta)
    return field(default=default, metadata=meta)


def describe_range(metadata: Mapping[str, Any]) -> str:
    """Return the allowed values of a number in words; empty where there is no limit.

    >>> describe_range({"low": 0, "high": None, "above": None, "below": 1})
    'at least 0 and less than 1'
    """
    words = {"low": "at least", "above": "more than", "high": "at most", "below": "less than"}
    parts = [f"{text} {metadata[key]:.10g}" for key, text in words.items() if metadata.get(key) is not None]
    return " and ".join(parts)


def in_range(value: float, metadata: Mapping[str, Any]) -> bool:
    """Return whether a number lies within the limits that `opt` was given."""
    low, high, above, below = (metadata.get(key) for key in ("low", "high", "above", "below"))
    return not (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    )


def result_params(section: Any) -> dict[str, Any]:
    """Return the settings of a section that change its result, for `deiii.data.cache.recipes.stage_key`."""
    return {f.name: getattr(section, f.name) for f in fields(section) if not f.metadata["operational"]}
