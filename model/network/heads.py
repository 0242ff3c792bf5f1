"""The heads of the network: masked pooling of one or two modalities, then classes and bounded attributes.

Axes: B clips, T steps, C classes, A attributes, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deiii.data.config.schema import ModelConfig
from deiii.model.distributed.layers import Dropout
from deiii.model.network.attention import AttentivePool, Keys, StatisticsPool, keys_of
from deiii.model.network.positions import Rotation
from deiii.model.network.time_match import Matches


@dataclass(frozen=True)
class Scores:
    """Outputs of one head.

    Attributes:
        logits: float32 [B,C], or ``None`` where no classes are predicted.
        attributes: float32 [B,A] within the corpus's ranges, or ``None`` where none are predicted.
        present: bool [B], whether the clip has an input of this head.
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
        matches: the input of the loss L_S (`deiii.model.network.time_match.match_loss`); ``None`` where L_S
            is off, and in evaluation.
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


class Vector(NamedTuple):
    """A stage that enters a head pooled: features, float [B,F], and whether a clip has any rows, bool [B]."""

    features: Tensor
    present: Tensor


class Stream(NamedTuple):
    """One modality after its Conformer: features [B,T,D], mask bool [B,T], rotations of the steps.

    ``derived`` holds the `Keys` of the mask if they were computed before; see `keys`.
    """

    features: Tensor
    mask: Tensor
    rotation: Rotation | None
    derived: Keys | None = None

    @property
    def keys(self) -> Keys:
        """The mask as `Keys`."""
        return keys_of(self.mask) if self.derived is None else self.derived


class Head(nn.Module):
    """Masked pooling of up to two modalities (``config.pool``), then classes and bounded attributes.

    A modality that a clip lacks is pooled to zero. Modality dropout produces this case in training.

    Args:
        config: widths.
        streams: number of modalities that have steps over time.
        n_classes: C; zero for none.
        ranges: the lowest and the highest value of each of the A attributes.
        vectors: number of features of the stages that enter pooled.
    """

    ranges: Tensor  # float32 [A,2]

    def __init__(
        self,
        config: ModelConfig,
        streams: int,
        n_classes: int,
        ranges: Sequence[tuple[float, float]],
        vectors: int = 0,
    ):
        super().__init__()
        width = config.width
        statistics = config.pool == "statistics"
        dropout = Dropout(config.dropout if config.head_dropout is None else config.head_dropout)
        self.pools = nn.ModuleList(
            StatisticsPool() if statistics else AttentivePool(width, config.heads) for _ in range(streams)
        )
        pooled = streams * width * (2 if statistics else 1) + vectors
        if config.head == "hidden":
            self.mix = nn.Sequential(nn.Linear(pooled, width), nn.SiLU(), dropout)
            pooled = width
        else:
            self.mix = nn.Sequential(dropout)
        self.classes = nn.Linear(pooled, n_classes) if n_classes else None
        self.attributes = nn.Linear(pooled, len(ranges)) if ranges else None
        self.register_buffer("ranges", torch.tensor(ranges, dtype=torch.float32).reshape(-1, 2))

    def first_layer(self) -> nn.Linear:
        """Return the layer that reads the pooled features: of streams, then of stages that enter pooled."""
        layers = (*self.mix, self.classes, self.attributes)
        return next(layer for layer in layers if isinstance(layer, nn.Linear))

    def forward(self, streams: Sequence[Stream], vectors: Sequence[Vector] = ()) -> Scores:
        """Return the head's outputs for the modalities, in the order of the pools, and for pooled stages."""
        keys = [s.keys for s in streams]
        pooled = [pool(s.features, k) for pool, s, k in zip(self.pools, streams, keys, strict=True)]
        pooled += [vector.features for vector in vectors]
        some = [k.some for k in keys] + [vector.present for vector in vectors]
        present = torch.stack(some).any(dim=0)
        x = self.mix(torch.cat(pooled, dim=-1))
        logits = None if self.classes is None else self.classes(x).float()
        attributes = None
        if self.attributes is not None:
            low, high = self.ranges.unbind(dim=1)
            attributes = low + (high - low) * self.attributes(x).float().sigmoid()
        return Scores(logits, attributes, present)
