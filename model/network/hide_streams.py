"""Hide streams of a batch: for modality dropout in training, and for evaluation without a stream.

A stream is one of the network's inputs: frames, flow or audio.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from deiii.data.cache.stages import BUILT_IN
from deiii.data.config.schema import ModelConfig
from deiii.data.loader.batch import Batch
from deiii.model.distributed.ranks import Ranks

STREAMS = tuple(stage.stream for stage in BUILT_IN)


def hide(batch: Batch, **hidden: Tensor | bool) -> Batch:
    """Return the batch with streams masked.

    Args:
        batch: stays as it is.
        hidden: by stream, bool [B] for some clips or True for all.

    Raises:
        ValueError: there is no such stream.

    >>> hide(batch, audio=True)  # doctest: +SKIP
    """

    def visible(mask: Tensor, stream: str) -> Tensor:
        clips = torch.as_tensor(hidden.get(stream, False), device=mask.device).reshape(-1, 1)
        return mask & ~clips

    unknown = set(hidden) - set(STREAMS)
    if unknown:
        raise ValueError(
            f"there is no stream {', '.join(sorted(unknown))}; the streams are {', '.join(STREAMS)}"
        )
    return replace(
        batch,
        video_mask=visible(batch.video_mask, "frames"),
        flow_mask=visible(batch.flow_mask, "flow"),
        audio_mask=visible(batch.audio_mask, "audio"),
    )


def enabled_streams(config: ModelConfig) -> tuple[str, ...]:
    """Return the streams that a network of these settings reads."""
    return tuple(stage.stream for stage in BUILT_IN if getattr(config, stage.switch))


def random_hide(batch: Batch, chance: float, config: ModelConfig, ranks: Ranks | None = None) -> Batch:
    """Hide one enabled stream, or frames and flow together, from each clip with some probability.

    Nothing is hidden from a clip that would be left without any stream. On several ranks the random numbers
    are those of the global batch.

    Args:
        batch: stays as it is.
        chance: the probability, 0 to 1.
        config: decides which streams are enabled.
        ranks: the processes that share the batch.
    """
    choices: list[tuple[str, ...]] = [(stream,) for stream in enabled_streams(config)]
    if len(choices) == 3:
        choices.append(("frames", "flow"))
    if chance <= 0 or len(choices) < 2:
        return batch
    ranks = ranks or Ranks()
    device, clips = batch.real.device, len(batch) * ranks.world
    happens = ranks.own(torch.rand(clips, device=device)) < chance
    which = ranks.own(torch.randint(len(choices), (clips,), device=device))
    gone = {
        stream: happens
        & torch.stack([which == i for i, some in enumerate(choices) if stream in some]).any(dim=0)
        for stream in enabled_streams(config)
    }
    hidden = hide(batch, **gone)
    left = {
        "frames": hidden.video_mask.any(dim=1),
        "flow": hidden.flow_mask.any(dim=1),
        "audio": hidden.audio_mask.any(dim=1),
    }
    something = torch.stack([left[stream] for stream in gone]).any(dim=0)
    return hide(batch, **{stream: clips & something for stream, clips in gone.items()})
