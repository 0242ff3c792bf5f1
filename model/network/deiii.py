"""The DE-III network: detail-enhanced intra- and inter-modal interaction (Shi et al. 2024, arXiv 2405.16701).

``docs/de-iii.md`` lists what follows the paper and what is this project's choice.

Axes: B clips, T video steps, L log-mel hops, R rows of an extra stream, P spatial tokens, D width,
C classes, A attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deiii.data.cache.stages import BUILT_IN, FACES, FLOW, LOGMEL, ExtraInput
from deiii.data.config.schema import ModelConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch
from deiii.model.distributed.layers import Dropout, RankAware
from deiii.model.network.attention import AttentivePool
from deiii.model.network.audio_encoders import AudioEncoder, DeepAudioEncoder
from deiii.model.network.conformer import Conformer
from deiii.model.network.extra_encoders import RowEncoder, check_encoders, package_encoder
from deiii.model.network.fusion import InterModal, VisualFusion
from deiii.model.network.positions import ClockRotary, Rotation
from deiii.model.network.time_match import Matches, TimeMatch
from deiii.model.network.visual_encoders import ImageEncoder, ResNetEncoder, only_valid, times_taken

HOPS_PER_STEP = 4  # log-mel hops per step of the audio encoders


@dataclass(frozen=True)
class Scores:
    """Outputs of one head.

    Attributes:
        logits: float32 [B,C], or ``None`` where no classes are predicted.
        attributes: float32 [B,A] within the corpus's ranges, or ``None`` where none are predicted.
        present: bool [B], whether the clip has what this head reads.
    """

    logits: Tensor | None
    attributes: Tensor | None
    present: Tensor

    def __repr__(self) -> str:
        shapes = {n: None if x is None else list(x.shape) for n, x in vars(self).items()}
        return f"Scores({', '.join(f'{name}={shape}' for name, shape in shapes.items())})"


@dataclass(frozen=True)
class Outputs:
    """Outputs of the network.

    Attributes:
        fused: the head that reads all modalities.
        video, audio: the heads of one modality, or ``None`` where they are off.
        matches: what L_S reads, in training alone.
    """

    fused: Scores
    video: Scores | None = None
    audio: Scores | None = None
    matches: Matches | None = None

    def heads(self) -> dict[str, Scores]:
        """Return the heads that exist, by name."""
        named = {"fused": self.fused, "video": self.video, "audio": self.audio}
        return {name: scores for name, scores in named.items() if scores is not None}


class Encoded(NamedTuple):
    """One modality after its encoder: features [B,T,D], mask bool [B,T], times float32 [B,T] in s."""

    features: Tensor
    mask: Tensor
    time: Tensor


class Stream(NamedTuple):
    """One modality after its Conformer: features [B,T,D], mask bool [B,T], rotations of the steps."""

    features: Tensor
    mask: Tensor
    rotation: Rotation | None


class DEIII(RankAware, nn.Module):
    """DE-III for face crops, optical flow and log-mel spectrograms, or for some of them.

    Args:
        config: widths and switches.
        n_classes: C; ignored where ``config.classes`` is off.
        n_attributes: A; zero for none.
        n_mels: mel bands of the log-mel input.
        ranges: lowest and highest value of each attribute; [-1, 1] where not given.
        imagenet: path of the weights that a ``config.imagenet`` trunk starts from; ``None`` for random ones.
        extra: the stages of ``config.extra`` (`deiii.data.cache.stages.extra_inputs`). Each is encoded, goes
            through a Conformer of its own and joins the steps of its modality, at its own times.

    Raises:
        ConfigError: the settings contradict each other, or leave nothing to read or to predict.

    >>> network = DEIII(ModelConfig(width=32, flow=False), n_classes=8, n_attributes=0, n_mels=80)
    >>> network.flow_encoder is None
    True
    """

    def __init__(
        self,
        config: ModelConfig,
        n_classes: int,
        n_attributes: int = 0,
        n_mels: int = 80,
        ranges: Sequence[tuple[float, float]] | None = None,
        imagenet: str | Path | None = None,
        extra: Sequence[ExtraInput] = (),
    ):
        super().__init__()
        n_classes = n_classes if config.classes else 0
        _check(config, extra, n_classes, n_attributes)
        if ranges is None:
            ranges = [(-1.0, 1.0)] * n_attributes
        width, heads = config.width, config.heads
        visual, audio = config.video or config.flow, config.audio
        of_modality = {m: [x.name for x in extra if x.modality == m] for m in ("video", "audio")}
        modalities = (visual or bool(of_modality["video"])) + (audio or bool(of_modality["audio"]))
        self.config = config
        # The order of these lines decides the initial weights of a seed and the numbers of the parameters in
        # the optimiser's state: a new part goes to the end.
        self.frame_encoder = _frame_encoder(config, imagenet)
        self.flow_encoder = _flow_encoder(config)
        self.fusion = _fusion(config) if visual else None
        self.audio_encoder = _audio_encoder(config, n_mels)
        self.drop = Dropout(config.dropout)
        self.v_conformer = _conformer(config) if config.conformer and visual else None
        self.a_conformer = _conformer(config) if config.conformer and audio else None
        ife_blocks = config.ife_blocks if config.ife and modalities == 2 else 0
        self.ife = nn.ModuleList(InterModal(width, heads, config.dropout) for _ in range(ife_blocks))
        self.rotary = ClockRotary(width // heads) if config.conformer or ife_blocks else None
        self.fused_head = Head(config, modalities, n_classes, ranges)
        # With a single modality, its own head would read the same as the fused head.
        own_heads = config.modality_heads and modalities == 2
        self.video_head = Head(config, 1, n_classes, ranges) if own_heads else None
        self.audio_head = Head(config, 1, n_classes, ranges) if own_heads else None
        self.time_match = TimeMatch(width) if config.time_match and visual and audio else None
        self.of_modality = of_modality
        self.extra_encoders = nn.ModuleDict({x.name: _extra_encoder(config, x) for x in extra})
        self.extra_conformers = nn.ModuleDict({x.name: _conformer(config) for x in extra if config.conformer})

    def forward(self, batch: Batch) -> Outputs:
        """Return the outputs of every head.

        In evaluation no clip has an effect on another one. What masked input holds has no effect.
        """
        video = self._encode_video(batch)
        audio = self._encode_audio(batch)
        matches = None
        if self.time_match is not None and self.training and video is not None and audio is not None:
            matches = self.time_match(*video, *audio)
        v = None if video is None else self._within(self.v_conformer, video)
        a = None if audio is None else self._within(self.a_conformer, audio)
        v = self._beside(v, self.of_modality["video"], batch)
        a = self._beside(a, self.of_modality["audio"], batch)
        # The heads of one modality read it before IFE, so that it can stand alone.
        video_scores = self.video_head([v]) if self.video_head is not None else None
        audio_scores = self.audio_head([a]) if self.audio_head is not None else None
        if v is not None and a is not None:
            v, a = self._between(v, a)
        fused = self.fused_head([stream for stream in (v, a) if stream is not None])
        return Outputs(fused, video_scores, audio_scores, matches)

    def _encode_video(self, batch: Batch) -> Encoded | None:
        """Encode and fuse frames and flow; the mask is true for steps that hold either."""
        if self.fusion is None:
            return None
        v_mask, o_mask = batch.video_mask, batch.flow_mask
        v = o = None
        if self.frame_encoder is not None:
            v = self._encode_images(self.frame_encoder, batch.frames, v_mask)
        if self.flow_encoder is not None:
            o = self._encode_images(self.flow_encoder, batch.flow * self.config.flow_scale, o_mask)
        if v is None:
            mask = o_mask
        elif o is None:
            mask = v_mask
        else:
            mask = v_mask | o_mask
        return Encoded(self.drop(self.fusion(v, o, v_mask, o_mask)), mask, batch.video_time)

    def _encode_images(self, encoder: nn.Module, images: Tensor, mask_BT: Tensor) -> Tensor:
        """Encode images [B,T,C,S,S] as tokens [B,T,P,D]; what masked images hold has no effect."""
        images, mask = images.flatten(0, 1), mask_BT.flatten()
        images = images.masked_fill(~mask[:, None, None, None], 0.0)
        if not self.training:
            return encoder(images).unflatten(0, mask_BT.shape)
        if self.ranks is None:
            return encoder(only_valid(images, mask)).unflatten(0, mask_BT.shape)
        # A copy may be of another rank's image: images weigh as often as one process would copy them.
        weight = self.ranks.own(times_taken(self.ranks.whole(mask_BT).flatten()))
        return encoder(images, weight).unflatten(0, mask_BT.shape)

    def _encode_audio(self, batch: Batch) -> Encoded | None:
        """Encode log-mel [B,L,M] as features [B,ceil(L/4),D]."""
        if self.audio_encoder is None:
            return None
        features = self.drop(self.audio_encoder(batch.logmel, batch.audio_mask))
        return Encoded(features, batch.audio_mask[:, ::HOPS_PER_STEP], batch.audio_time[:, ::HOPS_PER_STEP])

    def _within(self, conformer: nn.Module | None, encoded: Encoded) -> Stream:
        """Intra-modal interaction: apply the modality's own Conformer."""
        x, mask, time = encoded
        rotation = None if self.rotary is None else self.rotary(time.masked_fill(~mask, 0.0))
        return Stream(x if conformer is None else conformer(x, mask, rotation), mask, rotation)

    def _beside(self, stream: Stream | None, names: Sequence[str], batch: Batch) -> Stream | None:
        """Append the steps of a modality's extra streams to its own, which may be missing.

        Attention and pooling do not depend on the order of steps, so that every row keeps its own time on
        the media clock and no stream is resampled to another one's rate.
        """
        streams = [] if stream is None else [stream]
        for name in names:
            extra = batch.extra[name]
            features = self.drop(self.extra_encoders[name](extra.values, extra.mask))
            conformer = self.extra_conformers[name] if name in self.extra_conformers else None
            streams.append(self._within(conformer, Encoded(features, extra.mask, extra.time)))
        if len(streams) < 2:
            return streams[0] if streams else None
        rotations = [s.rotation for s in streams if s.rotation is not None]
        rotation = None
        if rotations:
            rotation = (torch.cat([r[0] for r in rotations], 2), torch.cat([r[1] for r in rotations], 2))
        features = torch.cat([s.features for s in streams], dim=1)
        return Stream(features, torch.cat([s.mask for s in streams], dim=1), rotation)

    def _between(self, video: Stream, audio: Stream) -> tuple[Stream, Stream]:
        """Inter-modal interaction: apply the IFE blocks."""
        v, a = video.features, audio.features
        for block in self.ife:
            v, a = block(v, a, video.mask, audio.mask, video.rotation, audio.rotation)
        return video._replace(features=v), audio._replace(features=a)


