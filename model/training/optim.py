"""Optimisation: AdamW or SGD, a cosine schedule with warm-up, and averaged weights.

Sources: AdamW, Loshchilov & Hutter, arXiv 1711.05101; cosine schedule, arXiv 1608.03983; averaged weights,
Polyak & Juditsky 1992, here as an exponential moving average whose decay grows as in TensorFlow's
``tf.train.ExponentialMovingAverage`` with ``num_updates``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deiii.data.config.schema import TrainConfig
from deiii.model.network.heads import Head

MOMENTUM = 0.9  # Nesterov momentum of SGD


def make_optimizer(model: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """Return AdamW or SGD; norms, biases, gates and other vectors have no weight decay.

    With ``optimizer="discriminant"`` it is SGD, whose learning rate `learning_rate` keeps at 0.

    With a ``trunk_lr`` other than 1, the heads (`deiii.model.network.heads.Head`) have groups of their own,
    the last two. The entry ``scale`` of a group is its learning rate as a multiple of ``lr``.

    On a GPU the learning rate is a tensor in its memory: a recorded step reads the tensor's value, which
    `set_learning_rate` sets before each step.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    scaled = [(1.0, [p for _, p in named])]
    if config.trunk_lr != 1:
        of_heads = {id(p) for m in model.modules() if isinstance(m, Head) for p in m.parameters()}
        trunk, heads = ([p for _, p in named if (id(p) in of_heads) == own] for own in (False, True))
        scaled = [(config.trunk_lr, trunk), (1.0, heads)]
    groups = [
        {"params": chosen, "weight_decay": decay, "scale": scale}
        for scale, parameters in scaled
        for decay, chosen in (
            (config.weight_decay, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        )
    ]
    on_gpu = device.type == "cuda"
    fused = device.type in ("cuda", "cpu")
    optimizer: torch.optim.Optimizer
    if config.optimizer in ("sgd", "discriminant"):
        optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=MOMENTUM, nesterov=True, fused=fused)
    else:
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=fused, capturable=on_gpu)
    if on_gpu:
        rates = {scale: torch.full((), config.lr * scale, device=device) for scale, _ in scaled}
        for group in optimizer.param_groups:
            group["lr"] = rates[group["scale"]]
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups to ``rate`` times their scale, in place where it is a tensor."""
    shared = {id(group["lr"]): group for group in optimizer.param_groups}
    for group in shared.values():
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["scale"])
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = rate * group["scale"]


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: a linear warm-up, then a half cosine down to 1 % of the peak.

    It is 0 for ``optimizer="discriminant"``, whose weights are computed before the first step.

    Args:
        step: counted from 0.
        total: steps of the whole training.
        config: peak ``lr`` and ``warmup`` as a share of the steps.

    >>> learning_rate(0, 100, TrainConfig(lr=1.0, warmup=0.1))
    0.1
    """
    if config.optimizer == "discriminant":
        return 0.0
    warm = max(1, round(config.warmup * total))
    if step < warm:
        return config.lr * (step + 1) / warm
    done = min(1.0, (step - warm) / max(1, total - warm))
    return config.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


class AveragedWeights:
    """Exponential moving average of a model's parameters and batch statistics.

    Args:
        model: network whose floating-point parameters and buffers are averaged.
        decay: decay of the average; that of step n is at most (1 + n) / (10 + n), so that the initial weights
            soon have little effect. Zero keeps no average.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        moving = (*model.named_parameters(), *model.named_buffers())
        self.model = {n: t for n, t in moving if t.is_floating_point()}
        self.average = {n: p.detach().clone() for n, p in self.model.items()} if decay else {}
        some = next(iter(self.model.values()), torch.zeros(0))
        # On a GPU a tensor, because a recorded step would repeat the value of a Python number.
        self.weight: float | Tensor = torch.zeros((), device=some.device) if some.is_cuda else 0.0

    def prepare(self, step: int) -> None:
        """Set the weight that `update` gives to the weights after optimiser step ``step``, counted from 0."""
        if self.average:
            weight = 1 - min(self.decay, (1 + step) / (10 + step))
            if isinstance(self.weight, Tensor):
                self.weight.fill_(weight)
            else:
                self.weight = weight

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the model's weights; call `prepare` before."""
        if not self.average:
            return
        averages, models = list(self.average.values()), list(self.model.values())
        if isinstance(self.weight, Tensor):
            change = torch._foreach_sub(models, averages)
            torch._foreach_mul_(change, self.weight)
            torch._foreach_add_(averages, change)
        else:
            torch._foreach_lerp_(averages, models, self.weight)

    def swap(self) -> None:
        """Exchange the model's weights and the average; a second call restores both."""
        for name, average in self.average.items():
            current = self.model[name].data
            self.model[name].data = average
            self.average[name] = current

    def state(self) -> dict[str, Tensor]:
        """Return the averages by name of the parameter or buffer; empty if no average is kept."""
        return self.average

    def load(self, state: dict[str, Tensor]) -> None:
        """Set the averages to those that `state` returned."""
        for name, value in state.items():
            self.average[name].copy_(value)
