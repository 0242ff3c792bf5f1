"""The loaders of training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from deiii.data.cache.stages import extra_inputs
from deiii.data.config.schema import Config
from deiii.data.loader.batch import Batch
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.data.loader.sampling import evaluation_hops
from deiii.data.loader.stage_arrays import StageLevels
from deiii.model.distributed.ranks import Ranks, clips_per_rank


def make_loader(
    features: FeatureSet,
    rows: np.ndarray,
    config: Config,
    device: torch.device,
    training: bool,
    ranks: Ranks | None = None,
    levels: StageLevels | None = None,
) -> Loader:
    """Return a loader of the inputs that the network of these settings reads.

    Args:
        features: the opened caches.
        rows: int64 [N], rows of the feature set.
        config: all settings.
        device: device to which the batches are copied.
        training: whether to augment and to shuffle.
        ranks: the processes that share each batch; the loader yields the part of this process.
        levels: levels of the rows of all clips, keyed by stage, if they do not come from ``features``; see
            `Loader`.

    Raises:
        ConfigError: ``loader.batch`` is not a multiple of the number of ranks.
    """
    model = config.model
    ranks = ranks or Ranks()
    settings = replace(config.loader, batch=clips_per_rank(config.loader.batch, ranks.world))
    if not training:
        settings = replace(settings, audio_steps=evaluation_hops(settings))
    return Loader(
        features, rows, settings, training=training, device=device, seed=config.train.seed,
        rank=ranks.rank, world=ranks.world,
        video=model.video, flow=model.flow, audio=model.audio, attributes=model.attributes,
        extra=extra_inputs(config),
        levels=levels,
    )  # fmt: skip


class ChangedLoader:
    """Changes each batch of another loader by a function.

    Args:
        loader: gives the batches.
        change: function from a batch to the changed one, for example
            `deiii.model.network.hide_streams.hide_in_scoring`.
    """

    def __init__(self, loader: Loader, change: Callable[[Batch], Batch]):
        self.loader, self.change = loader, change

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the changed batches of an epoch from batch ``start`` on."""
        return map(self.change, self.loader.epoch(number, start))
