"""The names of settings by their kind, and paths of the home folder."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.processes.home_folder import has_home

# Addresses (s3://a, file:///a) and names that a shell expands ($HOME/a, $(pwd)/a, ~anna/a, %TEMP%), and
# ~/a of a user who has no home folder.
NO_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|\$[\w(]|~[^/]*/|~$|%\w+%")


def all_keys(section: type | Any = Config, prefix: str = "") -> list[str]:
    """Return the dotted name of every setting.

    >>> all_keys()[0]
    'corpus.name'
    """
    names: list[str] = []
    instance = section() if isinstance(section, type) else section
    for f in fields(instance):
        value = getattr(instance, f.name)
        if is_dataclass(value):
            names += all_keys(value, f"{prefix}{f.name}.")
        else:
            names.append(prefix + f.name)
    return names


def sections(without: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the sections of the settings, and the settings without a section.

    Args:
        without: sections to leave out.

    >>> "train" in sections(), "train" in sections(without=["train"])
    (True, False)
    """
    found = dict.fromkeys(key.partition(".")[0] for key in all_keys())
    return tuple(section for section in found if section not in without)


def flat_keys(tree: Mapping[str, Any], mappings: Collection[str], prefix: str = "") -> list[str]:
    """Return the dotted names of all leaves of a tree of settings; an empty section counts as a leaf.

    Args:
        tree: settings by section.
        mappings: names of the settings that map text to text, which are leaves.
        prefix: prefix of the names.

    >>> flat_keys({"train": {"lr": 0.1}, "corpus": {"classes": {"calm": "neutral"}}}, ["corpus.classes"])
    ['train.lr', 'corpus.classes']
    """
    names: list[str] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        section = isinstance(value, dict) and value and name not in mappings
        names += flat_keys(value, mappings, name + ".") if section else [name]
    return names


def text_keys(
    section: type | Any = Config, prefix: str = "", lists: bool = False, optional: bool = False
) -> list[str]:
    """Return the dotted names of the settings whose values are text; with ``lists``, lists of text.

    With ``optional``, those that may have no value.

    >>> "corpus.root" in text_keys(), "faces.size" in text_keys(), "mix" in text_keys(lists=True)
    (True, False, True)
    """
    kinds: tuple[object, ...] = ("str", "str | None", str)
    if lists or optional:
        kinds = ("list[str]", list[str]) if lists else ("str | None",)
    names: list[str] = []
    instance = section() if isinstance(section, type) else section
    for f in fields(instance):
        value = getattr(instance, f.name)
        if is_dataclass(value):
            names += text_keys(value, f"{prefix}{f.name}.", lists, optional)
        elif f.type in kinds:
            names.append(prefix + f.name)
    return names


def mapping_keys(section: type | Any = Config, prefix: str = "") -> list[str]:
    """Return the dotted names of the settings that map text to text.

    >>> mapping_keys()
    ['corpus.codes', 'corpus.classes']
    """
    names: list[str] = []
    instance = section() if isinstance(section, type) else section
    for f in fields(instance):
        value = getattr(instance, f.name)
        if is_dataclass(value):
            names += mapping_keys(value, f"{prefix}{f.name}.")
        elif isinstance(value, dict):
            names.append(prefix + f.name)
    return names


def expand_home(section: Any) -> None:
    """Put the home folder in place of a leading ``~`` in every setting that names a file or folder."""
    for f in fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            expand_home(value)
        elif f.metadata.get("path") and isinstance(value, str):
            setattr(section, f.name, _at_home(value))
        elif f.metadata.get("path") and isinstance(value, list):
            setattr(section, f.name, [_at_home(item) for item in value])


def refuse_places(section: Any, prefix: str = "") -> None:
    """Refuse addresses, and names that a shell would expand, where a setting names a file or folder.

    A folder of that name would be made in the current folder. One that exists is used.

    Raises:
        ConfigError: names the setting and what to write.
    """
    for f in fields(section):
        value, key = getattr(section, f.name), f"{prefix}{f.name}"
        if is_dataclass(value):
            refuse_places(value, f"{key}.")
        for path in value if isinstance(value, list) else [value]:
            if not f.metadata.get("path") or not isinstance(path, str) or not NO_PATH.match(path):
                continue
            if not os.path.lexists(path):
                what = "is an address" if "://" in path else "is not expanded here"
                remedy = "name a file or folder of this machine by its path"
                raise ConfigError(f"{key}: {path} {what}; {remedy}")


def _at_home(path: str) -> str:
    """Return the path with the home folder for a leading ``~``; nothing else is expanded (no ``~user``)."""
    at_home = path == "~" or path.startswith("~/")
    return os.path.expanduser(path) if at_home and has_home() else path
