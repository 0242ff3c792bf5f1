"""YAML plus ``key=value`` overrides, merged strictly into the schema.

>>> load_config(overrides=["faces.size=128", "workers=8"]).faces.size
128
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

import deiii
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import (
    ConfigError,
    _nested,
    _PlainLoader,
    _read_yaml,
    _refuse_references,
    _tree,
)

CONFIGS = Path(deiii.__file__).parent / "configs"


def parse_config(text: str, overrides: Iterable[str] = ()) -> Config:
    """A configuration from YAML text that `to_yaml` wrote, then ``section.key=value`` overrides."""
    merged = _merge(OmegaConf.structured(Config), _tree(text, "settings"), "settings")
    return _finished(merged, overrides)


def load_config(paths: str | Path | Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> Config:
    """Defaults, then YAML files (or names of shipped ones) in order, then ``section.key=value`` overrides.

    Raises:
        ConfigError: for an unknown key (naming the nearest), a wrong type or a value that is
            not among a setting's choices.
    """
    merged = OmegaConf.structured(Config)
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        merged = _merge(merged, _read_yaml(find_config(path)), str(path))
    return _finished(merged, overrides)


def _finished(merged: Any, overrides: Iterable[str]) -> Config:
    """Merge the overrides and check everything."""
    for item in overrides:
        key, sep, value = item.partition("=")
        if not sep or not key:
            raise ConfigError(f"an override looks like key=value, not {item!r}")
        merged = _merge(merged, _nested(key, value), f"override {item!r}")
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Config)
    check_choices(config)
    return config


def to_yaml(config: Config) -> str:
    """The resolved settings as YAML that `load_config` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def check_choices(section: Any, prefix: str = "") -> None:
    """Refuse values (and items of lists) outside a setting's choices or below its lowest, NaN, infinities."""
    for f in fields(section):
        value, key = getattr(section, f.name), prefix + f.name
        if is_dataclass(value):
            check_choices(value, key + ".")
            continue
        for item in value if isinstance(value, list) else [value]:
            if f.metadata.get("choices") and item not in f.metadata["choices"]:
                allowed = ", ".join(str(c) for c in f.metadata["choices"])
                raise ConfigError(f"{key} is one of {allowed}; it cannot be {item!r}")
            if isinstance(item, float) and not math.isfinite(item):
                raise ConfigError(f"{key} must be a finite number, not {item}")
            low = f.metadata.get("low")
            if low is not None and item is not None and item < low:
                raise ConfigError(f"{key} must be at least {low:g}, not {item}")


def all_keys(section: type | Any = Config, prefix: str = "") -> list[str]:
    """Every setting's dotted name."""
    names: list[str] = []
    instance = section() if isinstance(section, type) else section
    for f in fields(instance):
        value = getattr(instance, f.name)
        if is_dataclass(value):
            names += all_keys(value, f"{prefix}{f.name}.")
        else:
            names.append(prefix + f.name)
    return names


PLACES = ("corpus.root", "corpus.clips_per_shard")  # where and in what portions, not what


def changed_settings(before: Any, after: Any, prefix: str = "") -> list[str]:
    """Settings that change a result and differ, as ``key: old -> new``; how and where it is made is left out.

    >>> changed_settings(Config(), load_config(overrides=["train.lr=0.5", "workers=3"]))
    ['train.lr: 0.001 -> 0.5']
    """
    found: list[str] = []
    for f in fields(after):
        key, old, new = prefix + f.name, getattr(before, f.name), getattr(after, f.name)
        if is_dataclass(new):
            found += changed_settings(old, new, f"{key}.")
        elif old != new and not f.metadata["operational"] and key not in PLACES:
            found.append(f"{key}: {old} -> {new}")
    return found


def shipped_configs() -> dict[str, Path]:
    """The configs that come with deiii, by bare name.

    >>> shipped_configs()["ravdess"].name
    'ravdess.yaml'
    """
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}


def find_config(name: str | Path) -> Path:
    """The file of a config: a path to a YAML file, or the bare name of one that comes with deiii."""
    path = Path(name)
    if str(name) == path.stem:
        path = shipped_configs().get(path.stem, path)
    if not path.is_file():
        near = difflib.get_close_matches(path.stem, shipped_configs(), n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}? " if near else ""
        names = ", ".join(shipped_configs())
        raise ConfigError(
            f"no such config file: {name}; {hint}give the path of a YAML file, or one of {names}"
        )
    return path


_PlainLoader.yaml_implicit_resolvers = {
    first: [r for r in resolvers if r[0].rsplit(":", 1)[-1] not in ("int", "float", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _merge(base: Any, tree: dict, source: str) -> Any:
    for key in _flat(tree):
        if key not in _KEYS and not any(k.startswith(key + ".") for k in _KEYS):
            raise ConfigError(f"{source}: unknown setting {key!r}{_nearest(key)}")
    _refuse_references(tree, source)
    try:
        return OmegaConf.merge(base, OmegaConf.create(tree))
    except ConfigKeyError as error:
        raise ConfigError(f"{source}: {error.msg}") from None
    except OmegaConfBaseException as error:
        where = f" ({error.full_key})" if getattr(error, "full_key", None) else ""
        raise ConfigError(f"{source}{where}: {str(error).splitlines()[0]}") from None


def _flat(tree: dict, prefix: str = "") -> list[str]:
    names = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        names += _flat(value, name + ".") if isinstance(value, dict) and value else [name]
    return names


def _nearest(key: str) -> str:
    close = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.6)
    if not close:  # the right name in the wrong section
        last = key.rsplit(".", 1)[-1]
        close = [k for k in _KEYS if k.rsplit(".", 1)[-1] == last][:1]
    return f"; did you mean {close[0]!r}?" if close else "; `deiii settings` lists them all"


_KEYS = all_keys()
