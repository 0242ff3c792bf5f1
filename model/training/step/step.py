"""One optimiser step: forward, loss, backward, clipping, optimiser, averaged weights, sums of the epoch.

The step reads and writes tensors alone and never waits for the device, so that a CUDA graph can record it.
What changes from step to step (random seed, learning rate, weight of the average) is set by `prepare` before
it, from the number of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from deiii.data.config.schema import Config
from deiii.data.loader.batch import Batch
from deiii.model.distributed.devices import autocast, seed_all
from deiii.model.distributed.layers import count_together
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.heads import Outputs
from deiii.model.network.hide_streams import random_hide
from deiii.model.network.inputs.network import Network
from deiii.model.training.gather_batch import gather_batch
from deiii.model.training.losses import total_loss
from deiii.model.training.optim import AveragedWeights, learning_rate, make_optimizer, set_learning_rate
from deiii.model.training.step.accumulate import DividedBatch, check_clips_apart
from deiii.model.training.step.half_weights import channels_last
from deiii.model.training.step.sums import EpochSums


class TrainingStep:
    """The state of a training and the function that advances it by one batch.

    Args:
        model: the network, on ``device``.
        learner: callable for the forward and backward pass: the network itself, compiled, distributed, or
            with its weights in bfloat16.
        config: all settings.
        device: device of the network.
        total: steps of the whole training.
        class_weights: float32 [C] on the device, or ``None`` for equal weights.
        ranks: the processes that train together.
        clip_weights: float32 [N] on the device, of the rows of the feature set; ``None`` for equal weights.

    Attributes:
        optimizer: AdamW or SGD.
        average: the averaged weights.
        sums: sums of the running epoch.
        rate: learning rate of the latest step.

    Raises:
        ConfigError: the network does not allow ``train.accumulate``.
    """

    def __init__(
        self,
        model: Network,
        learner: Callable[[Batch], Outputs],
        config: Config,
        device: torch.device,
        total: int,
        class_weights: Tensor | None,
        ranks: Ranks,
        clip_weights: Tensor | None = None,
    ):
        check_clips_apart(model, config)
        self.model = model
        self.learner = learner
        self.config = config
        self.settings = config.train
        self.device = device
        self.total = total
        self.class_weights = class_weights
        self.clip_weights = clip_weights
        self.ranks = ranks
        if device.type == "cuda" and ranks.alone:
            channels_last(model)  # must precede the optimiser, whose state gets the same layout
        self.optimizer = make_optimizer(model, self.settings, device)
        self.average = AveragedWeights(model, self.settings.ema)
        self.batch_counters = count_together(model)
        self.sums = EpochSums(device)
        self.rate = self.settings.lr

    def prepare(self, step: int) -> None:
        """Set random seed, learning rate and averaging weight of a step, counted from 0."""
        seed_all(self.settings.seed, step)
        self.set_rate(step)
        self.average.prepare(step)
        self.sums.begun = True

    def set_rate(self, step: int) -> None:
        """Set the learning rate of a step, counted from 0."""
        self.rate = learning_rate(step, self.total, self.settings)
        set_learning_rate(self.optimizer, self.rate)

    def __call__(self, batch: Batch) -> Tensor:
        """Advance the training by one batch.

        Returns:
            int64 [1+N] on the device: 1 where loss and gradient are finite, else 0; then the rows of the
            batch's clips, -1 for fillers.
        """
        batch = random_hide(batch, self.settings.modality_dropout, self.config.model, self.ranks)
        parts = self.settings.accumulate
        divided = None
        if parts > 1:
            divided = DividedBatch(self.model, batch, parts, self._outputs, self.learner, self._precision)
        outputs = self._outputs(batch) if divided is None else divided.outputs()
        outputs, truth = gather_batch(self.ranks, outputs, batch)
        loss, terms = total_loss(
            outputs, truth,
            w_video=self.settings.w_video, w_audio=self.settings.w_audio, w_match=self.settings.w_match,
            label_smoothing=self.settings.label_smoothing, class_weights=self.class_weights,
            clip_weights=self.clip_weights,
        )  # fmt: skip
        # The last batch of an epoch may hold few clips: without this factor each of them would weigh more.
        # To drop the last batch would waste clips. In trials of a few seeds, whose outputs were not stored,
        # neither the factor nor dropping the batch made a measurable difference.
        share = truth.real.float().mean()
        self.optimizer.zero_grad(set_to_none=True)
        (loss * share).backward()
        if divided is not None:
            divided.backward()
        largest = self.settings.clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), largest)
        self.optimizer.step()
        self.average.update()
        if self.batch_counters:
            torch._foreach_add_(self.batch_counters, 1)
        self.sums.add({"loss": loss.detach(), **terms}, share)
        finite = loss.detach().isfinite() & norm.isfinite()
        return torch.cat((finite.long()[None], truth.index))

    def _outputs(self, batch: Batch) -> Outputs:
        with self._precision():
            return self.learner(batch)

    def _precision(self) -> AbstractContextManager[Any]:
        return autocast(self.settings.amp, self.device)


def read_together(pending: list[tuple[int, Tensor]]) -> list[tuple[int, list[int]]]:
    """Return the status of steps, int64 [n] each on the device, as lists of numbers, in one transfer."""
    if not pending:
        return []
    sizes = [len(status) for _, status in pending]
    parts = torch.cat([status for _, status in pending]).cpu().split(sizes)
    return [(step, part.tolist()) for (step, _), part in zip(pending, parts, strict=True)]
