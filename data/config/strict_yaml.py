"""YAML without aliases, references, repeated keys or surprising types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_YAML_BYTES = 1_000_000


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type, or out of range; the message names the cure."""


def _nested(key: str, value: str) -> dict:
    """``a.b`` and ``"1"`` as ``{"a": {"b": 1}}``; the value is read as safe YAML."""
    try:
        parsed = _safe_yaml(value)
    except yaml.YAMLError:
        parsed = value
    tree: Any = parsed
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return tree


def _read_yaml(path: Path) -> dict:
    if path.stat().st_size > MAX_YAML_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_YAML_BYTES} bytes, which no config is")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from None
    return _tree(text, str(path))


def _tree(text: str, source: str) -> dict:
    try:
        tree = _safe_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{source} must hold sections such as 'faces:', not a {type(tree).__name__}")
    return tree


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML that means what it shows.

    No aliases (no config needs them, and they can expand without bound), no key twice, and none of
    YAML 1.1's dates, base-60 and octal numbers: a folder named ``2024-01-01`` or ``1:30`` is a name.
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


def _safe_yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def _refuse_references(value: Any, source: str) -> None:
    """OmegaConf's ``${...}`` could carry the environment into a run's records, ``???`` is a hole."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _refuse_references(item, source)
    elif isinstance(value, str) and ("${" in value or value == "???"):
        raise ConfigError(f"{source}: {value!r} is not supported; write the value itself")
