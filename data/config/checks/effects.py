"""Find settings that the user gave and that have no effect together with the other settings.

>>> from deiii.data.config.schema import Config
>>> without_effect(Config(), ["faces.min_score"])
['faces.min_score=0.6 has no effect here; it is for faces.detector=yunet']
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from deiii.data.config.checks.rules import ENCODERS, RULES
from deiii.data.config.schema import Config
from deiii.data.config.schema_preprocess import USUAL_TABLE

PREPROCESSING = ("corpus", "cluster", "workers", "gpus", "dashboard", "faces", "flow", "logmel", *ENCODERS)
TRAINING = ("corpus", "faces", "flow", "logmel", *ENCODERS, "loader", "model", "train")


def without_effect(config: Config, named: Iterable[str], sections: Iterable[str] = ()) -> list[str]:
    """Return one line for each setting that the user gave and that has no effect.

    Args:
        config: all settings.
        named: the dotted names of the settings that the user gave.
        sections: the sections and settings that the command reads, such as `TRAINING`; all where empty.

    A setting whose value switches something off (0, false, nothing) is left out: it is off.

    >>> from deiii.data.config.schema import ModelConfig
    >>> without_effect(Config(model=ModelConfig(join="pooled")), ["model.join"])
    ['model.join=pooled has no effect here; it is for the stages in model.extra, which is empty']
    """
    return [
        f"{key}={setting_text(config, key)} has no effect here; it is for {remedy}"
        for key in dict.fromkeys(named)
        if not is_off(config, key) and (remedy := missing_for(config, key, sections))
    ]


def without_effect_in_any(
    configs: Iterable[Config], written: Mapping[str, str], sections: Iterable[str] = ()
) -> list[str]:
    """Return one line for each setting that has an effect under none of several configurations.

    Args:
        configs: configurations of the runs of a sweep.
        written: values as they were typed, keyed by the dotted names of the settings that the user gave.
        sections: argument of `without_effect`.

    A setting that is off everywhere is left out.

    >>> without_effect_in_any([Config()], {"train.w_match": "[0.1,1]"})
    ['train.w_match=[0.1,1] has no effect here; it is for model.time_match=true']
    """
    left: dict[str, str] = dict.fromkeys(written, "")
    for config in configs:
        for key in list(left):
            if not is_off(config, key):
                left[key] = missing_for(config, key, sections)
                if not left[key]:
                    del left[key]
        if not left:  # most sweeps end here after one configuration
            break
    return [
        f"{key}={written[key]} has no effect here; it is for {remedy}"
        for key, remedy in left.items()
        if remedy
    ]


def is_off(config: Config, key: str) -> bool:
    """Return whether a setting's value switches something off, or the key names no single setting."""
    value = _value(config, key)
    return not value or is_dataclass(value)


def missing_for(config: Config, key: str, sections: Iterable[str] = ()) -> str:
    """Return what a setting needs for an effect and lacks, in words; empty where it may have an effect.

    >>> missing_for(Config(), "faces.min_score")
    'faces.detector=yunet'
    """
    wanted = tuple(sections)
    if wanted and key.partition(".")[0] not in wanted:
        return ""
    return next((rule.remedy for rule in RULES if rule.names(key) and not rule.counts(config)), "")


def changed_keys(config: Config, default: Config, keys: Iterable[str]) -> list[str]:
    """Return those of the settings whose values are not the default ones."""
    return [key for key in keys if _value(config, key) != _value(default, key)]


def changed_corpus(config: Config, before: Config) -> list[str]:
    """Return the words that turn settings into those with another corpus and cache.

    Settings without an effect on that corpus are left out.

    Args:
        config: settings with the other corpus.
        before: settings with which a command begins.

    >>> from deiii.data.config.schema import CorpusConfig
    >>> changed_corpus(Config(corpus=CorpusConfig(name="table", root="/clips", title="My clips")), Config())
    ['corpus.name=table', 'corpus.root=/clips']
    """
    words = [] if config.cache == before.cache else [f"cache={config.cache}"]
    for f in fields(config.corpus):
        key, value = f"corpus.{f.name}", getattr(config.corpus, f.name)
        old = getattr(before.corpus, f.name)
        usual = key == "corpus.table" and (old or USUAL_TABLE) == value
        if is_dataclass(value) or value is None or value == old or usual or missing_for(config, key):
            continue
        words.append(f"{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return words


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if not is_dataclass(value) or part not in {f.name for f in fields(value)}:
            return None
        value = getattr(value, part)
    return value


def setting_text(config: Config, key: str) -> str:
    """Return the value of a setting as a user types it.

    >>> setting_text(Config(), "faces.min_score")
    '0.6'
    """
    value = _value(config, key)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
