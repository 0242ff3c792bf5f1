"""How a setting is declared: a dataclass field with a help text, its limits and its effect on stage keys."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any


def opt(
    default: Any,
    help: str,
    *,
    choices: tuple = (),
    operational: bool = False,
    low: float | None = None,
    group: str = "",
    path: bool = False,
) -> Any:
    """Declare a setting as a dataclass field.

    Args:
        default: the value where no config or word sets it.
        help: full sentences: what it is, its unit, what a larger value does. `deiii settings` prints them.
        choices: the allowed values (of each item, for a list); empty for any.
        operational: whether it changes only how a result is computed (where, how fast), never the
            result; operational settings never enter a stage key.
        low: the lowest allowed value.
        group: entry-point group (`deiii.data.config.plugins`); names that installed packages add to it are
            allowed beside ``choices``.
        path: whether it names a file or folder (each item, for a list); a leading ``~`` is then the home
            folder.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Section:
    ...     size: int = opt(112, "Height and width of the crop in px.", low=1)
    >>> Section().size
    112
    """
    meta = {"help": help, "choices": choices, "operational": operational, "low": low, "group": group}
    meta["path"] = path
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=meta)
    return field(default=default, metadata=meta)


def result_params(section: Any) -> dict[str, Any]:
    """The settings of a section that change its result, for `deiii.data.cache.recipes.stage_key`."""
    return {f.name: getattr(section, f.name) for f in fields(section) if not f.metadata["operational"]}
