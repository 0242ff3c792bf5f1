"""Optimisation: AdamW with decay on matrices alone, a cosine schedule with warm-up, averaged weights.

Sources: AdamW, Loshchilov & Hutter, arXiv 1711.05101; cosine schedule, arXiv 1608.03983; averaged weights,
Polyak & Juditsky 1992.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deiii.data.config.schema import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.AdamW:
    """Return AdamW; norms, biases, gates and other vectors have no weight decay."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=device.type in ("cuda", "cpu"))


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: a linear warm-up, then a half cosine down to 1 % of the peak.

    Args:
        step: counted from 0.
        total: steps of the whole training.
        config: peak ``lr`` and ``warmup`` as a share of the steps.

    >>> learning_rate(0, 100, TrainConfig(lr=1.0, warmup=0.1))
    0.1
    """
    warm = max(1, round(config.warmup * total))
    if step < warm:
        return config.lr * (step + 1) / warm
    done = min(1.0, (step - warm) / max(1, total - warm))
    return config.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


class AveragedWeights:
    """Exponential moving average of a model's parameters and batch statistics.

    Args:
        model: whose floating-point parameters and buffers are averaged.
        decay: of the average; smaller in the first steps, so that the initial weights lose their effect soon.
            Zero keeps no average.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        moving = (*model.named_parameters(), *model.named_buffers())
        self.model = {n: t for n, t in moving if t.is_floating_point()}
        self.average = {n: p.detach().clone() for n, p in self.model.items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after optimiser step number ``step``, counted from 0."""
        if self.average:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), list(self.model.values()), 1 - decay)

    def swap(self) -> None:
        """Exchange the model's weights and the average; a second call restores both."""
        for name, average in self.average.items():
            current = self.model[name].data
            self.model[name].data = average
            self.average[name] = current

    def state(self) -> dict[str, Tensor]:
        """Return the averages by parameter name."""
        return self.average

    def load(self, state: dict[str, Tensor]) -> None:
        """Set the averages to those that `state` returned."""
        for name, value in state.items():
            self.average[name].copy_(value)
