"""MulT, the multimodal transformer with crossmodal attention (Tsai et al. 2019, arXiv 1906.00295).

Differences from the paper: two modalities instead of three; positions are sinusoids of the media clock
instead of the index; the head pools all valid steps (``model.pool``) instead of taking the last one, which
padding would move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from deiii.model.network.heads import Encoded, Outputs, Stream
from deiii.model.peers.base import Peer
from deiii.model.peers.layers import ClockPositions, TimeConvolution, TransformerStack


class MulT(Peer):
    """Convolution over time and positions, crossmodal layers in both directions, self-attention layers.

    In every crossmodal layer the queries are the steps of one modality, and the keys the other modality's
    steps from before the first layer. ``model.ife_blocks`` is the number of crossmodal layers in each
    direction, ``model.blocks`` that of self-attention layers after them. A single modality has the latter
    alone.

    Args: those of `Peer`.

    >>> from deiii.data.config.schema import ModelConfig
    >>> sorted(MulT(ModelConfig(name="mult", width=32), n_classes=8).crossmodal)
    ['audio', 'video']
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        c, both = self.config, len(self.modalities) == 2

        def stack(count: int, crossmodal: bool) -> TransformerStack:
            return TransformerStack(count, c.width, c.heads, c.dropout, crossmodal)

        self.convolutions = nn.ModuleDict({m: TimeConvolution(c.width) for m in self.modalities})
        self.positions = ClockPositions(c.width)
        self.crossmodal = nn.ModuleDict({m: stack(c.ife_blocks, True) for m in self.modalities if both})
        self.within = nn.ModuleDict({m: stack(c.blocks, False) for m in self.modalities})
        self.out = self.head(len(self.modalities))

    def fuse(self, sequences: Mapping[str, Encoded]) -> Outputs:
        low = {}
        for modality, (x, mask, time) in sequences.items():
            x = self.convolutions[modality](x, mask)
            low[modality] = self.drop(x + self.positions(time).to(x.dtype))
        streams = []
        for modality, (_, mask, _) in sequences.items():
            x = low[modality]
            for other in self.modalities:
                if other != modality:
                    x = self.crossmodal[modality](x, sequences[other].mask, low[other])
            streams.append(Stream(self.within[modality](x, mask), mask, None))
        return Outputs(self.out(streams))
