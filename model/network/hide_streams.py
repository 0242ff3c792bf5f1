"""Hide streams of a batch: for modality dropout in training, and for evaluation without a stream.

A stream is one of the network's inputs: frames, flow, audio, or a stage of ``model.extra``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from deiii.data.cache.stages import BUILT_IN, get_stage
from deiii.data.config.schema import Config, ModelConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.streams import enabled_streams

STREAMS = tuple(stage.stream for stage in BUILT_IN)


def hide(batch: Batch, **hidden: Tensor | bool) -> Batch:
    """Return the batch with streams masked.

    Args:
        batch: the batch, which is not changed.
        hidden: what to hide, keyed by stream (frames, flow, audio, or a stage of ``model.extra``): bool [B]
            for some clips, or True for all.

    Raises:
        ValueError: there is no such stream.

    >>> hide(batch, audio=True)  # doctest: +SKIP
    """

    def visible(mask: Tensor, stream: str) -> Tensor:
        clips = hidden.get(stream, False)
        if isinstance(clips, Tensor):
            return mask & ~clips.reshape(-1, 1)
        return torch.zeros_like(mask) if clips else mask  # True as a tensor would cost a transfer

    known = (*STREAMS, *batch.extra)
    unknown = set(hidden) - set(known)
    if unknown:
        raise ValueError(
            f"there is no stream {', '.join(sorted(unknown))}; the streams are {', '.join(known)}"
        )
    return replace(
        batch,
        video_mask=visible(batch.video_mask, "frames"),
        flow_mask=visible(batch.flow_mask, "flow"),
        audio_mask=visible(batch.audio_mask, "audio"),
        extra={name: replace(x, mask=visible(x.mask, name)) for name, x in batch.extra.items()},
    )


def hidden_together(config: ModelConfig) -> list[tuple[str, ...]]:
    """Return the sets of streams that are hidden at once: each stream alone, and all streams of a modality.

    At least one stream always remains, so the list is empty for a network with a single stream.
    """
    streams = enabled_streams(config)
    if len(streams) < 2:
        return []
    modality: dict[str, str] = {stage.stream: stage.modality for stage in BUILT_IN}
    modality |= {name: get_stage(name).modality for name in config.extra}
    groups = [tuple(s for s in streams if modality[s] == m) for m in ("video", "audio")]
    return [*((s,) for s in streams), *(g for g in groups if 1 < len(g) < len(streams))]


def check_hidden(config: Config) -> None:
    """Check the streams of ``split.hide``.

    Raises:
        ConfigError: the network reads no stream, does not read one that is named, or reads only those.
    """
    streams = enabled_streams(config.model)
    if not streams:
        raise ConfigError(
            "the network reads nothing: model.video, model.flow and model.audio are off, and model.extra is "
            "empty; turn one of them on, or name a stage in model.extra"
        )
    if unknown := [name for name in config.split.hide if name not in streams]:
        raise ConfigError(
            f"split.hide names {', '.join(unknown)}, but the network reads {', '.join(streams)}; name some "
            "of these, or leave split.hide empty"
        )
    if set(config.split.hide) == set(streams):
        raise ConfigError(
            f"split.hide=[{','.join(config.split.hide)}] hides all that the network reads, and nothing is "
            "left to score; name fewer streams"
        )


def hide_in_scoring(config: Config, more: Sequence[str] = ()) -> Callable[[Batch], Batch]:
    """Return the function that hides the streams of ``split.hide``, and ``more``, from a batch."""
    hidden = dict.fromkeys((*config.split.hide, *more), True)

    def change(batch: Batch) -> Batch:
        return hide(batch, **hidden) if hidden else batch

    return change


def further_hidden(config: Config) -> list[tuple[str, ...]]:
    """Return the sets of `hidden_together` that hide more than ``split.hide`` does, but not everything."""
    before, streams = set(config.split.hide), set(enabled_streams(config.model))
    return [some for some in hidden_together(config.model) if before < before | set(some) < streams]


def random_hide(batch: Batch, chance: float, config: ModelConfig, ranks: Ranks | None = None) -> Batch:
    """Hide one of the sets of `hidden_together` from each clip with some probability.

    Nothing is hidden from a clip that would be left without any stream. On several ranks the random numbers
    are those of the global batch.

    Args:
        batch: the batch, which is not changed.
        chance: the probability, 0 to 1.
        config: decides which streams are enabled.
        ranks: the processes that share the batch.
    """
    choices = hidden_together(config)
    if chance <= 0 or not choices:
        return batch
    ranks = ranks or Ranks()
    device, clips = batch.real.device, len(batch) * ranks.world
    happens = ranks.own(torch.rand(clips, device=device)) < chance
    which = ranks.own(torch.randint(len(choices), (clips,), device=device))
    streams = enabled_streams(config)
    gone_BS = _members(tuple(choices), streams, device)[which] & happens[:, None]
    masks = {"frames": batch.video_mask, "flow": batch.flow_mask, "audio": batch.audio_mask}
    masks |= {name: x.mask for name, x in batch.extra.items()}
    there_BS = torch.stack([masks[stream].any(dim=1) for stream in streams], dim=1)
    something_B = (there_BS & ~gone_BS).any(dim=1)
    hidden_BS = gone_BS & something_B[:, None]
    return hide(batch, **dict(zip(streams, hidden_BS.unbind(1), strict=True)))


@cache
def _members(choices: tuple[tuple[str, ...], ...], streams: tuple[str, ...], device: torch.device) -> Tensor:
    """Return which choice (rows) holds which stream (columns), bool; copied to a device once."""
    return torch.tensor([[stream in some for stream in streams] for some in choices], device=device)
