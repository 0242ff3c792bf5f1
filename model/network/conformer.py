"""Conformer blocks over time (Gulati et al. 2020, arXiv 2005.08100), with masks in every layer.

There are three differences from the paper. Every residual branch starts small, so that a deep stack begins
near the identity (compare LayerScale, arXiv 2103.17239). Layer normalisation follows the convolution instead
of batch normalisation, so that padding is not in the statistics. Positions are rotary, from times in seconds.

Axes: B clips, T steps, D width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from deiii.model.distributed.layers import Dropout
from deiii.model.network.attention import Attention, Keys, keys_of
from deiii.model.network.gpu.fill import fill
from deiii.model.network.gpu.norm import begin_branch
from deiii.model.network.gpu.residual import add_branch
from deiii.model.network.positions import Rotation

BRANCH_START = 0.1  # factor on the initial weights of each residual branch's last layer


def start_small(layer: nn.Linear) -> nn.Linear:
    """Scale the layer's initial weights by `BRANCH_START`; returns the layer."""
    with torch.no_grad():
        layer.weight.mul_(BRANCH_START)
    return layer


class FeedForward(nn.Sequential):
    """Layer norm, expansion by four, SiLU, contraction; [B,T,D] to [B,T,D]."""

    def __init__(self, width: int, dropout: float):
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.SiLU(),
            Dropout(dropout),
            start_small(nn.Linear(4 * width, width)),
            Dropout(dropout),
        )

    def add_to(self, x: Tensor, factor: float = 1.0) -> Tensor:
        """Return x + ``factor`` times the output for x, in few launches on a GPU."""
        norm, *layers, drop = self
        x, branch = begin_branch(x, cast(nn.LayerNorm, norm))
        for layer in layers:
            branch = layer(branch)
        return add_branch(x, branch, cast(Dropout, drop), factor)


class Convolution(nn.Module):
    """Gated pointwise convolution, depthwise convolution over time, layer norm, SiLU, pointwise convolution.

    Masked steps enter the depthwise convolution as zeros, exactly like the border of a shorter clip.

    Raises:
        ValueError: ``kernel``, the number of steps of the depthwise convolution, is even.
    """

    def __init__(self, width: int, kernel: int, dropout: float):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"model.conv_kernel must be odd, not {kernel}")
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Sequential(nn.Linear(width, 2 * width), nn.GLU(dim=-1))
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.out = nn.Sequential(
            nn.LayerNorm(width), nn.SiLU(), start_small(nn.Linear(width, width)), Dropout(dropout)
        )

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | Keys) -> Tensor:
        """Convolve [B,T,D] with its mask, bool [B,T]; the shape stays."""
        return self.out[-1](self._before_drop(self.norm(x_BTD), mask_BT))

    def add_to(self, x_BTD: Tensor, mask_BT: Tensor | Keys) -> Tensor:
        """Return x + the output for x, in few launches on a GPU."""
        x, branch = begin_branch(x_BTD, self.norm)
        return add_branch(x, self._before_drop(branch, mask_BT), cast(Dropout, self.out[-1]))

    def _before_drop(self, normal_BTD: Tensor, mask_BT: Tensor | Keys) -> Tensor:
        """Apply the layers between the first and the last."""
        hidden_BT = mask_BT.hidden if isinstance(mask_BT, Keys) else ~mask_BT
        x = fill(self.gate(normal_BTD), hidden_BT[..., None])
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        if x.is_cuda:  # one copy to the type and the layout that the norm reads, instead of two
            x = x.to(torch.float32, memory_format=torch.contiguous_format)
        for layer in list(self.out)[:-1]:
            x = layer(x)
        return x


class ConformerBlock(nn.Module):
    """Half-step feed-forward, self-attention, convolution, half-step feed-forward, layer norm."""

    def __init__(self, width: int, heads: int, kernel: int, dropout: float):
        super().__init__()
        self.ffn_in = FeedForward(width, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        start_small(self.attention.out)
        self.attention_drop = Dropout(dropout)
        self.convolution = Convolution(width, kernel, dropout)
        self.ffn_out = FeedForward(width, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | Keys, rotation: Rotation) -> Tensor:
        """Apply the block to [B,T,D] with the mask and the rotations of its steps; the shape stays."""
        x, y = begin_branch(self.ffn_in.add_to(x_BTD, 0.5), self.attention_norm)
        x = add_branch(x, self.attention(y, y, mask_BT, rotation, rotation), self.attention_drop)
        x = self.ffn_out.add_to(self.convolution.add_to(x, mask_BT), 0.5)
        return self.norm(x)


class Conformer(nn.Module):
    """A stack of Conformer blocks."""

    def __init__(self, width: int, blocks: int, heads: int, kernel: int, dropout: float):
        super().__init__()
        self.blocks = nn.ModuleList(ConformerBlock(width, heads, kernel, dropout) for _ in range(blocks))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | Keys, rotation: Rotation) -> Tensor:
        """Apply all blocks to [B,T,D] with the mask and the rotations of its steps; the shape stays."""
        keys = keys_of(mask_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, keys, rotation)
        return x_BTD
