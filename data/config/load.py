"""Settings from YAML files and ``key=value`` overrides, merged strictly into the schema.

>>> load_config(overrides=["faces.size=128", "workers=8"]).faces.size
128
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import lru_cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

import deiii
from deiii.data.config.checks.together import check_together
from deiii.data.config.checks.types import MOST_SHOWN, check_mapping, fits, refuse_value, wrong_type
from deiii.data.config.keys import all_keys, expand_home, flat_keys, mapping_keys, refuse_places, text_keys
from deiii.data.config.plugins import STAGES, installed, load_plugin
from deiii.data.config.schema import Config
from deiii.data.config.schema_fields import describe_range, in_range
from deiii.data.config.streams import expand_lists
from deiii.data.config.strict_yaml import (
    ConfigError,
    parse_override,
    parse_yaml,
    read_yaml,
    refuse_references,
)
from deiii.data.config.suggest import TABLES, no_config, no_settings, suggest_setting
from deiii.data.tools.os_errors import is_file

CONFIGS = Path(deiii.__file__).parent / "configs"
# Where clips lie and how they are grouped; clips, labels and stage keys are compared by their digests.
PLACES = ("corpus.root", "corpus.table", "corpus.clips_per_shard", "mix")

# Settings that were added later, with the value that is in effect for older runs and exports.
BEFORE: dict[str, Any] = {"loader.flow_per_second": False}
HINTS = {
    "train.warmup": "; it is a share of all steps, not their number",
    "train.modality_dropout": "; it is a probability",
    "model.dropout": "; with 1 nothing would be left",
    "train.label_smoothing": "; with 1 all classes would be alike",
    "loader.stretch": "; it is a share, e.g. 0.15",
}


def load_config(paths: str | Path | Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> Config:
    """Return the defaults, changed by YAML files in order, then by ``section.key=value`` overrides in order.

    Args:
        paths: YAML files, or bare names of configs that come with deiii.
        overrides: ``section.key=value``; the value is read as YAML.

    Raises:
        ConfigError: for a file that does not exist, an unknown key (the message names the nearest), a wrong
            type, a value that is not allowed, and settings that do not fit each other.
    """
    merged = _defaults()
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        tree = read_yaml(find_config(path), _text_keys() | _list_keys())
        if why := no_settings(str(path), tree, [f.name for f in fields(config_class())]):
            raise ConfigError(why)
        merged = _merge(merged, tree, str(path))
    config = _finish(merged, overrides)
    refuse_places(config)
    return config


def named_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings in a YAML file: their values, as YAML reads them, by dotted name."""
    tree = read_yaml(Path(path), _text_keys() | _list_keys())
    return {key: reduce(getitem, key.split("."), tree) for key in _flat(tree)}


def parse_config(text: str, overrides: Iterable[str] = ()) -> Config:
    """Return the configuration in YAML text that `to_yaml` wrote, changed by ``section.key=value`` overrides.

    Raises:
        ConfigError: as `load_config`.
    """
    tree = parse_yaml(text, "settings", _text_keys() | _list_keys())
    merged = _merge(_defaults(), tree, "settings")
    return _finish(merged, overrides)


@lru_cache(maxsize=1)
def config_class() -> type[Config]:
    """Return `Config`, with a section of settings for each stage that an installed package adds.

    Raises:
        ConfigError: for a stage whose name is that of a setting.
        PluginError: for a stage that cannot be imported.
    """
    sections = []
    for name in installed(STAGES):
        if name in {f.name for f in fields(Config)}:
            raise ConfigError(f"a package adds a stage {name!r}, which is a setting of deiii; rename that")
        settings = load_plugin(STAGES, name).settings
        sections.append((name, settings, field(default_factory=settings)))
    return make_dataclass("Config", sections, bases=(Config,)) if sections else Config


def parse_stored(text: str) -> Config:
    """Return the configuration that a run or an export recorded, from YAML or JSON text.

    A setting that an older version did not have gets the value with which the code does what that version did
    (`BEFORE`), so that an old network predicts as before.

    Raises:
        ConfigError: as `load_config`.

    >>> parse_stored("loader: {steps: 4}").loader.flow_per_second, Config().loader.flow_per_second
    (False, True)
    """
    return stored_config(parse_yaml(text, "settings"), "settings")