def _frame_encoder(config: ModelConfig, imagenet: str | Path | None) -> nn.Module | None:
    if not config.video:
        return None
    if (own := package_encoder(config, FACES.name, (3,))) is not None:
        return own
    if config.imagenet:
        return ResNetEncoder(config.width, config.grid, imagenet)
    return ImageEncoder(3, config.channels, config.width, config.grid)


def _flow_encoder(config: ModelConfig) -> nn.Module | None:
    if not config.flow:
        return None
    if (own := package_encoder(config, FLOW.name, (2,))) is not None:
        return own
    return ImageEncoder(2, config.channels, config.width, config.grid)


def _extra_encoder(config: ModelConfig, extra: ExtraInput) -> nn.Module:
    own = package_encoder(config, extra.name, extra.shape)
    return RowEncoder(extra.shape, config.width) if own is None else own


def _fusion(config: ModelConfig) -> VisualFusion:
    attention = config.ov == "attention"
    return VisualFusion(config.width, config.heads, config.dropout, config.video, config.flow, attention)


def _audio_encoder(config: ModelConfig, n_mels: int) -> nn.Module | None:
    if not config.audio:
        return None
    if (own := package_encoder(config, LOGMEL.name, (n_mels,))) is not None:
        return own
    if config.audio_channels:
        return DeepAudioEncoder(n_mels, config.width, config.audio_channels, config.audio_deltas)
    return AudioEncoder(n_mels, config.width)


