"""DE-III: detail-enhanced intra- and inter-modal interaction (Shi et al. 2024, arXiv 2405.16701).

What is the paper's and what is this project's choice is listed in the documentation.

Axes: B clips, T video steps, L log-mel hops, P spatial tokens, D width, C classes, A attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deiii.data.config.schema import ModelConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch
from deiii.model.distributed.layers import Dropout, RankAware
from deiii.model.network.attention import AttentivePool
from deiii.model.network.audio_encoders import AudioEncoder, DeepAudioEncoder
from deiii.model.network.conformer import Conformer
from deiii.model.network.fusion import InterModal, VisualFusion
from deiii.model.network.positions import ClockRotary
from deiii.model.network.time_match import Matches, TimeMatch
from deiii.model.network.visual_encoders import ImageEncoder, ResNetEncoder, only_valid, times_taken


@dataclass
class Scores:
    """What one head says.

    Attributes:
        logits: [B,C], or ``None`` where classes are not predicted.
        attributes: [B,A] within the corpus's ranges, or ``None`` where none are predicted.
        present: bool [B], whether the clip has what this head reads.
    """

    logits: Tensor | None
    attributes: Tensor | None
    present: Tensor


@dataclass
class Outputs:
    """The fused head, the head of each modality where it is trained, and what L_S reads in training."""

    fused: Scores
    video: Scores | None = None
    audio: Scores | None = None
    matches: Matches | None = None

    def heads(self) -> dict[str, Scores]:
        """The heads that exist, by name."""
        named = {"fused": self.fused, "video": self.video, "audio": self.audio}
        return {name: scores for name, scores in named.items() if scores is not None}


class DEIII(RankAware, nn.Module):
    """The network.

    Args:
        config: widths and switches.
        n_classes: C; ignored where ``config.classes`` is off.
        n_attributes: A; zero for none.
        n_mels: mel bands of the log-mel input.
        ranges: lowest and highest value of each attribute; [-1, 1] where not given.
        imagenet: path of the weights that a ``config.imagenet`` trunk starts from; ``None`` for random ones.

    >>> DEIII(ModelConfig(width=32, flow=False), n_classes=8, n_attributes=0, n_mels=80).fusion.cross
    """

    def __init__(
        self,
        config: ModelConfig,
        n_classes: int,
        n_attributes: int = 0,
        n_mels: int = 80,
        ranges: Sequence[tuple[float, float]] | None = None,
        imagenet: str | Path | None = None,
    ):
        super().__init__()
        visual, audio = config.video or config.flow, config.audio
        n_classes = n_classes if config.classes else 0
        _check(config, n_classes, n_attributes)
        width, heads, drop = config.width, config.heads, config.dropout
        self.config = config
        self.frame_encoder = self.flow_encoder = self.fusion = self.audio_encoder = None
        if config.video and config.imagenet:
            self.frame_encoder = ResNetEncoder(width, config.grid, imagenet)
        elif config.video:
            self.frame_encoder = ImageEncoder(3, config.channels, width, config.grid)
        if config.flow:
            self.flow_encoder = ImageEncoder(2, config.channels, width, config.grid)
        if visual:
            attend = config.ov == "attention"
            self.fusion = VisualFusion(width, heads, drop, config.video, config.flow, attend)
        if audio and config.audio_channels:
            self.audio_encoder = DeepAudioEncoder(n_mels, width, config.audio_channels, config.audio_deltas)
        elif audio:
            self.audio_encoder = AudioEncoder(n_mels, width)
        self.drop = Dropout(drop)

        intra = lambda: Conformer(width, config.blocks, heads, config.conv_kernel, drop)
        self.v_conformer = intra() if config.conformer and visual else None
        self.a_conformer = intra() if config.conformer and audio else None
        both = visual and audio
        blocks = config.ife_blocks if config.ife and both else 0
        self.ife = nn.ModuleList(InterModal(width, heads, drop) for _ in range(blocks))
        timed = config.conformer or blocks
        self.rotary = ClockRotary(width // heads) if timed else None

        if ranges is None:
            ranges = [(-1.0, 1.0)] * n_attributes
        make_head = lambda streams: Head(width, heads, streams, drop, n_classes, ranges)
        self.fused_head = make_head(visual + audio)
        # with a single modality the fused head reads just what that modality's head would
        single = config.modality_heads and both
        self.video_head = make_head(1) if single else None
        self.audio_head = make_head(1) if single else None
        self.time_match = TimeMatch(width) if config.time_match and both else None

    def forward(self, batch: Batch) -> Outputs:
        """Scores of every head. In evaluation clips never see each other; masked input never matters."""
        encoded = []
        if self.fusion is not None:
            encoded.append((self.v_conformer, *self._see(batch)))
        if self.audio_encoder is not None:
            encoded.append((self.a_conformer, *self._hear(batch)))
        matches = None
        if self.time_match is not None and self.training:
            matches = self.time_match(*encoded[0][1:], *encoded[1][1:])
        streams = [self._within(*stream) for stream in encoded]
        video = audio = None
        if self.video_head is not None:  # before IFE, so that each modality can stand alone
            video, audio = self.video_head(streams[:1]), self.audio_head(streams[1:])
        if len(self.ife):
            (v, v_mask, v_rotation), (a, a_mask, a_rotation) = streams
            for block in self.ife:
                v, a = block(v, a, v_mask, a_mask, v_rotation, a_rotation)
            streams = [(v, v_mask, v_rotation), (a, a_mask, a_rotation)]
        return Outputs(self.fused_head(streams), video, audio, matches)

    def _see(self, batch: Batch) -> tuple:
        """Frames and flow to [B,T,D], the mask [B,T] of the steps that hold either, their times in s."""
        v_mask, o_mask = batch.video_mask, batch.flow_mask
        v = o = None
        if self.frame_encoder is not None:
            v = self._encode(self.frame_encoder, batch.frames, v_mask)
        if self.flow_encoder is not None:
            o = self._encode(self.flow_encoder, batch.flow * self.config.flow_scale, o_mask)
        mask = v_mask | o_mask if v is not None and o is not None else v_mask if o is None else o_mask
        return self.drop(self.fusion(v, o, v_mask, o_mask)), mask, batch.video_time

    def _encode(self, encoder: nn.Module, images: Tensor, mask_BT: Tensor) -> Tensor:
        """Images [B,T,C,S,S] to tokens [B,T,P,D]; what masked ones hold never matters."""
        images, mask = images.flatten(0, 1), mask_BT.flatten()
        images = images.masked_fill(~mask[:, None, None, None], 0.0)
        if not self.training:
            return encoder(images).unflatten(0, mask_BT.shape)
        if self.ranks is None:
            return encoder(only_valid(images, mask)).unflatten(0, mask_BT.shape)
        # A copy may be of another rank's image: images weigh as often as one process would copy them.
        weight = self.ranks.own(times_taken(self.ranks.whole(mask_BT).flatten()))
        return encoder(images, weight).unflatten(0, mask_BT.shape)

    def _hear(self, batch: Batch) -> tuple:
        """Log-mel to [B,ceil(L/4),D], its mask and times in s."""
        x = self.drop(self.audio_encoder(batch.logmel, batch.audio_mask))
        return x, batch.audio_mask[:, ::4], batch.audio_time[:, ::4]

    def _within(self, conformer: nn.Module | None, x: Tensor, mask: Tensor, time: Tensor) -> tuple:
        """One modality's own Conformer; its features, mask and rotations."""
        rotation = None if self.rotary is None else self.rotary(time.masked_fill(~mask, 0.0))
        return (x if conformer is None else conformer(x, mask, rotation)), mask, rotation


