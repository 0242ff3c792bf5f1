"""The width at which a network has as many parameters as DE-III."""

from __future__ import annotations

from copy import deepcopy

import torch

from deiii.data.config.networks import DEFAULT
from deiii.data.config.schema import Config
from deiii.model.network.task import Task

WIDEST = 16_384  # the largest model.width


def count_parameters(config: Config, task: Task) -> int:
    """Return the number of parameters of the network that the settings describe; nothing is allocated.

    >>> count_parameters(Config(), Task(("happy", "sad"), (), ())) > 10_000
    True
    """
    with torch.device("meta"):
        return sum(p.numel() for p in task.network(config).parameters())


def matched_width(config: Config, task: Task) -> int:
    """Return the width with which a network's number of parameters is nearest to DE-III's.

    DE-III has the same settings, ``model.width`` included. Widths are multiples of two for each head, and
    more width never means fewer parameters, so the search is by bisection. The encoders of images keep their
    channels, so a small difference remains.

    Args:
        config: settings of the network that ``model.name`` names.
        task: the classes and attributes that both networks predict.

    Raises:
        ConfigError: the settings do not fit the network.

    >>> from deiii.data.config.load import load_config
    >>> matched_width(load_config("tiny"), Task(("happy", "sad"), (), ()))   # DE-III itself
    64
    """
    target = count_parameters(_with(config, DEFAULT, config.model.width), task)
    step = 2 * config.model.heads

    def size(steps: int) -> int:
        return count_parameters(_with(config, config.model.name, steps * step), task)

    low, high = 1, 2
    while size(high) < target and 2 * high * step <= WIDEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    return step * min((low, high), key=lambda steps: abs(size(steps) - target))


def _with(config: Config, name: str, width: int) -> Config:
    own = deepcopy(config)
    own.model.name, own.model.width = name, width
    if name == DEFAULT:
        own.model.batch_axis = False
    return own
