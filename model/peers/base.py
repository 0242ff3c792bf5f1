"""Base of the peers: the encoders of DE-III, one sequence per modality, and the same heads.

A peer differs from DE-III in what happens between encoders and heads: no OV (frames and flow of a step are
pooled, concatenated and projected), no IFE, and rows of the stages in ``model.extra`` join the steps of their
modality in the order of the media clock (or as tokens of their step, with ``model.join=fusion``).

Axes: B clips, T steps of a modality, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from deiii.data.cache.stages import ExtraInput
from deiii.data.config.schema import ModelConfig
from deiii.data.loader.batch import Batch
from deiii.model.distributed.layers import Dropout
from deiii.model.network.extra_encoders import interleave
from deiii.model.network.heads import Encoded, Head, Outputs, Scores
from deiii.model.network.inputs.build import (
    audio_encoder,
    check_inputs,
    extra_encoder,
    flow_encoder,
    frame_encoder,
    visual_fusion,
)
from deiii.model.network.inputs.network import Network

MODALITIES = ("video", "audio")


class Peer(Network):
    """A network that is compared with DE-III; a subclass adds its layers and `fuse`.

    Args: those of `deiii.model.network.deiii.DEIII`.

    Attributes:
        modalities: names of the modalities that have an input, video first.

    Raises:
        ConfigError: the settings contradict each other, leave nothing to read or to predict, or ask for
            what this network does not have.
        PluginError, WeightsError: as for `deiii.model.network.deiii.DEIII`.
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
        self.config = config
        self.n_classes = n_classes
        self.ranges = [(-1.0, 1.0)] * n_attributes if ranges is None else list(ranges)
        of_video = [x.name for x in extra if x.modality == "video"]
        self.as_tokens = of_video if config.join == "fusion" else []
        self.among_steps = {
            "video": [name for name in of_video if name not in self.as_tokens],
            "audio": [x.name for x in extra if x.modality == "audio"],
        }
        visual = config.video or config.flow or bool(self.as_tokens)
        self.frame_encoder = frame_encoder(config, imagenet)
        self.flow_encoder = flow_encoder(config, flow_channels)
        self.fusion = visual_fusion(config, len(self.as_tokens), attention=False) if visual else None
        self.audio_encoder = audio_encoder(config, n_mels)
        self.extra_encoders = nn.ModuleDict({x.name: extra_encoder(config, x) for x in extra})
        self.drop = Dropout(config.dropout)
        own = {"video": visual, "audio": config.audio}
        self.modalities = tuple(m for m in MODALITIES if own[m] or self.among_steps[m])

    def forward(self, batch: Batch) -> Outputs:
        """Return the outputs of every head."""
        return self.fuse({modality: self.sequence(modality, batch) for modality in self.modalities})

    def fuse(self, sequences: Mapping[str, Encoded]) -> Outputs:
        """Return the outputs from the encoded steps of each modality in `modalities`."""
        raise NotImplementedError(f"{type(self).__name__} has no fuse")

    def sequence(self, modality: str, batch: Batch) -> Encoded:
        """Encode a modality; features and times of masked steps are zero."""
        return _zeros_where_masked(interleave(list(self.parts(modality, batch).values())))

    def parts(self, modality: str, batch: Batch) -> dict[str, Encoded]:
        """Encode the streams of a modality, not yet merged: its own by its name, and stages by theirs."""
        own = self.encode_video(batch) if modality == "video" else self.encode_audio(batch)
        found = {} if own is None else {modality: own}
        found |= {name: self.encode_extra(name, batch) for name in self.among_steps[modality]}
        return {name: _zeros_where_masked(part) for name, part in found.items()}

    def head(self, streams: int = 1) -> Head:
        """Return a new head that reads some streams."""
        return Head(self.config, streams, self.n_classes, self.ranges)


def _zeros_where_masked(encoded: Encoded) -> Encoded:
    x, mask, time = encoded
    return Encoded(x.masked_fill(~mask[..., None], 0.0), mask, time.masked_fill(~mask, 0.0))


def averaged(each: Sequence[Scores]) -> Scores:
    """Return the mean of the outputs of several heads, over those that have what they read.

    Logits are averaged before the softmax; a clip that none of the heads can read gets zeros.
    """
    present_HB = torch.stack([scores.present for scores in each])
    weight_HB1 = (present_HB / present_HB.sum(dim=0).clamp_min(1))[..., None]

    def mean(values: list[torch.Tensor | None]) -> torch.Tensor | None:
        known = [v for v in values if v is not None]
        return (weight_HB1 * torch.stack(known)).sum(dim=0) if known else None

    return Scores(
        mean([scores.logits for scores in each]),
        mean([scores.attributes for scores in each]),
        present_HB.any(dim=0),
    )