def load_stored(path: str | Path) -> Config:
    """Return the configuration in a run's ``config.yaml``; see `parse_stored`.

    Raises:
        ConfigError: if there is no such file, or as `load_config`.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no such config file: {path}; is its folder a run that `deiii train` made?")
    return stored_config(read_yaml(Path(path)), str(path))


def stored_config(tree: dict, source: str) -> Config:
    """Return the configuration of a stored tree, which is changed; ``source`` is its name in messages."""
    for key, value in BEFORE.items():
        section, name = key.split(".")
        if isinstance(tree.get(section), dict):
            tree[section].setdefault(name, value)
        else:
            tree.setdefault(section, {name: value})
    return _finish(_merge(_defaults(), tree, source), ())


def to_yaml(config: Config) -> str:
    """Return all settings as YAML that `load_config` and `parse_config` read back.

    Settings of a package's stage are left out where no configured stage needs them, so that installing a
    package does not change the settings of runs that do not use it.
    """
    tree = OmegaConf.structured(config)
    unused = set(installed(STAGES)) - _needed_stages(config)
    if not unused:
        return OmegaConf.to_yaml(tree)
    plain = OmegaConf.to_container(tree)
    if not isinstance(plain, dict):
        raise TypeError(f"settings became a {type(plain).__name__}, not a dictionary")
    return OmegaConf.to_yaml(OmegaConf.create({k: v for k, v in plain.items() if k not in unused}))


def _needed_stages(config: Config) -> set[str]:
    """Return the configured stages and, of those that packages add, the ones upstream of them."""
    needed: set[str] = set()
    for name in config.stages:
        at: str | None = name
        while at is not None and at not in needed:
            needed.add(at)
            at = load_plugin(STAGES, at).upstream if at in installed(STAGES) else None
    return needed


def check_choices(section: Any, prefix: str = "") -> None:
    """Check a section's values, and the items of its lists, against their limits.

    Raises:
        ConfigError: for a value outside the setting's choices or limits, NaN and infinities, and an empty
            list where one item is needed.
    """
    for f in fields(section):
        value = getattr(section, f.name)
        key = prefix + f.name
        if is_dataclass(value):
            check_choices(value, key + ".")
            continue
        choices = f.metadata.get("choices")
        group = f.metadata.get("group")
        if choices and group:
            choices = (*choices, *installed(group))
        if f.metadata.get("nonempty") and not value:
            raise ConfigError(f"{key} needs at least one item")
        for item in value if isinstance(value, list) else [value]:
            if isinstance(value, list) and isinstance(item, (list, dict)):
                raise ConfigError(f"{key} is a plain list; it cannot hold {item!r}")
            if choices and item not in choices:
                allowed = ", ".join(str(c) for c in choices)
                hint = "; what another package adds needs that package installed" if group else ""
                raise ConfigError(f"{key} is one of {allowed}; it cannot be {item!r}{hint}")
            if isinstance(item, float) and not math.isfinite(item):
                raise ConfigError(f"{key} must be a finite number, not {item}")
            if isinstance(item, (int, float)) and not in_range(item, f.metadata):
                hint = HINTS.get(key, "")
                raise ConfigError(f"{key} must be {describe_range(f.metadata)}, not {item}{hint}")


def result_settings(section: Any, prefix: str = "") -> dict[str, Any]:
    """Return the settings that can change a result, by dotted name: not operational, not in `PLACES`.

    >>> "train.lr" in result_settings(Config()), "workers" in result_settings(Config())
    (True, False)
    """
    found: dict[str, Any] = {}
    for f in fields(section):
        key = prefix + f.name
        value = getattr(section, f.name)
        if is_dataclass(value):
            found |= result_settings(value, f"{key}.")
        elif not f.metadata["operational"] and key not in PLACES:
            found[key] = value
    return found


def changed_settings(before: Config, after: Config, but: Sequence[str] = ()) -> list[str]:
    """Return the settings that differ and change a result, as ``key: old -> new``.

    Args:
        before, after: the settings.
        but: sections that are left out, such as that of a stage whose key is compared.

    >>> changed_settings(Config(), load_config(overrides=["train.lr=0.5", "workers=3"]))
    ['train.lr: 0.001 -> 0.5']
    """
    old = result_settings(before)
    return [
        f"{key}: {old.get(key)} -> {value}"
        for key, value in result_settings(after).items()
        if old.get(key) != value and key.split(".")[0] not in but
    ]


def shipped_configs() -> dict[str, Path]:
    """Return the configs that come with deiii, by bare name.

    >>> shipped_configs()["ravdess"].name
    'ravdess.yaml'
    """
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}


def find_config(name: str | Path) -> Path:
    """Return the file of a config, given its path or, for one that comes with deiii, its bare name.

    Raises:
        ConfigError: if there is no such file; the message names the nearest and all bare names.
    """
    path = Path(name)
    if str(name) == path.stem:
        path = shipped_configs().get(path.stem, path)
    if not is_file(path) or path.suffix.lower() in TABLES:
        raise ConfigError(no_config(str(name), list(shipped_configs()), _keys()))
    return path


def _finish(merged: Any, overrides: Iterable[str]) -> Config:
    """Merge the overrides and check all values."""
    named: list[str] = []
    for item in [overrides] if isinstance(overrides, str) else overrides:
        key, sep, value = item.partition("=")
        if not sep or not key:
            raise ConfigError(f"an override has the form key=value, not {item!r}")
        tree = parse_override(key, value, _text_keys(), _list_keys(), _optional_keys())
        merged = _merge(merged, tree, f"override {item[:MOST_SHOWN]!r}")
        named += _flat(tree)
    config = OmegaConf.to_object(merged)
    if not isinstance(config, Config):
        raise TypeError(f"merged settings became a {type(config).__name__}, not a Config")
    check_choices(config)
    check_together(config, named)
    expand_home(config)
    return config


def _defaults() -> Any:
    """Return a new tree of the defaults with the settings' types."""
    return copy.deepcopy(_typed(config_class()))  # type: ignore[arg-type]  # classes are hashable


