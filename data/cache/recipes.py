"""What the result of each stage depends on: one recipe for each stage, with its key.

Preprocessing uses recipes to name the folders that it writes, and training to find them.

>>> from deiii.data.config.load import load_config
>>> sorted(stage_keys(load_config()))
['faces', 'flow', 'logmel']
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deiii.data.cache.stages import Stage, get_stage, with_upstream
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.text.canonical_json import canonical_json
from deiii.data.tools.weights import known_digest


@dataclass(frozen=True)
class Recipe:
    """Everything that the result of one stage depends on.

    Attributes:
        stage: its name.
        key: its key (`stage_key`).
        provenance: what the key covers, in readable form; stored in every shard.
        upstream: name of the stage whose result it reads, if any.
    """

    stage: str
    key: str
    provenance: Mapping[str, Any]
    upstream: str | None


def recipes(config: Config) -> dict[str, Recipe]:
    """Return the recipes of the configured stages, upstream ones included, in order of computation.

    Raises:
        WeightsError: for weights given as a path that does not exist.
        ConfigError: for an unknown stage, or none.
    """
    if not config.stages:
        raise ConfigError("stages is empty: name at least one stage, e.g. stages=[faces]")
    found: dict[str, Recipe] = {}
    for name in with_upstream(config.stages):
        stage = get_stage(name)
        params = stage.result_params(config)
        weights = _identity_of_weights(stage, config)
        upstream_key = found[stage.upstream].key if stage.upstream else None
        key = stage_key(name, stage.version, params, weights, upstream_key)
        provenance = {
            "stage": name,
            "version": stage.version,
            "params": params,
            "weights": weights,
            "upstream": upstream_key,
        }
        found[name] = Recipe(name, key, provenance, stage.upstream)
    return found


def stage_keys(config: Config) -> dict[str, str]:
    """Return the key of each configured stage, upstream ones included."""
    return {stage: recipe.key for stage, recipe in recipes(config).items()}


def _identity_of_weights(stage: Stage, config: Config) -> str | None:
    """Return the digest of the weights that a stage uses with these settings; ``None`` if it uses none."""
    needed = stage.weights(stage.section(config))
    return None if needed is None else known_digest(needed.given, needed.default)


def stage_key(
    stage: str,
    version: int,
    params: Mapping[str, Any],
    weights: str | None = None,
    upstream: str | None = None,
) -> str:
    """Return the key of a stage's result: the first 12 hex digits of the SHA-256 of canonical JSON.

    Args:
        stage: the stage's name.
        version: version of the stage's code; raised when the same settings give another result.
        params: the settings that change the result.
        weights: digest of the weights, if the stage has any.
        upstream: key of the stage whose result this one reads, if any.

    Raises:
        TypeError, ValueError: for parameters that canonical JSON cannot hold.

    >>> stage_key("logmel", 1, {"n_mels": 80}) == stage_key("logmel", 1, {"n_mels": 80.0})
    True
    """
    text = canonical_json(
        {
            "stage": stage,
            "version": version,
            "params": params,
            "weights": weights,
            "upstream": upstream,
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]