class Head(nn.Module):
    """Masked attentive pooling of one or two streams, then classes and bounded attributes.

    A stream that a clip lacks is pooled to zero; the head learns what that means through modality dropout.
    """

    def __init__(self, width, heads, streams, dropout, n_classes, ranges):
        super().__init__()
        self.pools = nn.ModuleList(AttentivePool(width, heads) for _ in range(streams))
        self.mix = nn.Sequential(nn.Linear(streams * width, width), nn.SiLU(), Dropout(dropout))
        self.classes = nn.Linear(width, n_classes) if n_classes else None
        self.attributes = nn.Linear(width, len(ranges)) if ranges else None
        self.register_buffer("ranges", torch.tensor(ranges, dtype=torch.float32).reshape(-1, 2))

    def forward(self, streams: Sequence[tuple]) -> Scores:
        pooled = [pool(x, mask) for pool, (x, mask, _) in zip(self.pools, streams, strict=True)]
        present = torch.stack([mask.any(dim=1) for _, mask, _ in streams]).any(dim=0)
        x = self.mix(torch.cat(pooled, dim=-1))
        logits = None if self.classes is None else self.classes(x).float()
        attributes = None
        if self.attributes is not None:
            low, high = self.ranges.unbind(dim=1)
            attributes = low + (high - low) * self.attributes(x).float().sigmoid()
        return Scores(logits, attributes, present)


def _check(config: ModelConfig, n_classes: int, n_attributes: int) -> None:
    if not (config.video or config.flow or config.audio):
        raise ConfigError("model.video, model.flow and model.audio are all off: nothing is left to look at")
    if not n_classes and not n_attributes:
        raise ConfigError(
            "nothing to predict: switch model.classes on (the corpus needs labels) or name model.attributes"
        )
    if len(config.audio_channels) == 1:
        raise ConfigError(f"model.audio_channels needs none, two or more, not {config.audio_channels}")
    if config.width % config.heads or (config.width // config.heads) % 2:
        raise ConfigError(
            f"model.width={config.width} must divide into model.heads={config.heads} heads of even width"
        )