@lru_cache(maxsize=1)
def _typed(settings: type[Config]) -> Any:
    return OmegaConf.structured(settings)


def _merge(base: Any, tree: dict, source: str) -> Any:
    for key in _flat(tree):
        if key not in _keys() and not any(k.startswith(key + ".") for k in _keys()):
            raise ConfigError(f"{source}: unknown setting {key!r}{_hint(key)}")
        refuse_value(config_class(), key, tree, source)
    for key in _mapping_keys():
        check_mapping(key, tree, source)
    refuse_references(tree, source)
    tree = expand_lists(tree, list(base.model.extra), source)
    try:
        # It changes `base`, which only this call uses; a merge without that copies all settings each time.
        return OmegaConf.unsafe_merge(base, OmegaConf.create(tree))
    except ConfigKeyError as error:
        raise ConfigError(f"{source}: {error.msg}") from None
    except (OmegaConfBaseException, OverflowError, TypeError) as error:
        for key in _flat(tree):
            if not fits(base, key, tree):
                raise ConfigError(f"{source}: {wrong_type(config_class(), key, tree)}") from None
        raise ConfigError(f"{source}: {str(error).splitlines()[0]}") from None


def _flat(tree: dict) -> list[str]:
    return flat_keys(tree, _mapping_keys())


def _hint(key: str) -> str:
    """Return the end of a message on an unknown key: what may be meant, and where to look."""
    near = suggest_setting(key, _keys())
    section = key.split(".", 1)[0]
    if not near and "." in key and section not in {f.name for f in fields(config_class())}:
        return f"; if another package adds the stage {section!r}, install it in this environment"
    return near or "; `deiii settings` lists all settings"


@lru_cache(maxsize=1)
def _keys() -> list[str]:
    return all_keys(config_class())


@lru_cache(maxsize=1)
def _text_keys() -> frozenset[str]:
    return frozenset(text_keys(config_class()))


@lru_cache(maxsize=1)
def _optional_keys() -> frozenset[str]:
    return frozenset(text_keys(config_class(), optional=True))


@lru_cache(maxsize=1)
def _list_keys() -> frozenset[str]:
    return frozenset(text_keys(config_class(), lists=True)) | _mapping_keys()


@lru_cache(maxsize=1)
def _mapping_keys() -> frozenset[str]:
    return frozenset(mapping_keys(config_class()))
