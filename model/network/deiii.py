"""The DE-III network: detail-enhanced intra- and inter-modal interaction (Shi et al. 2024, arXiv 2405.16701).

``docs/de-iii.md`` lists what follows the paper and what is this project's choice.

Axes: B clips, T video steps, L log-mel hops, R rows of an extra stream, P spatial tokens, D width,
C classes, A attributes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from deiii.data.cache.stages import ExtraInput
from deiii.data.config.schema import ModelConfig
from deiii.data.loader.batch import Batch
from deiii.model.distributed.layers import Dropout
from deiii.model.network.attention import StatisticsPool, keys_of
from deiii.model.network.conformer import Conformer
from deiii.model.network.extra_encoders import PooledEncoder, interleave
from deiii.model.network.fusion import InterModal
from deiii.model.network.gpu.side_stream import SideStream
from deiii.model.network.heads import Encoded, Head, Outputs, Stream, Vector
from deiii.model.network.inputs.build import (
    audio_encoder,
    balance_factors,
    check_inputs,
    extra_encoder,
    flow_encoder,
    frame_encoder,
    pooled_width,
    visual_fusion,
)
from deiii.model.network.inputs.network import Network
from deiii.model.network.positions import ClockRotary
from deiii.model.network.time_match import TimeMatch


class DEIII(Network):
    """DE-III for face crops, optical flow and log-mel spectrograms, or for some of them.

    Args:
        config: widths and switches.
        n_classes: C; ignored where ``config.classes`` is off.
        n_attributes: A; zero for none.
        n_mels: mel bands of the log-mel input.
        ranges: lowest and highest value of each attribute; [-1, 1] where not given.
        imagenet: path of the weights that a ``config.imagenet`` trunk starts from; ``None`` for random ones.
        extra: the stages of ``config.extra`` (`deiii.data.cache.stages.extra_inputs`). Each is encoded and
            joins the steps of its modality at its own times, or the heads, as ``config.join`` states.
        flow_channels: channels of the flow input (`deiii.data.loader.sampling.flow_channels`).

    Raises:
        ConfigError: the settings contradict each other, or leave nothing to read or to predict.
        PluginError: the encoder of an installed package cannot be imported.
        WeightsError: ``imagenet`` does not hold the weights of a ResNet-18.

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
        flow_channels: int = 2,
    ):
        super().__init__()
        n_classes = n_classes if config.classes else 0
        check_inputs(config, extra, n_classes, n_attributes)
        if ranges is None:
            ranges = [(-1.0, 1.0)] * n_attributes
        width, heads = config.width, config.heads
        of_modality = {m: [x.name for x in extra if x.modality == m] for m in ("video", "audio")}
        none: dict[str, list[str]] = {"video": [], "audio": []}
        # Stages whose rows are treated like the outputs of the encoders of their modality.
        inside = of_modality if config.join in ("conformer", "fusion") else none
        as_tokens = inside["video"] if config.join == "fusion" else []
        visual, audio = config.video or config.flow or bool(as_tokens), config.audio
        self.config = config
        self.as_tokens = as_tokens
        self.among_steps = {m: [n for n in names if n not in as_tokens] for m, names in inside.items()}
        self.beside = of_modality if config.join == "separate" else none
        self.pooled = of_modality if config.join == "pooled" else none
        own = {"video": visual or bool(inside["video"]), "audio": audio or bool(inside["audio"])}
        steps = {m: own[m] or bool(self.beside[m]) for m in own}  # whether a modality has steps over time
        self.steps = steps
        modalities = sum(steps[m] or bool(self.pooled[m]) for m in own)
        self.factors = balance_factors(config, extra)
        vectors = {m: sum(pooled_width(config, x) for x in extra if x.name in self.pooled[m]) for m in own}
        # The order of these lines decides the initial weights of a seed and the numbers of the parameters in
        # the optimiser's state: a new part goes to the end.
        self.frame_encoder = frame_encoder(config, imagenet)
        self.flow_encoder = flow_encoder(config, flow_channels)
        self.fusion = visual_fusion(config, len(as_tokens), config.ov == "attention") if visual else None
        self.audio_encoder = audio_encoder(config, n_mels)
        self.drop = Dropout(config.dropout)
        self.v_conformer = _conformer(config) if config.conformer and own["video"] else None
        self.a_conformer = _conformer(config) if config.conformer and own["audio"] else None
        ife_blocks = config.ife_blocks if config.ife and all(steps.values()) else 0
        self.ife = nn.ModuleList(InterModal(width, heads, config.dropout) for _ in range(ife_blocks))
        self.rotary = ClockRotary(width // heads) if config.conformer or ife_blocks else None
        self.fused_head = Head(config, sum(steps.values()), n_classes, ranges, sum(vectors.values()))
        # With a single modality, its own head would have the same input as the fused head.
        own_heads = config.modality_heads and modalities == 2
        self.video_head, self.audio_head = (
            Head(config, int(steps[m]), n_classes, ranges, vectors[m]) if own_heads else None for m in own
        )
        self.time_match = TimeMatch(width) if config.time_match and visual and audio else None
        self.extra_encoders = nn.ModuleDict({x.name: extra_encoder(config, x) for x in extra})
        self.extra_conformers = nn.ModuleDict(
            {
                x.name: _conformer(config)
                for x in extra
                if config.conformer and x.name in self.beside[x.modality]
            }
        )

    def forward(self, batch: Batch) -> Outputs:
        """Return the outputs of every head.

        In evaluation no clip has an effect on another one. The values of masked inputs have no effect.
        """
        side = SideStream("audio", batch.label.device)
        video = self.encode_video(batch)
        with side:
            audio = self.encode_audio(batch)
        matches = None
        if self.time_match is not None and self.training and video is not None and audio is not None:
            side.synchronise(video, audio)
            matches = self.time_match(*video, *audio)
        v = self._modality("video", self.v_conformer, video, batch)
        with side:
            a = self._modality("audio", self.a_conformer, audio, batch)
        side.join(a)
        # The heads of one modality read its features before IFE, which would add those of the other one.
        of_video, of_audio = (
            [self.pooled_stage(n, batch) for n in self.pooled[m]] for m in ("video", "audio")
        )
        video_scores = self.video_head(existing(v), of_video) if self.video_head is not None else None
        audio_scores = self.audio_head(existing(a), of_audio) if self.audio_head is not None else None
        if v is not None and a is not None:
            v, a = self._between(v, a)
        fused = self.fused_head(existing(v, a), [*of_video, *of_audio])
        return Outputs(fused, video_scores, audio_scores, matches)

    def head_inputs(self, head: str = "fused_head") -> dict[str, slice]:
        """Return the place of each part among the pooled features that a head reads.

        Parts are the modalities that have steps over time, by name, then the stages that enter pooled.

        Args:
            head: fused_head, video_head or audio_head.
        """
        read = ("video", "audio") if head == "fused_head" else (head.removesuffix("_head"),)
        of_steps = self.config.width * (2 if self.config.pool == "statistics" else 1)
        widths = {m: of_steps for m in read if self.steps[m]}
        for name in (name for m in read for name in self.pooled[m]):
            encoder = self.extra_encoders[name]
            widths[name] = encoder.width if isinstance(encoder, PooledEncoder) else 2 * self.config.width
        ends = itertools.accumulate(widths.values())
        return {name: slice(end - widths[name], end) for name, end in zip(widths, ends, strict=True)}

    def _modality(
        self, modality: str, conformer: nn.Module | None, encoded: Encoded | None, batch: Batch
    ) -> Stream | None:
        """Apply the Conformer of a modality and add its extra streams; ``None`` where it has no input.

        Every row keeps its own time on the media clock: no stream is resampled to another one's rate.
        """
        parts = [] if encoded is None else [encoded]
        parts += [self.encode_extra(name, batch) for name in self.among_steps[modality]]
        streams = [self._within(conformer, interleave(parts))] if parts else []
        for name in self.beside[modality]:
            own = self.extra_conformers[name] if name in self.extra_conformers else None
            streams.append(self._within(own, self.encode_extra(name, batch)))
        if len(streams) < 2:
            return streams[0] if streams else None
        # Attention and pooling do not depend on the order of steps.
        rotations = [s.rotation for s in streams if s.rotation is not None]
        rotation = None
        if rotations:
            rotation = (torch.cat([r[0] for r in rotations], 2), torch.cat([r[1] for r in rotations], 2))
        features = torch.cat([s.features for s in streams], dim=1)
        return Stream(features, torch.cat([s.mask for s in streams], dim=1), rotation)

    def pooled_stage(self, name: str, batch: Batch) -> Vector:
        """Pool the rows of a stage of ``model.extra`` over the clip, as the heads read them."""
        extra, encoder = batch.extra[name], self.extra_encoders[name]
        vector = encoder(extra.values, extra.mask)
        if not isinstance(encoder, PooledEncoder):  # a package's encoder gives rows
            vector = StatisticsPool()(vector, extra.mask)
        if self.factors:
            vector = vector * self.factors[name]
        return Vector(self.drop(vector), extra.mask.any(dim=1))

    def _within(self, conformer: nn.Module | None, encoded: Encoded) -> Stream:
        """Intra-modal interaction: apply a Conformer over the steps of one stream."""
        x, mask, time = encoded
        keys = keys_of(mask)
        rotation = None if self.rotary is None else self.rotary(time.masked_fill(keys.hidden, 0.0))
        return Stream(x if conformer is None else conformer(x, keys, rotation), mask, rotation, keys)

    def _between(self, video: Stream, audio: Stream) -> tuple[Stream, Stream]:
        """Inter-modal interaction: apply the IFE blocks."""
        v, a = video.features, audio.features
        v_keys, a_keys = video.keys, audio.keys
        for block in self.ife:
            v, a = block(v, a, v_keys, a_keys, video.rotation, audio.rotation)
        return video._replace(features=v), audio._replace(features=a)


def existing(*streams: Stream | None) -> list[Stream]:
    """Return the streams that are not ``None``."""
    return [stream for stream in streams if stream is not None]


def _conformer(config: ModelConfig) -> Conformer:
    return Conformer(config.width, config.blocks, config.heads, config.conv_kernel, config.dropout)
