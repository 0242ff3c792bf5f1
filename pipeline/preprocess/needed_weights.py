"""Weights that preprocessing needs, fetched and looked at before its workers start.

A worker would fetch them just as well, but where nobody sees it: the bar would stand still, for minutes
where there is no network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from deiii.data.cache.stages import RAFT_WEIGHTS
from deiii.data.config.schema import Config
from deiii.data.tools.weights import YUNET, locate, resolve
from deiii.pipeline.faces.detectors import load_detector


def fetch_needed(config: Config, stages: Collection[str], say: Callable[[str], None]) -> None:
    """Have the weights of ``stages`` on this machine; workers on others look after themselves.

    A face detector is loaded, too, so that a file that is none ends the run before any work; RAFT, which
    needs PyTorch, is loaded by the workers.

    Raises:
        data.weights.WeightsError: they cannot be had or are not what they must be; the message says
            what to do.
    """
    if config.scheduler or config.cluster.kind != "local":
        return
    wanted = []
    if "faces" in stages and config.faces.detector == "yunet":
        wanted.append((config.faces.weights, YUNET))
    if "flow" in stages and config.flow.method == "raft":
        wanted.append((config.flow.weights, RAFT_WEIGHTS[config.flow.model]))
    for given, default in wanted:
        name = given or default
        if not Path(name).is_file() and locate(name)[0] is None:
            say(f"fetching {name}, which is needed once")
        resolve(given, default)
    if "faces" in stages:
        load_detector(config.faces)