def _conformer(config: ModelConfig) -> Conformer:
    return Conformer(config.width, config.blocks, config.heads, config.conv_kernel, config.dropout)


class Head(nn.Module):
    """Masked attentive pooling of one or two modalities, then classes and bounded attributes.

    A modality that a clip lacks is pooled to zero; modality dropout trains the head for that case.

    Args:
        config: widths.
        streams: number of modalities.
        n_classes: C; zero for none.
        ranges: the lowest and the highest value of each of the A attributes.
    """

    ranges: Tensor  # float32 [A,2]

    def __init__(
        self, config: ModelConfig, streams: int, n_classes: int, ranges: Sequence[tuple[float, float]]
    ):
        super().__init__()
        width = config.width
        self.pools = nn.ModuleList(AttentivePool(width, config.heads) for _ in range(streams))
        self.mix = nn.Sequential(nn.Linear(streams * width, width), nn.SiLU(), Dropout(config.dropout))
        self.classes = nn.Linear(width, n_classes) if n_classes else None
        self.attributes = nn.Linear(width, len(ranges)) if ranges else None
        self.register_buffer("ranges", torch.tensor(ranges, dtype=torch.float32).reshape(-1, 2))

    def forward(self, streams: Sequence[Stream]) -> Scores:
        """Return the head's outputs for the modalities, in the order of the pools."""
        pooled = [pool(s.features, s.mask) for pool, s in zip(self.pools, streams, strict=True)]
        present = torch.stack([s.mask.any(dim=1) for s in streams]).any(dim=0)
        x = self.mix(torch.cat(pooled, dim=-1))
        logits = None if self.classes is None else self.classes(x).float()
        attributes = None
        if self.attributes is not None:
            low, high = self.ranges.unbind(dim=1)
            attributes = low + (high - low) * self.attributes(x).float().sigmoid()
        return Scores(logits, attributes, present)


def _check(config: ModelConfig, extra: Sequence[ExtraInput], n_classes: int, n_attributes: int) -> None:
    if [x.name for x in extra] != config.extra:
        raise ConfigError(f"model.extra={config.extra}, but the network was given {[x.name for x in extra]}")
    own = [stage.name for stage in BUILT_IN if getattr(config, stage.switch)]
    check_encoders(config, [*own, *config.extra])
    if not own and not extra:
        raise ConfigError("model.video, model.flow and model.audio are all off: switch at least one on")
    if not n_classes and not n_attributes:
        raise ConfigError(
            "there is nothing to predict: switch model.classes on (the corpus needs labels), "
            "or name attributes in model.attributes"
        )
    if len(config.audio_channels) == 1:
        raise ConfigError(f"model.audio_channels={config.audio_channels}: give no number, or two or more")
    if config.width % config.heads or (config.width // config.heads) % 2:
        raise ConfigError(
            f"model.width={config.width} must divide into model.heads={config.heads} heads of even width"
        )
