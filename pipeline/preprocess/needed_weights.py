"""Fetch and check the weights of a run before its workers start.

A worker could also fetch them, but its progress would not be shown, and without a network the progress bar
would stop for minutes before the error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from deiii.data.cache.stages import FACES, get_stage, import_function
from deiii.data.config.schema import Config
from deiii.data.tools.weights import locate, resolve
from deiii.pipeline.media.decoders.nvdec import check


def fetch_needed(config: Config, stages: Collection[str], report: Callable[[str], None]) -> None:
    """Fetch the weights of ``stages`` to this machine; workers on other machines fetch their own.

    Models of a stage with ``load_early`` are also loaded, so that a wrong file ends the run before any work.
    RAFT needs PyTorch and is loaded by the workers only.

    Args:
        config: settings.
        stages: names of the stages that have missing shards.
        report: called with a line about each download.

    Raises:
        WeightsError: weights cannot be found, downloaded or loaded; the message states what to do.
        ConfigError: ``faces.decoder=gpu``, and the workers cannot decode on a GPU.
    """
    if FACES.name in stages:
        check(config)
    if config.scheduler or config.cluster.kind != "local":
        return
    specs = [get_stage(name) for name in stages]
    for stage in specs:
        needed = stage.weights(stage.section(config))
        if needed is None:
            continue
        name = needed.given or needed.default
        if not Path(name).exists() and locate(name)[0] is None:
            report(f"fetching {name}; this is needed only once")
        resolve(needed.given, needed.default)
    for stage in specs:
        if stage.models and stage.load_early:
            import_function(stage.models)(stage.section(config))
