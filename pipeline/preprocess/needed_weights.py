"""Weights that preprocessing needs, fetched and looked at before its workers start.

A worker would fetch them just as well, but where nobody sees it: the bar would stand still, for minutes
where there is no network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from deiii.data.cache.stages import get_stage, import_function
from deiii.data.config.schema import Config
from deiii.data.tools.weights import locate, resolve


def fetch_needed(config: Config, stages: Collection[str], say: Callable[[str], None]) -> None:
    """Have the weights of ``stages`` on this machine; workers on others look after themselves.

    Models of a stage with ``load_early`` are loaded, too, so that a file that is none ends the run before any
    work; RAFT, which needs PyTorch, is loaded by the workers.

    Raises:
        WeightsError: they cannot be had or are not what they must be; the message says
            what to do.
    """
    if config.scheduler or config.cluster.kind != "local":
        return
    specs = [get_stage(name) for name in stages]
    for stage in specs:
        needed = stage.weights(stage.section(config))
        if needed is None:
            continue
        name = needed.given or needed.default
        if not Path(name).is_file() and locate(name)[0] is None:
            say(f"fetching {name}, which is needed once")
        resolve(needed.given, needed.default)
    for stage in specs:
        if stage.models and stage.load_early:
            import_function(stage.models)(stage.section(config))
