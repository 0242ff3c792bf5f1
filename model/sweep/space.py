"""The settings that a sweep tries: ``KEY=[a,b]`` tries each value, ``KEY=log(a,b)`` draws from a range.

>>> space, rest = split_space(["tiny", "train.lr=log(1e-4,1e-2)", "model.width=[32,64]", "train.epochs=5"])
>>> [str(axis) for axis in space], rest
(['train.lr=log(0.0001,0.01)', 'model.width=[32,64]'], ['tiny', 'train.epochs=5'])
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

from deiii.data.config.checks.effects import TRAINING, setting_text, without_effect_in_any
from deiii.data.config.load import config_class
from deiii.data.config.schema import Config
from deiii.data.config.schema_fields import describe_range, in_range
from deiii.data.config.strict_yaml import ConfigError, parse_override, parse_yaml
from deiii.data.config.suggest import suggest_setting
from deiii.data.config.words import is_config, is_override, read_settings, requested_keys

KINDS = ("log", "uniform", "int")
MAX_CHECKED_COMBINATIONS = 100  # largest number of combinations that are checked for settings without effect
NOT_SWEPT = ("train.run", "train.seed", "train.log", "cache", "scheduler", "split.fold", "split.seed")
_RANGE = re.compile(rf"({'|'.join(KINDS)})\(([^,()]+),([^,()]+)\)")
_CALL = re.compile(r"([a-z_]+)\(.*\)")


@dataclass(frozen=True)
class Axis:
    """One setting of a sweep, with the values or the range to try.

    Attributes:
        key: dotted name of the setting.
        values: values to try, as YAML reads them; empty for a range.
        kind: ``log`` (uniform in the logarithm), ``uniform`` or ``int``; empty for values.
        low, high: ends of the range, both included.
        whole: whether the range is of whole numbers.
    """

    key: str
    values: tuple[Any, ...] = ()
    kind: str = ""
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    def __str__(self) -> str:
        if self.kind:
            return f"{self.key}={self.kind}({self.low:g},{self.high:g})"
        return f"{self.key}=[{','.join(text(value) for value in self.values)}]"


def split_space(words: Sequence[str]) -> tuple[list[Axis], list[str]]:
    """Return the settings to vary, and the words that are ordinary settings.

    A list holds the values to try. For a setting that is itself a list, such as model.channels, the values to
    try are a list of lists.

    Raises:
        ConfigError: a key that is unknown, ambiguous or not to be varied, one that is named twice, or a
            range that the setting does not allow.
    """
    axes: list[Axis] = []
    rest: list[str] = []
    for word in words:
        if not is_override(word) or is_config(word):
            rest.append(word)
            continue
        key, _, value = word.partition("=")
        axis = _axis(key, value.strip())
        if axis is None:
            rest.append(word)
        elif axis.key in {other.key for other in axes}:
            raise ConfigError(f"{axis.key} is varied twice; name all its values in one list")
        else:
            axes.append(axis)
    return axes, rest


def require_axes(axes: Sequence[Axis]) -> None:
    """Raise ConfigError if no setting is varied."""
    if not axes:
        raise ConfigError(
            "nothing is varied; name what to try, such as train.lr=[1e-3,2e-3] or 'train.lr=log(1e-4,1e-2)'"
        )


def grid(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of the values of axes without ranges; the last axis changes fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield {axis.key: value for axis, value in zip(axes, values, strict=True)}


def notes_without_effect(axes: Sequence[Axis], words: Sequence[str]) -> list[str]:
    """Return one line for each setting that has no effect in any run of a sweep, varied or not.

    Of a range, only the two ends are checked, because no number between them decides whether another setting
    has an effect. With more than `MAX_CHECKED_COMBINATIONS` combinations nothing is checked, so that a large
    sweep begins at once.

    Raises:
        ConfigError: as `deiii.data.config.words.read_settings`.

    >>> notes_without_effect(split_space(["train.w_match=[0.1,1]"])[0], ["tiny"])
    ['train.w_match=[0.1,1] has no effect here; it is for model.time_match=true']
    """
    base = read_settings(words)
    written = {key: setting_text(base, key) for key in requested_keys(base, words)}
    ends = [axis if axis.values else replace(axis, values=_ends(axis)) for axis in axes]
    if math.prod(len(axis.values) for axis in ends) > MAX_CHECKED_COMBINATIONS:
        return []
    written |= {axis.key: str(axis).partition("=")[2] for axis in axes}
    return without_effect_in_any(_combined(words, ends), written, TRAINING)


def _ends(axis: Axis) -> tuple[float, float]:
    return (int(axis.low), int(axis.high)) if axis.whole else (axis.low, axis.high)


def _combined(words: Sequence[str], axes: Sequence[Axis]) -> Iterator[Config]:
    """Yield the settings of all combinations that are allowed."""
    for settings in grid(axes):
        # Combinations that are not allowed are refused, or recorded as failed, by the sweep itself.
        with contextlib.suppress(ConfigError):
            yield read_settings([*words, *(f"{key}={text(value)}" for key, value in settings.items())])


def text(value: Any) -> str:
    """Return a value as it is typed after ``KEY=``.

    >>> text(True), text([16, 32]), text(None), text(0.001), text(["a", "b, c"])
    ('true', '[16,32]', 'null', '0.001', '[a,"b, c"]')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(quoted(item, True) if isinstance(item, str) else text(item) for item in value)}]"
    return "null" if value is None else repr(value) if isinstance(value, float) else str(value)


