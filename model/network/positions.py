"""Rotary position embeddings from the media clock (Su et al. 2021, arXiv 2104.09864).

The angle follows the time in seconds rather than an index: attention depends on the distance of two steps in
time, and a video step and the log-mel hop of the same time share a position whatever their rates.

Axes: B clips, T steps, H heads, K features of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SHORTEST_S = 0.1  # period of the fastest rotation: 2.5 video frames at 25 frames per second
LONGEST_S = 30.0  # period of the slowest; longer than the acted clips of emotion corpora, which take seconds

Rotation = tuple[Tensor, Tensor]


class ClockRotary(nn.Module):
    """Turns times into rotations for heads of ``head_width`` features.

    Raises:
        ValueError: ``head_width`` is odd.

    >>> cos, sin = ClockRotary(8)(torch.zeros(2, 5))
    >>> cos.shape
    torch.Size([2, 1, 5, 8])
    """

    omega: Tensor  # float32 [head_width/2], rad/s
    both: Tensor  # float32 [head_width]: -omega, then omega

    def __init__(self, head_width: int):
        super().__init__()
        if head_width % 2:
            raise ValueError(f"rotary positions need an even head width, not {head_width}")
        periods = torch.logspace(math.log10(SHORTEST_S), math.log10(LONGEST_S), head_width // 2)
        omega = 2 * math.pi / periods
        self.register_buffer("omega", omega, persistent=False)
        self.register_buffer("both", torch.cat((-omega, omega)), persistent=False)

    def forward(self, time_BT: Tensor) -> Rotation:
        """Return factors of both halves of the features, float32 [B,1,T,head_width], for times in s.

        The first factor is the cosine twice; the second is the negative sine, then the sine. See `rotate`.
        """
        angle = time_BT.float()[:, None, :, None] * self.both  # cos(-x) = cos(x), sin(-x) = -sin(x)
        return angle.cos(), angle.sin()


def rotate(x_BHTK: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the pairs of features (k, k + K/2) of x by the angles of their steps; the shape stays."""
    cos, signed_sin = rotation
    x = x_BHTK.float()
    return (x * cos + x.roll(x.shape[-1] // 2, dims=-1) * signed_sin).to(x_BHTK.dtype)
