"""Choose how training steps are launched: one kernel after the other, compiled, or as a recorded graph."""

from __future__ import annotations

import torch

from deiii.data.config.schema import TrainConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.distributed.ranks import Ranks


def choose_launch(settings: TrainConfig, device: torch.device, ranks: Ranks) -> str:
    """Return ``eager``, ``compile`` or ``graph`` for ``train.launch`` on a device.

    ``auto`` is a graph on one NVIDIA GPU, else eager. With ``train.compile`` all of them but ``graph`` are
    ``compile``; the graph then records the compiled network.

    Raises:
        ConfigError: the launch is not possible on this device or with several processes.

    >>> choose_launch(TrainConfig(), torch.device("cpu"), Ranks())
    'eager'
    """
    wanted = settings.launch
    if compiles(settings) and not ranks.alone:
        setting = "train.compile" if settings.compile else "train.launch=compile"
        raise ConfigError(f"{setting} is for one process; leave it out under torchrun")
    graphs = device.type == "cuda" and torch.version.cuda is not None
    if wanted == "graph":
        if not graphs:
            raise ConfigError(
                f"train.launch=graph needs an NVIDIA GPU, and the device is {device}; use train.launch=auto"
            )
        if not ranks.alone:
            raise ConfigError("train.launch=graph is for one process; use train.launch=auto under torchrun")
    if wanted == "auto" and not settings.compile:
        return "graph" if graphs and ranks.alone else "eager"
    return "compile" if settings.compile and wanted != "graph" else wanted


def launch_note(settings: TrainConfig, device: torch.device, ranks: Ranks) -> str:
    """Return a line where ``auto`` records no graph although the device could; empty elsewhere."""
    could = choose_launch(settings, device, Ranks()) == "graph"
    if not could or choose_launch(settings, device, ranks) == "graph":
        return ""
    return (
        "training steps run one kernel after the other: under torchrun they exchange gradients and are not "
        "recorded as CUDA graphs; one process without torchrun records them"
    )


def compiles(settings: TrainConfig) -> bool:
    """Return whether the network is compiled, by ``train.compile`` or ``train.launch=compile``."""
    return settings.compile or settings.launch == "compile"
