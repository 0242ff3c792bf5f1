"""Concatenation and a GRU: the features of all streams at one time are joined, then read in order.

Early fusion of aligned features with a recurrent network, as in Ngiam et al. 2011, "Multimodal Deep Learning"
(concatenation), and the GRU of Cho et al. 2014, arXiv 1406.1078.

Axes: B clips, T steps of a stream, N steps of all streams, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deiii.data.loader.batch import Batch
from deiii.model.distributed.layers import Dropout
from deiii.model.network.extra_encoders import interleave
from deiii.model.network.heads import Encoded, Outputs, Stream
from deiii.model.peers.base import Peer


class ConcatGRU(Peer):
    """At every time where a stream has a step, the nearest step of each is concatenated; then GRU layers.

    Streams have different rates, so their steps are merged in the order of the media clock instead of being
    resampled to one rate. A stream that a clip lacks is zero. The GRU runs forward in time, and masked
    steps come last, so that they have no effect on valid ones; the head pools the states of the valid steps.
    ``model.blocks`` is the number of layers.

    Args: those of `Peer`.

    >>> from deiii.data.config.schema import ModelConfig
    >>> ConcatGRU(ModelConfig(name="gru", width=32, blocks=2), n_classes=8).layers[0].input_size
    64
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        width = self.config.width
        own = [self.fusion, self.audio_encoder]
        streams = sum(part is not None for part in own) + sum(map(len, self.among_steps.values()))
        inputs = [width * streams] + [width] * (self.config.blocks - 1)
        self.layers = nn.ModuleList(nn.GRU(size, width, batch_first=True) for size in inputs)
        self.between = Dropout(self.config.dropout)
        self.out = self.head()

    def forward(self, batch: Batch) -> Outputs:
        """Return the outputs of the head."""
        parts = [self.parts(modality, batch) for modality in self.modalities]
        return self.fuse({name: part for some in parts for name, part in some.items()})

    def fuse(self, sequences: Mapping[str, Encoded]) -> Outputs:
        merged = _in_order(list(sequences.values()))
        x = torch.cat([nearest(own, merged.time) for own in sequences.values()], dim=-1)
        x = x.masked_fill(~merged.mask[..., None], 0.0)
        for number, layer in enumerate(self.layers):
            x = layer(self.between(x) if number else x)[0]
        x = x.masked_fill(~merged.mask[..., None], 0.0)
        return Outputs(self.out([Stream(x, merged.mask, None)]))


def nearest(sequence: Encoded, time_BN: Tensor) -> Tensor:
    """Return the features of the valid step nearest to each time, [B,N,D]; zero where no step is valid."""
    x_BTD, mask_BT, own_BT = sequence
    away_BNT = (time_BN[:, :, None] - own_BT[:, None]).abs().masked_fill(~mask_BT[:, None], float("inf"))
    index_BN = away_BNT.argmin(dim=2)
    found = x_BTD.gather(1, index_BN[..., None].expand(-1, -1, x_BTD.shape[2]))
    return found * mask_BT.any(dim=1)[:, None, None]


def _in_order(sequences: list[Encoded]) -> Encoded:
    """Merge the steps of all modalities in the order of time, masked steps last."""
    whole = Encoded(*(torch.cat(part, dim=1) for part in zip(*sequences, strict=True)))
    # `interleave` leaves a single stream as it is, so an empty one stands beside it.
    return interleave([whole, Encoded(*(part[:, :0] for part in whole))])
