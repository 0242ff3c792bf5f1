"""The loaders of training and validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from deiii.data.config.schema import Config
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.model.distributed.ranks import Ranks, clips_per_rank


def make_loader(
    features: FeatureSet,
    rows: np.ndarray,
    config: Config,
    device: torch.device,
    training: bool,
    ranks: Ranks | None = None,
) -> Loader:
    """A loader of what the network of these settings reads; over several ranks, of this one's clips."""
    m, ranks = config.model, ranks or Ranks()
    settings = replace(config.loader, batch=clips_per_rank(config.loader.batch, ranks.world))
    if not training and settings.eval_audio_steps:
        settings = replace(settings, audio_steps=settings.eval_audio_steps)
    return Loader(
        features, rows, settings, training=training, device=device, seed=config.train.seed,
        rank=ranks.rank, world=ranks.world,
        video=m.video, flow=m.flow, audio=m.audio, attributes=m.attributes,
    )  # fmt: skip
