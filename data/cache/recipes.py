"""What each stage's result depends on: one recipe a stage, one key a recipe.

Both doors use it: preprocessing to name the folders it fills, training to find them.

>>> from deiii.data.config.load import load_config
>>> sorted(stage_keys(load_config()))
['faces', 'flow', 'logmel']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deiii.data.cache.keys import stage_key
from deiii.data.cache.stages import RAFT_ONLY, RAFT_WEIGHTS, UPSTREAM, VERSIONS, YUNET_ONLY
from deiii.data.config.schema import Config, result_params
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.weights import YUNET, known_digest


@dataclass(frozen=True)
class Recipe:
    """How one stage's result comes about; ``provenance`` goes into every shard."""

    stage: str
    key: str
    provenance: Mapping[str, Any]
    upstream: str | None


def recipes(config: Config) -> dict[str, Recipe]:
    """The recipes of the configured stages, upstream ones included, in order of computation.

    Raises:
        WeightsError: where weights given as a path are not there.
        ConfigError: for a stage that does not exist.
    """
    unknown = set(config.stages) - set(VERSIONS)
    if unknown or not config.stages:
        raise ConfigError(f"stages are a selection of {', '.join(VERSIONS)}; got {config.stages}")
    wanted = set(config.stages) | {UPSTREAM[s] for s in config.stages} - {None}
    made: dict[str, Recipe] = {}
    for stage in VERSIONS:
        if stage not in wanted:
            continue
        params, weights = _params(config, stage)
        upstream = UPSTREAM[stage]
        upstream_key = made[upstream].key if upstream else None
        key = stage_key(stage, VERSIONS[stage], params, weights, upstream_key)
        provenance = {
            "stage": stage,
            "version": VERSIONS[stage],
            "params": params,
            "weights": weights,
            "upstream": upstream_key,
        }
        made[stage] = Recipe(stage, key, provenance, upstream)
    return made


def stage_keys(config: Config) -> dict[str, str]:
    """Each configured stage's key."""
    return {stage: recipe.key for stage, recipe in recipes(config).items()}


def _params(config: Config, stage: str) -> tuple[dict[str, Any], str | None]:
    """A stage's result-changing settings and the digest of its weights."""
    section = getattr(config, stage)
    params, unused, weights = result_params(section), (), None
    if stage == "faces":
        haar = section.detector == "haar"
        unused = YUNET_ONLY if haar else ()
        weights = None if haar else known_digest(section.weights, YUNET)
    elif stage == "flow":
        raft = section.method == "raft"
        unused = () if raft else RAFT_ONLY
        weights = known_digest(section.weights, RAFT_WEIGHTS[section.model]) if raft else None
    elif stage == "logmel":
        unused = () if section.trim_db else ("trim_db",)
    return {n: v for n, v in params.items() if n not in unused}, weights
