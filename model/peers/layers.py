"""Layers that several peers have: plain transformer layers, positions, convolutions over time.

Axes: B clips, T steps, S steps of another sequence, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deiii.model.distributed.layers import Dropout
from deiii.model.network.attention import Attention
from deiii.model.network.positions import LONGEST_S, SHORTEST_S


class ClockPositions(nn.Module):
    """Sinusoids of the time in seconds, to be added to features (Vaswani et al. 2017, arXiv 1706.03762).

    Steps of the same time have the same position, whatever the rate of their stream.

    >>> ClockPositions(16)(torch.zeros(2, 5)).shape
    torch.Size([2, 5, 16])
    """

    omega: Tensor  # float32 [D/2], rad/s

    def __init__(self, width: int):
        super().__init__()
        periods = torch.logspace(math.log10(SHORTEST_S), math.log10(LONGEST_S), width // 2)
        self.register_buffer("omega", 2 * math.pi / periods, persistent=False)

    def forward(self, time_BT: Tensor) -> Tensor:
        """Return positions, float32 [B,T,D], for times in s."""
        angle = time_BT.float()[..., None] * self.omega
        return torch.cat((angle.sin(), angle.cos()), dim=-1)


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each behind a layer norm and beside a shortcut.

    With ``crossmodal`` the queries are the steps and the keys those of another sequence; without, both are
    the steps. A clip whose keys are all masked gets nothing from attention.

    >>> TransformerLayer(16, 2, 0.0)(torch.zeros(3, 5, 16), torch.ones(3, 5, dtype=torch.bool)).shape
    torch.Size([3, 5, 16])
    """

    def __init__(self, width: int, heads: int, dropout: float, crossmodal: bool = False):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.source_norm = nn.LayerNorm(width) if crossmodal else None
        self.attention = Attention(width, heads, dropout)
        self.drop = Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(4 * width, width),
            Dropout(dropout),
        )

    def forward(self, x_BTD: Tensor, mask_BS: Tensor, source_BSD: Tensor | None = None) -> Tensor:
        """Return new features of the steps, [B,T,D].

        Args:
            x_BTD: the steps.
            mask_BS: bool, true for the keys that count: of ``source_BSD``, or else of the steps.
            source_BSD: the other sequence, of a crossmodal layer.
        """
        q = self.norm(x_BTD)
        keys = q if source_BSD is None or self.source_norm is None else self.source_norm(source_BSD)
        x_BTD = x_BTD + self.drop(self.attention(q, keys, mask_BS))
        return x_BTD + self.feed_forward(x_BTD)


class TransformerStack(nn.ModuleList):
    """Several `TransformerLayer`, all with the same keys' mask and the same other sequence."""

    def __init__(self, count: int, width: int, heads: int, dropout: float, crossmodal: bool = False):
        super().__init__(TransformerLayer(width, heads, dropout, crossmodal) for _ in range(count))

    def forward(self, x_BTD: Tensor, mask_BS: Tensor, source_BSD: Tensor | None = None) -> Tensor:
        """Apply all layers; the arguments are those of `TransformerLayer`."""
        for layer in self:
            x_BTD = layer(x_BTD, mask_BS, source_BSD)
        return x_BTD


class TimeConvolution(nn.Module):
    """Convolution over three steps; masked steps enter it as zeros, like the border of a shorter clip.

    >>> TimeConvolution(16)(torch.zeros(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(self, width: int):
        super().__init__()
        self.over_time = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Convolve [B,T,D] with its mask, bool [B,T]; masked steps of the output are zero."""
        outside = ~mask_BT[..., None]
        x = x_BTD.masked_fill(outside, 0.0).transpose(1, 2)
        return self.over_time(x).transpose(1, 2).masked_fill(outside, 0.0)
