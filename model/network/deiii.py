"""The DE-III network: detail-enhanced intra- and inter-modal interaction (Shi et al. 2024, arXiv 2405.16701).

``docs/de-iii.md`` lists what follows the paper and what is this project's choice.

Axes: B clips, T video steps, L log-mel hops, R rows of an extra stream, P spatial tokens, D width,
C classes, A attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deiii.data.cache.stages import BUILT_IN, FACES, FLOW, LOGMEL, ExtraInput
from deiii.data.config.schema import ModelConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch
from deiii.model.distributed.layers import Dropout, RankAware
from deiii.model.network.audio_encoders import AudioEncoder, DeepAudioEncoder
from deiii.model.network.conformer import Conformer
from deiii.model.network.extra_encoders import RowEncoder, check_encoders, interleave, package_encoder
from deiii.model.network.fusion import InterModal, VisualFusion
from deiii.model.network.heads import Encoded, Head, Scores, Stream
from deiii.model.network.positions import ClockRotary
from deiii.model.network.time_match import Matches, TimeMatch
from deiii.model.network.visual_encoders import ImageEncoder, ResNetEncoder, only_valid, times_taken

HOPS_PER_STEP = 4  # log-mel hops per step of the audio encoders


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


class DEIII(RankAware, nn.Module):
    """DE-III for face crops, optical flow and log-mel spectrograms, or for some of them.

    Args:
        config: widths and switches.
        n_classes: C; ignored where ``config.classes`` is off.
        n_attributes: A; zero for none.
        n_mels: mel bands of the log-mel input.
        ranges: lowest and highest value of each attribute; [-1, 1] where not given.
        imagenet: path of the weights that a ``config.imagenet`` trunk starts from; ``None`` for random ones.
        extra: the stages of ``config.extra`` (`deiii.data.cache.stages.extra_inputs`). Each is encoded and
            joins the steps of its modality at its own times, where ``config.join`` says.

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
        of_modality = {m: [x.name for x in extra if x.modality == m] for m in ("video", "audio")}
        # The stages whose rows are encoder outputs of their modality like any other.
        inside = of_modality if config.join != "separate" else {"video": [], "audio": []}
        as_tokens = inside["video"] if config.join == "fusion" else []
        visual, audio = config.video or config.flow or bool(as_tokens), config.audio
        modalities = (visual or bool(of_modality["video"])) + (audio or bool(of_modality["audio"]))
        self.config = config
        self.as_tokens = as_tokens
        self.among_steps = {m: [n for n in names if n not in as_tokens] for m, names in inside.items()}
        self.beside = {m: [n for n in names if n not in inside[m]] for m, names in of_modality.items()}
        # The order of these lines decides the initial weights of a seed and the numbers of the parameters in
        # the optimiser's state: a new part goes to the end.
        self.frame_encoder = _frame_encoder(config, imagenet)
        self.flow_encoder = _flow_encoder(config)
        self.fusion = _fusion(config, len(as_tokens)) if visual else None
        self.audio_encoder = _audio_encoder(config, n_mels)
        self.drop = Dropout(config.dropout)
        own = {"video": visual or inside["video"], "audio": audio or inside["audio"]}
        self.v_conformer = _conformer(config) if config.conformer and own["video"] else None
        self.a_conformer = _conformer(config) if config.conformer and own["audio"] else None
        ife_blocks = config.ife_blocks if config.ife and modalities == 2 else 0
        self.ife = nn.ModuleList(InterModal(width, heads, config.dropout) for _ in range(ife_blocks))
        self.rotary = ClockRotary(width // heads) if config.conformer or ife_blocks else None
        self.fused_head = Head(config, modalities, n_classes, ranges)
        # With a single modality, its own head would read the same as the fused head.
        own_heads = config.modality_heads and modalities == 2
        self.video_head = Head(config, 1, n_classes, ranges) if own_heads else None
        self.audio_head = Head(config, 1, n_classes, ranges) if own_heads else None
        self.time_match = TimeMatch(width) if config.time_match and visual and audio else None
        self.extra_encoders = nn.ModuleDict({x.name: _extra_encoder(config, x) for x in extra})
        self.extra_conformers = nn.ModuleDict(
            {
                x.name: _conformer(config)
                for x in extra
                if config.conformer and x.name in self.beside[x.modality]
            }
        )

    def forward(self, batch: Batch) -> Outputs:
        """Return the outputs of every head.

        In evaluation no clip has an effect on another one. What masked input holds has no effect.
        """
        video = self._encode_video(batch)
        audio = self._encode_audio(batch)
        matches = None
        if self.time_match is not None and self.training and video is not None and audio is not None:
            matches = self.time_match(*video, *audio)
        v = self._modality("video", self.v_conformer, video, batch)
        a = self._modality("audio", self.a_conformer, audio, batch)
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
        v = o = tokens = None
        if self.frame_encoder is not None:
            v = self._encode_images(self.frame_encoder, batch.frames, v_mask)
        if self.as_tokens:
            v, tokens = self._add_tokens(v, v_mask, batch)
            v_mask = tokens.any(dim=2)
        if self.flow_encoder is not None:
            o = self._encode_images(self.flow_encoder, batch.flow * self.config.flow_scale, o_mask)
        if v is None:
            mask = o_mask
        elif o is None:
            mask = v_mask
        else:
            mask = v_mask | o_mask
        return Encoded(self.drop(self.fusion(v, o, v_mask, o_mask, tokens)), mask, batch.video_time)

    def _add_tokens(self, v_BTPD: Tensor | None, v_mask: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Append the vectors of pretrained encoders to the frame tokens of their step.

        Returns:
            the tokens [B,T,P,D] and the mask of each, bool [B,T,P].
        """
        tokens = [] if v_BTPD is None else [v_BTPD]
        masks = [] if v_BTPD is None else [v_mask[..., None].expand(v_BTPD.shape[:3])]
        for name in self.as_tokens:
            extra = batch.extra[name]
            tokens.append(self.extra_encoders[name](extra.values, extra.mask)[:, :, None])
            masks.append(extra.mask[..., None])
        return torch.cat(tokens, dim=2), torch.cat(masks, dim=2)

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

    def _modality(
        self, modality: str, conformer: nn.Module | None, encoded: Encoded | None, batch: Batch
    ) -> Stream | None:
        """Apply the Conformer of a modality and add its extra streams; ``None`` where it has no input.

        Every row keeps its own time on the media clock: no stream is resampled to another one's rate.
        """
        parts = [] if encoded is None else [encoded]
        parts += [self._encode_extra(name, batch) for name in self.among_steps[modality]]
        streams = [self._within(conformer, interleave(parts))] if parts else []
        for name in self.beside[modality]:
            own = self.extra_conformers[name] if name in self.extra_conformers else None
            streams.append(self._within(own, self._encode_extra(name, batch)))
        if len(streams) < 2:
            return streams[0] if streams else None
        # Attention and pooling do not depend on the order of steps.
        rotations = [s.rotation for s in streams if s.rotation is not None]
        rotation = None
        if rotations:
            rotation = (torch.cat([r[0] for r in rotations], 2), torch.cat([r[1] for r in rotations], 2))
        features = torch.cat([s.features for s in streams], dim=1)
        return Stream(features, torch.cat([s.mask for s in streams], dim=1), rotation)

    def _encode_extra(self, name: str, batch: Batch) -> Encoded:
        """Encode the rows of a stage of ``model.extra``."""
        extra = batch.extra[name]
        return Encoded(self.drop(self.extra_encoders[name](extra.values, extra.mask)), extra.mask, extra.time)

    def _within(self, conformer: nn.Module | None, encoded: Encoded) -> Stream:
        """Intra-modal interaction: apply a Conformer over the steps of one stream."""
        x, mask, time = encoded
        rotation = None if self.rotary is None else self.rotary(time.masked_fill(~mask, 0.0))
        return Stream(x if conformer is None else conformer(x, mask, rotation), mask, rotation)

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
    return RowEncoder(extra.shape, config.width, config.standardise) if own is None else own


def _fusion(config: ModelConfig, vectors: int) -> VisualFusion:
    """OV of the frame encoder's tokens, of ``vectors`` vectors a step beside or instead of them, and flow."""
    return VisualFusion(
        config.width,
        config.heads,
        config.dropout,
        frames=config.video or vectors > 0,
        flow=config.flow,
        attention=config.ov == "attention",
        one_token=not config.video and vectors == 1,
    )


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
