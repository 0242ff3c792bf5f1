"""State which type of value a setting has, where a value of another type was given.

>>> from deiii.data.config.schema import Config
>>> wrong_type(Config, "train.epochs", {"train": {"epochs": "ten"}})
"train.epochs must be a whole number, such as 30, not 'ten'"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deiii.data.config.schema_fields import describe_range
from deiii.data.config.strict_yaml import ConfigError

KINDS = {"int": "whole number", "float": "number", "bool": "switch", "str": "text"}
INPUTS = {"model.video": "frames,flow", "model.audio": "logmel,speech"}  # see `deiii.data.config.streams`
MOST_SHOWN = 60  # characters of a value


def wrong_type(section: type, place: str, tree: Any) -> str:
    """Return the message for a value that a setting cannot take.

    Args:
        section: dataclass of all settings.
        place: the dotted name of the setting, or of a section; items of a list may follow in brackets.
        tree: what was given.

    >>> from deiii.data.config.schema import Config
    >>> wrong_type(Config, "train", {"train": 3})
    'train is a section of settings, such as train.epochs=VALUE; it cannot be 3'
    """
    key = re.sub(r"\[.*", "", place)
    value = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else value
    shown = _shown(value)
    at: Any = section()
    kind = ""
    metadata: Mapping[str, Any] = {}
    for part in key.split("."):
        found = {f.name: f for f in fields(at)} if is_dataclass(at) else {}
        if part not in found:
            return f"{key} cannot be {shown}"
        kind, metadata = _name(found[part].type), found[part].metadata
        at = getattr(at, part)
    if is_dataclass(at):
        first = fields(at)[0].name
        return f"{key} is a section of settings, such as {key}.{first}=VALUE; it cannot be {shown}"
    expected = _expected(kind, at, metadata)
    if key in INPUTS:
        expected += f", or a list of inputs, such as [{INPUTS[key]}]"
    return f"{key} must be {expected}, not {shown}"


def refuse_value(section: type, key: str, tree: Any, source: str) -> None:
    """Refuse a value in place of a whole section, and a number other than 0 and 1 for a switch.

    Args:
        section: dataclass of all settings.
        key: the dotted name of a setting or a section.
        tree: what was given.
        source: source of the tree, for messages.

    Raises:
        ConfigError: the message states what the setting takes.

    >>> from deiii.data.config.schema import Config
    >>> refuse_value(Config, "model.flow", {"model": {"flow": True}}, "a.yaml")
    """
    value, at = tree, section()
    for part in key.split("."):
        if part not in value:  # a key with a point, which is unknown
            return
        value, at = value[part], getattr(at, part, None)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (is_dataclass(at) and value != {}) or (isinstance(at, bool) and is_number and value not in (0, 1)):
        raise ConfigError(f"{source}: {wrong_type(section, key, tree)}")


def _name(kind: Any) -> str:
    """Return the type of a field as text; modules with and without postponed annotations declare settings."""
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))


def _expected(kind: str, default: Any, metadata: Mapping[str, Any]) -> str:
    """Return what a setting takes, in words, with its default as an example."""
    optional = "None" in kind
    kind = kind.replace(" | None", "")
    limits = describe_range(metadata)
    if kind.startswith("list["):
        items = KINDS.get(kind[5:-1], "value") + "s"
        items = {"texts": "names"}.get(items, items)
        some = default or metadata["choices"][:2] or (("a", "b") if items == "names" else (1, 2))
        example = ",".join(map(str, some))
        words = f"a list of {items}, such as [{example}]"
    elif kind == "bool":
        words = "true or false"
    elif kind == "str":
        words = "text"
    else:
        words = f"a {KINDS.get(kind, 'value')}"
        words += f", such as {default}" if default is not None else f" {limits}" if limits else ""
    return words + (", or null for none" if optional else "")


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."


def check_mapping(key: str, tree: dict, source: str) -> None:
    """Raise ConfigError where a tree has another value for a setting that maps text to text."""
    value: Any = tree
    for part in key.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}
    if isinstance(value, dict) and all(v is None or isinstance(v, str) for v in value.values()):
        return
    raise ConfigError(
        f"{source}: {key} maps names to names, e.g. {{calm: neutral, happy: null}}, not {value!r}"
    )


def fits(base: Any, key: str, tree: dict) -> bool:
    """Return whether the value of one key in a tree can be merged into the settings ``base``."""
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    for part in reversed(key.split(".")):
        value = {part: value}
    try:
        OmegaConf.merge(base, OmegaConf.create(value))
    except (OmegaConfBaseException, OverflowError, TypeError):
        return False
    return True
