"""YAML without aliases, references, repeated keys or values of an unexpected type."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

MAX_YAML_BYTES = 1_000_000
NOT_STORED = re.compile("[\0\ud800-\udfff]")  # YAML can name them as escapes; UTF-8 text holds no surrogates


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type or out of range; the message states how to correct it."""


def read_yaml(path: Path, text_keys: Collection[str] = ()) -> dict:
    """Read a config file; ``text_keys`` as in `parse_yaml`.

    Raises:
        ConfigError: if it is larger than `MAX_YAML_BYTES`, is not UTF-8, or is not a mapping in safe YAML.
    """
    if path.stat().st_size > MAX_YAML_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_YAML_BYTES} bytes, the limit for a configuration file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text ({error}); a config is YAML text, saved as UTF-8"
        ) from None
    return parse_yaml(text, str(path), text_keys)


def parse_yaml(text: str, source: str, text_keys: Collection[str] = ()) -> dict:
    """Parse YAML text that holds sections of settings.

    Args:
        text: the YAML.
        source: its name in messages.
        text_keys: dotted names of the settings whose values are text. Their values stay as they are
            written: a folder ``no`` or ``1.10`` is neither a boolean nor a number.

    Raises:
        ConfigError: if it is not a mapping in safe YAML, or if a value that is text is cut by a ``#``.

    >>> parse_yaml("corpus: {root: no}", "a.yaml", ["corpus.root"])
    {'corpus': {'root': 'no'}}
    """
    try:
        tree = _load(text, text_keys)
    except yaml.YAMLError as error:
        hint = ""
        if isinstance(error, yaml.MarkedYAMLError):
            hint = " (text with ': ', a backslash, or a sign such as - or * in front goes in single quotes)"
        words = str(error).replace('in "<unicode string>", ', "in ")
        raise ConfigError(f"{source} is not valid YAML{hint}: {words}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        what = "a list" if isinstance(tree, list) else f"{tree!r:.40}"
        raise ConfigError(f"{source} must hold sections such as 'faces:', not {what}; is it a config file?")
    return tree


def parse_override(
    key: str,
    value: str,
    text_keys: Collection[str] = (),
    list_keys: Collection[str] = (),
    optional_keys: Collection[str] | None = None,
) -> dict:
    """Return one setting as a tree; the value is read as safe YAML, or as text if it is not valid YAML.

    The value of a setting in ``text_keys`` is taken as it is written; ``null`` and nothing mean none for
    those that may be empty, ``optional_keys`` (all of them where not given). For the others ``null`` is a
    name like any other. The items of a list in ``list_keys`` stay text.

    Raises:
        ConfigError: for a value that is not UTF-8, for no value of a setting that may not be empty, and for a
            list or mapping without its closing bracket.

    >>> parse_override("faces.size", "96")
    {'faces': {'size': 96}}
    >>> parse_override("corpus.root", "/data/Set #1", ["corpus.root"])
    {'corpus': {'root': '/data/Set #1'}}
    """
    tree: Any
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{ascii(key)}: the value {ascii(value)} is not UTF-8, in which settings are stored; "
            "name a file or folder with a UTF-8 name, such as a link to it"
        ) from None
    if key in text_keys and optional_keys is not None and key not in optional_keys:
        if not value:
            raise ConfigError(f"'{key}=' has no value; write {key}=VALUE or leave it out")
        tree = value
    elif key in text_keys:
        tree = None if value in ("null", "") else value
    else:
        try:
            tree = _load(value, list_keys, key)
        except yaml.YAMLError:
            close = {"[": "]", "{": "}"}.get(value[:1])
            if close and close not in value:
                raise ConfigError(
                    f"'{key}={value}' lacks the closing {close}; a value with spaces needs quotes in the "
                    f"shell: '{key}={value} ...{close}'"
                ) from None
            tree = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return tree


def refuse_references(value: Any, source: str) -> None:
    """Raise ConfigError if a value holds OmegaConf's ``${...}`` or ``???``, or what cannot be stored.

    ``${oc.env:...}`` would copy environment variables into the records of a run; ``???`` is a missing value.
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            refuse_references(item, source)
    elif isinstance(value, str) and NOT_STORED.search(value):
        raise ConfigError(f"{source}: {value!r} holds a character that no file name or text file can hold")
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


def _load(text: str, text_keys: Collection[str] = (), key: str = "") -> Any:
    """Return the value of YAML text; ``key`` is the setting that the whole text is the value of."""
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _keep_text(node, key, text_keys, text)
        return loader.construct_document(node)
    except (ValueError, KeyError, AttributeError, OverflowError) as error:
        # PyYAML reads values with tags such as !!int, and numbers of thousands of digits, without a check.
        raise yaml.YAMLError(
            f"a value is not of the type of its tag, or too long ({str(error):.80})"
        ) from None
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    finally:
        loader.dispose()


def _keep_text(node: yaml.Node, key: str, text_keys: Collection[str], text: str) -> None:
    """Let the plain values of settings in ``text_keys``, and the items of their lists, stay text."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if key in text_keys:  # a setting that maps text to text
                _keep_text(name, key, text_keys, text)
                _keep_text(value, key, text_keys, text)
            elif isinstance(name, yaml.ScalarNode):
                _keep_text(value, f"{key}.{name.value}".lstrip("."), text_keys, text)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_text(item, key, text_keys, text)
    elif isinstance(node, yaml.ScalarNode) and key in text_keys and node.style is None:
        # YAML takes " #1" for a comment. People write comments as " # text".
        if re.match(r"[ \t]+#[^\s#]", text[node.end_mark.index :]):
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: {key} is cut at ' #'; write the value in quotes")
        if node.tag in _NOT_TEXT:
            node.tag = "tag:yaml.org,2002:str"


_NOT_TEXT = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float"))
