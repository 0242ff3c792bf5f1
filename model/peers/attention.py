"""Two streams that weigh each other's steps (Chumachenko, Iosifidis and Gabbouj 2022, arXiv 2201.11095).

The paper's "intermediate attention fusion", after
https://github.com/katerynaCh/multimodal-emotion-recognition (commit 65232ce, ``models/multimodalcnn.py``,
``forward_feature_2``). There are three differences. Layer norm replaces batch norm, so that padding is not in
the statistics. The weights of a modality's steps have a mean of 1 for any numbers of steps; in the code their
mean is the number of the other modality's steps divided by that of their own. The head is that of all
networks of this project.

Axes: B clips, Q steps of the attending modality, K steps of the weighed one, H heads, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deiii.model.network.heads import Encoded, Outputs, Stream
from deiii.model.peers.base import Peer
from deiii.model.peers.layers import TimeConvolution


class TwoStreamAttention(Peer):
    """Two convolutions over time, weights from the other modality, two more convolutions.

    The weight of a step is the attention that it receives from the steps of the other modality. The features
    of the step are multiplied by it; no features pass from one modality to the other. Where a clip lacks a
    modality, the steps of the other have a weight of 1.

    Args: those of `Peer`.

    >>> from deiii.data.config.schema import ModelConfig
    >>> sorted(TwoStreamAttention(ModelConfig(name="attention", width=32), n_classes=8).weights)
    ['audio', 'video']
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        c, both = self.config, len(self.modalities) == 2
        self.early = nn.ModuleDict({m: ConvolutionPair(c.width) for m in self.modalities})
        self.weights = nn.ModuleDict({m: StepWeights(c.width, c.heads) for m in self.modalities if both})
        self.late = nn.ModuleDict({m: ConvolutionPair(c.width) for m in self.modalities})
        self.out = self.head(len(self.modalities))

    def fuse(self, sequences: Mapping[str, Encoded]) -> Outputs:
        early = {m: self.early[m](x, mask) for m, (x, mask, _) in sequences.items()}
        streams = []
        for modality, (_, mask, _) in sequences.items():
            x = early[modality]
            for other in self.modalities:
                if other != modality:
                    weight = self.weights[modality](x, mask, early[other], sequences[other].mask)
                    x = x * weight[..., None].to(x.dtype)
            streams.append(Stream(self.late[modality](x, mask), mask, None))
        return Outputs(self.out(streams))


class StepWeights(nn.Module):
    """The attention of another modality's steps to each step, with a mean of 1 over the valid steps.

    >>> yes = torch.ones(2, 5, dtype=torch.bool)
    >>> StepWeights(16, 2)(torch.zeros(2, 5, 16), yes, torch.zeros(2, 5, 16), yes).sum(dim=1).tolist()
    [5.0, 5.0]
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)

    def forward(self, x_BKD: Tensor, mask_BK: Tensor, other_BQD: Tensor, other_mask_BQ: Tensor) -> Tensor:
        """Return the weight of each step, float32 [B,K]."""
        q, k = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (self.to_q(other_BQD), self.to_k(x_BKD))
        )
        score_BHQK = (q @ k.transpose(-2, -1)).float() * q.shape[-1] ** -0.5
        some_B1 = mask_BK.any(dim=1, keepdim=True)
        score_BHQK = score_BHQK.masked_fill(~(mask_BK | ~some_B1)[:, None, None], float("-inf"))
        given_BQK = score_BHQK.softmax(dim=-1).mean(dim=1) * other_mask_BQ[..., None]
        share_BK = given_BQK.sum(dim=1) / other_mask_BQ.sum(dim=1, keepdim=True).clamp_min(1)
        weight_BK = share_BK * mask_BK.sum(dim=1, keepdim=True)
        return torch.where(other_mask_BQ.any(dim=1, keepdim=True), weight_BK, 1.0)


class ConvolutionPair(nn.Module):
    """Twice: convolution over three steps, layer norm, ReLU."""

    def __init__(self, width: int):
        super().__init__()
        self.convolutions = nn.ModuleList(TimeConvolution(width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x_BTD = torch.relu(norm(convolution(x_BTD, mask_BT)))
        return x_BTD
