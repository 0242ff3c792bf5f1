"""YAML without aliases, references, repeated keys or values of an unexpected type."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

MAX_YAML_BYTES = 1_000_000


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type or out of range; the message says how to correct it."""


def read_yaml(path: Path) -> dict:
    """Read a config file.

    Raises:
        ConfigError: if it is larger than `MAX_YAML_BYTES`, is not UTF-8, or is not a mapping in safe YAML.
    """
    if path.stat().st_size > MAX_YAML_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_YAML_BYTES} bytes, which no config is")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict:
    """Parse YAML text that holds sections of settings; ``source`` names it in messages.

    Raises:
        ConfigError: if it is not a mapping in safe YAML.
    """
    try:
        tree = _load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{source} must hold sections such as 'faces:', not a {type(tree).__name__}")
    return tree


def parse_override(key: str, value: str) -> dict:
    """One setting as a tree; the value is read as safe YAML, or as text if it is not valid YAML.

    >>> parse_override("faces.size", "96")
    {'faces': {'size': 96}}
    """
    tree: Any
    try:
        tree = _load(value)
    except yaml.YAMLError:
        tree = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return tree


def refuse_references(value: Any, source: str) -> None:
    """Raise ConfigError if a value holds OmegaConf's ``${...}`` or ``???``.

    ``${oc.env:...}`` would copy environment variables into the records of a run; ``???`` is a missing value.
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            refuse_references(item, source)
    elif isinstance(value, str) and ("${" in value or value == "???"):
        raise ConfigError(f"{source}: {value!r} is not supported; write the value itself")


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, repeated keys, dates, base-60 and octal numbers.

    No config needs aliases, and they can expand without bound. A folder named ``2024-01-01`` or
    ``1:30`` stays a name, while YAML 1.1 would read a date and the number 90.
    """

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported in configs")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode)]
        if twice := {k for k in keys if keys.count(k) > 1}:
            raise yaml.YAMLError(f"{', '.join(sorted(twice))!r} is set twice")
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {
    first: [r for r in resolvers if r[0].rsplit(":", 1)[-1] not in ("int", "float", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _load(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
