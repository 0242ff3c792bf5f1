"""A trained network, built from what its run recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from deiii.data.config.schema import Config
from deiii.model.network.inputs.network import Network
from deiii.model.network.task import Task
from deiii.model.scored_weights import own_members
from deiii.model.training import checkpoint
from deiii.model.training.run_folder import RunError, RunFolder


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights, on the CPU, and what belongs to it.

    Attributes:
        network: network in training mode, which is PyTorch's default.
        task: the classes and attributes that it predicts.
        config: the settings that it was trained with.
        info: what ``run.json`` holds.
        epoch: the epoch of the weights, counted from 0.
    """

    network: Network
    task: Task
    config: Config
    info: Mapping[str, Any]
    epoch: int


def load_network(run: str | Path) -> TrainedNetwork:
    """Load the best network of a run folder.

    Raises:
        RunError: the folder holds no run, or an ensemble, or a file of it is damaged.
        CheckpointError: the best checkpoint is missing, damaged, or of other settings.
        ConfigError: this version does not have a setting of the run.

    >>> load_network("runs/latest").task.classes   # doctest: +SKIP
    ('happy', 'sad')
    """
    folder = RunFolder(run)
    info = folder.read_info(whole=True)
    if members := own_members(folder.path):
        raise RunError(f"{run} is an ensemble, which has no weights of its own; name a member: {members[0]}")
    config = folder.read_config()
    weights, saved = checkpoint.load(folder.best, ["epoch"])
    network, task = build_network(config, info, weights, folder.best)
    return TrainedNetwork(network, task, config, info, saved["epoch"])


def training_record(folder: str | Path, config: Config) -> dict[str, Any] | None:
    """Return how far the training of a run came (`TrainingState.record`).

    Args:
        folder: the run folder.
        config: its settings.

    Returns:
        the record; ``None`` where there is no history, as in a folder to which only some files were copied.
    """
    run = RunFolder(folder)
    return run.training_state(config).record() if run.metrics_csv.exists() else None


def build_network(
    config: Config, info: Mapping[str, Any], weights: dict[str, Tensor], source: str | Path
) -> tuple[Network, Task]:
    """Build the network that a run or an export describes, and load its weights.

    Args:
        config: settings of the network.
        info: content of ``run.json`` or ``deiii.json``, with ``classes``, ``attributes`` and ``ranges``.
        weights: weights, keyed by parameter name.
        source: the file of the weights, for messages.

    Raises:
        CheckpointError: the weights do not fit the settings.
    """
    task = Task.from_info(info)
    network = task.network(config)
    checkpoint.load_into(network, weights, source)
    return network, task
