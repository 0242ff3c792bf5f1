"""Hiding a modality: for modality dropout in training and for tests of missing streams."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from deiii.data.cache.stages import BUILT_IN
from deiii.data.config.schema import ModelConfig
from deiii.data.loader.batch import Batch
from deiii.model.distributed.ranks import Ranks

STREAMS = tuple(stage.stream for stage in BUILT_IN)


def hide(batch: Batch, **gone: Tensor | bool) -> Batch:
    """The batch with streams masked for some clips (bool [B]) or for all (True).

    >>> hide(batch, sound=True)  # doctest: +SKIP
    """

    def keep(mask: Tensor, stream: str) -> Tensor:
        which = torch.as_tensor(gone.get(stream, False), device=mask.device).reshape(-1, 1)
        return mask & ~which

    unknown = set(gone) - set(STREAMS)
    if unknown:
        raise ValueError(f"streams are {', '.join(STREAMS)}; not {', '.join(sorted(unknown))}")
    return replace(
        batch,
        video_mask=keep(batch.video_mask, "frames"),
        flow_mask=keep(batch.flow_mask, "flow"),
        audio_mask=keep(batch.audio_mask, "sound"),
    )


def enabled_streams(config: ModelConfig) -> tuple[str, ...]:
    """The streams a model of these settings reads."""
    return tuple(stage.stream for stage in BUILT_IN if getattr(config, stage.switch))


def random_hide(batch: Batch, chance: float, config: ModelConfig, ranks: Ranks | None = None) -> Batch:
    """Hide one enabled stream, or frames and flow together, from a clip with this chance.

    A clip is left alone where nothing would remain: what is hidden is never all there is. Over several
    ranks lots are drawn for the whole batch.
    """
    choices = [(s,) for s in enabled_streams(config)]
    if len(choices) == 3:
        choices.append(("frames", "flow"))
    if chance <= 0 or len(choices) < 2:
        return batch
    ranks = ranks or Ranks()
    device, clips = batch.real.device, len(batch) * ranks.world
    happens = ranks.own(torch.rand(clips, device=device)) < chance
    which = ranks.own(torch.randint(len(choices), (clips,), device=device))
    gone = {
        s: happens & torch.stack([which == i for i, c in enumerate(choices) if s in c]).any(dim=0)
        for s in enabled_streams(config)
    }
    hidden = hide(batch, **gone)
    left = {
        "frames": hidden.video_mask.any(dim=1),
        "flow": hidden.flow_mask.any(dim=1),
        "sound": hidden.audio_mask.any(dim=1),
    }
    something = torch.stack([left[s] for s in gone]).any(dim=0)
    return hide(batch, **{s: g & something for s, g in gone.items()})