@lru_cache(maxsize=1024)
def quoted(value: str, in_list: bool = False) -> str:
    """Return text as YAML reads it back, in quotes only where it would be something else without them.

    Args:
        value: value of a setting that is text.
        in_list: whether it is an item of a list, where commas and brackets need quotes, too.

    >>> quoted("runs/a"), quoted("a: b")
    ('runs/a', '"a: b"')
    """
    line = f"at: [{value}]" if in_list else f"at: {value}"
    with contextlib.suppress(ConfigError):
        if parse_yaml(line, "", ("at",)) == {"at": [value] if in_list else value}:
            return value
    return json.dumps(value, ensure_ascii=False)


def _axis(key: str, value: str) -> Axis | None:
    """Return the axis that a word describes; ``None`` where it is an ordinary setting."""
    call, listed = _CALL.fullmatch(value), value.startswith("[")
    if not call and not listed:
        return None
    settings = _settings()
    name = _full_name(key, settings)
    if name is None:
        return None  # `load_config` reports the error
    kind, metadata = settings[name]
    if listed:
        values: Any = parse_override(
            name, value, (), (name,) if kind is None or isinstance(kind, str) else ()
        )
        for part in name.split("."):
            values = values[part]
        if not isinstance(values, list):
            return None
        if not _is_choice(values, kind):
            return None
        axis = Axis(name, tuple(values))
    else:
        axis = _range(name, value, kind, metadata)
    if name in NOT_SWEPT or metadata.get("operational"):
        raise ConfigError(f"{name} changes no result, or is set by the sweep itself; it cannot be varied")
    if len({_compared(item, kind) for item in axis.values}) != len(axis.values):
        raise ConfigError(f"{name} names a value twice: {value}")
    return axis


def _compared(value: Any, kind: Any) -> Any:
    """Return what equal values have in common: 1, 1.0 and the text 1e0 are one number."""
    if isinstance(kind, (int, float)) and not isinstance(kind, bool):
        with contextlib.suppress(TypeError, ValueError):
            return float(value)
    return text(value)


def _is_choice(values: list[Any], kind: Any) -> bool:
    """Return whether a list holds values to try, rather than being the value of a setting."""
    if not values:
        return False
    if isinstance(kind, list):
        return all(isinstance(item, list) for item in values)
    if isinstance(kind, bool):  # model.video=[frames,flow] is one value
        return all(isinstance(item, bool) for item in values)
    return not isinstance(kind, dict)


def _range(name: str, value: str, kind: Any, metadata: Any) -> Axis:
    found = _RANGE.fullmatch(value.replace(" ", ""))
    if found is None:
        raise ConfigError(f"{name}={value}: a range is log(a,b), uniform(a,b) or int(a,b)")
    try:
        low, high = float(found[2]), float(found[3])
    except ValueError:
        raise ConfigError(f"{name}={value}: the ends of a range are two numbers") from None
    whole = isinstance(kind, int) and not isinstance(kind, bool)
    if not (whole or isinstance(kind, float)):
        raise ConfigError(f"{name} is not a number; name the values to try, {name}=[a,b]")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{name}={value}: the first end has to be less than the second")
    if found[1] == "log" and low <= 0:
        raise ConfigError(f"{name}={value}: a logarithmic range begins above 0")
    if (found[1] == "int" or whole) and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{name}={value}: the ends of a range of whole numbers are whole numbers")
    if found[1] == "int" and not whole:
        raise ConfigError(f"{name} takes any number; use uniform(a,b) or log(a,b)")
    for end in (low, high):
        if not in_range(end, metadata):
            raise ConfigError(f"{name}={value}: {name} must be {describe_range(metadata)}")
    return Axis(name, (), found[1], low, high, whole)


def _full_name(key: str, settings: dict[str, tuple[Any, Any]]) -> str | None:
    """Return the dotted name of a setting; its last part is enough where it is the only one (``lr``)."""
    if key in settings:
        return key
    same = [name for name in settings if name.rsplit(".", 1)[-1] == key]
    trained = [name for name in same if name.split(".")[0] in ("train", "model", "loader")]
    for found in (same, trained):
        if len(found) == 1:
            return found[0]
    if same:
        raise ConfigError(f"{key} may be {', '.join(same)}; write the whole name")
    raise ConfigError(f"unknown setting {key!r}{suggest_setting(key, settings)}")


def _settings(section: Any = None, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return default and metadata of every setting by dotted name; an optional number has the default 0.0."""
    section = config_class()() if section is None else section
    found: dict[str, tuple[Any, Any]] = {}
    for f in fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            found |= _settings(value, f"{prefix}{f.name}.")
        else:
            optional_number = value is None and "float" in str(f.type)
            found[prefix + f.name] = (0.0 if optional_number else value), f.metadata
    return found
