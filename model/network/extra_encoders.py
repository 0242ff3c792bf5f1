"""Encoders of the stages that ``model.extra`` names, and of installed packages.

Axes: B clips, R rows of a stage, K layers, F features of a row, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from deiii.data.config.plugins import ENCODERS, installed, load_plugin
from deiii.data.config.schema import ModelConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.stage_arrays import LEAST_DEVIATION, band_levels
from deiii.model.network.heads import Encoded

Factory = Callable[[tuple[int, ...], ModelConfig], nn.Module]


class RowEncoder(nn.Module):
    """Maps the rows of a stage, one or several layers of vectors, to features of the network's width.

    Several layers are averaged with learned weights, as in ELMo (Peters et al. 2018, arXiv 1802.05365) and
    SUPERB (Yang et al. 2021, arXiv 2105.01051). Layer normalisation and a projection follow.

    Args:
        shape: axes of a row: (F,) or (K,F).
        width: D.
        standardise: first standardise every feature with the mean and the deviation that `fit` takes from
            the training clips. Features of pretrained encoders differ in scale by orders of magnitude; with
            layer normalisation alone the largest ones would dominate.

    >>> mask = torch.ones(2, 5, dtype=torch.bool)
    >>> RowEncoder((12, 768), 64)(torch.zeros(2, 5, 12, 768), mask).shape
    torch.Size([2, 5, 64])
    """

    offset: Tensor  # float32 with the axes of a row
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], width: int, standardise: bool = False):
        super().__init__()
        self.standardise = standardise
        if standardise:
            self.register_buffer("offset", torch.zeros(shape))
            self.register_buffer("scale", torch.ones(shape))
        self.layers = nn.Parameter(torch.zeros(shape[0])) if len(shape) == 2 else None
        self.norm = nn.LayerNorm(shape[-1])
        self.project = nn.Linear(shape[-1], width)

    def forward(self, values: Tensor, mask_BR: Tensor) -> Tensor:
        """Encode [B,R,F] or [B,R,K,F] with the mask of valid rows to [B,R,D]; masked values do not count."""
        masked = ~mask_BR[(...,) + (None,) * (values.ndim - 2)]
        x = (values - self.offset) / self.scale if self.standardise else values
        x = x.masked_fill(masked, 0.0)
        if self.layers is not None:
            x = torch.einsum("brkf,k->brf", x, self.layers.softmax(dim=0).to(x.dtype))
        return self.project(self.norm(x))

    def fit(self, rows: Sequence[np.ndarray]) -> None:
        """Take mean and deviation of each feature from the rows of the training clips, [R,...] each."""
        if self.standardise and len(rows):
            mean, deviation = band_levels(rows, LEAST_DEVIATION)
            self.offset.copy_(torch.from_numpy(mean))
            self.scale.copy_(torch.from_numpy(deviation))


class PooledEncoder(nn.Module):
    """Mean and standard deviation over the clip of every feature of every layer, as one vector.

    With a linear head this is what logistic regression on frozen features reads: layers are not mixed, and
    nothing is projected before the pooling.

    Args:
        shape: axes of a row: (F,) or (K,F).
        standardise: standardise the features of a row, and then those of the vector, with means and
            deviations over the training clips; see `fit`.

    Attributes:
        layers: K; 1 for rows without layers.
        width: number of features of the vector, 2F or 2KF; the means come first.

    >>> mask = torch.ones(2, 5, dtype=torch.bool)
    >>> PooledEncoder((12, 768))(torch.zeros(2, 5, 12, 768), mask).shape
    torch.Size([2, 18432])
    """

    LEAST_VARIANCE = 1e-6

    offset: Tensor  # float32 [width/2], of a row
    scale: Tensor
    vector_offset: Tensor  # float32 [width]
    vector_scale: Tensor

    def __init__(self, shape: tuple[int, ...], standardise: bool = False):
        super().__init__()
        features = math.prod(shape)
        self.layers = shape[0] if len(shape) == 2 else 1
        self.width = 2 * features
        self.standardise = standardise
        if standardise:
            self.register_buffer("offset", torch.zeros(features))
            self.register_buffer("scale", torch.ones(features))
            self.register_buffer("vector_offset", torch.zeros(2 * features))
            self.register_buffer("vector_scale", torch.ones(2 * features))

    def forward(self, values: Tensor, mask_BR: Tensor) -> Tensor:
        """Pool [B,R,F] or [B,R,K,F] with the mask of valid rows to [B,width]; zero where no row is valid."""
        vector = self._vector(*row_moments(values, mask_BR))
        if self.standardise:
            vector = (vector - self.vector_offset) / self.vector_scale
        return vector * mask_BR.any(dim=1)[:, None]

    def _vector(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return vectors [B,width] from moments of rows, [B,width/2] each; `forward` standardises them."""
        if self.standardise:
            mean, variance = (mean - self.offset) / self.scale, variance / self.scale.square()
        return torch.cat((mean, (variance + self.LEAST_VARIANCE).sqrt()), dim=1)

    @torch.no_grad()
    def fit(self, mean_NF: Tensor, variance_NF: Tensor) -> None:
        """Take means and deviations from the `row_moments` of the training clips; every clip counts once."""
        if not self.standardise or not len(mean_NF):
            return
        offset = mean_NF.mean(dim=0)
        self.offset.copy_(offset)
        spread = (variance_NF + (mean_NF - offset).square()).mean(dim=0).sqrt()
        self.scale.copy_(spread.clamp_min(LEAST_DEVIATION))
        vectors = self._vector(mean_NF, variance_NF)
        self.vector_offset.copy_(vectors.mean(dim=0))
        self.vector_scale.copy_(vectors.std(dim=0, correction=0).clamp_min(LEAST_DEVIATION))


def row_moments(values: Tensor, mask_BR: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance over the valid rows of each clip, of rows [B,R,...]; float32 [B,F] each.

    Zero where no row is valid; masked values have no effect.
    """
    with torch.autocast(values.device.type, enabled=False):
        x = values.float().flatten(2).masked_fill(~mask_BR[..., None], 0.0)
        # Sums over rows as products of matrices, which need no second copy of the rows.
        weight = (mask_BR / mask_BR.sum(dim=1, keepdim=True).clamp_min(1)).float()[:, None]
        mean = weight @ x
        variance = weight @ (x - mean).square()
        return mean[:, 0], variance[:, 0]


def interleave(streams: Sequence[Encoded]) -> Encoded:
    """Merge the steps of several streams into one, in the order of the media clock.

    In the merged sequence, steps of all streams that are near in time are neighbours, whatever the rates of
    the streams. Masked steps go to the end, where they are padding; at equal times the first stream comes
    first.

    >>> mask, time = torch.ones(2, 5, dtype=torch.bool), torch.arange(5.0).expand(2, 5)
    >>> steps = Encoded(torch.zeros(2, 5, 8), mask, time)
    >>> interleave([steps, steps]).time[0, :4].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    if len(streams) == 1:
        return streams[0]
    features, mask, time = (torch.cat(part, dim=1) for part in zip(*streams, strict=True))
    order = time.masked_fill(~mask, torch.inf).argsort(dim=1, stable=True)
    features = features.gather(1, order[..., None].expand(-1, -1, features.shape[2]))
    return Encoded(features, mask.gather(1, order), time.gather(1, order))


def package_encoder(config: ModelConfig, stage: str, shape: tuple[int, ...]) -> nn.Module | None:
    """Return the encoder that ``model.encoders`` names for a stage, or ``None`` where it names none.

    A package adds one to the entry-point group ``deiii.encoders``: a function of the axes of a row and the
    settings. The module has the inputs and outputs of the encoder that it replaces:

    ==================  ===================================  =====================
    stage               takes                                returns
    ==================  ===================================  =====================
    faces, flow         images [N,C,S,S], weight [N] = None  [N,P,D]
    logmel              [B,L,M], mask [B,L]                  [B,ceil(L/4),D]
    of ``model.extra``  [B,R,F] or [B,R,K,F], mask [B,R]     [B,R,D]
    ==================  ===================================  =====================

    Args:
        config: settings.
        stage: name of the stage whose features the encoder reads.
        shape: (C,) for images, (M,) for log-mel, (F,) or (K,F).

    Raises:
        ConfigError: no installed package adds the encoder.
        PluginError: its package cannot be imported.
    """
    for item in config.encoders:
        name, _, encoder = item.partition(":")
        if name != stage:
            continue
        if encoder not in installed(ENCODERS):
            there = ", ".join(installed(ENCODERS)) or "none"
            raise ConfigError(
                f"model.encoders names {item!r}; encoders that installed packages add: {there}. Write "
                "stage:encoder, and install the package that adds it"
            )
        factory: Factory = load_plugin(ENCODERS, encoder)
        return factory(shape, config)
    return None


def check_encoders(config: ModelConfig, stages: list[str]) -> None:
    """Refuse an encoder of a stage that the network does not read. Raises ConfigError."""
    for item in config.encoders:
        if item.partition(":")[0] not in stages:
            raise ConfigError(
                f"model.encoders names {item!r}, but the network reads {', '.join(stages)}; "
                "write stage:encoder with one of these stages"
            )
