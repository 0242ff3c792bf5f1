"""Stride-1 convolutions on the CPU with fewer multiplications: Winograd's minimal filtering.

Outputs are computed in tiles of 4x4 (3x3 kernels: 36 products a tile instead of 144) or of 4 in a row
(1x5 and 5x1 kernels: 8 products instead of 20). The products of all tiles are one batch of matrix products,
which the BLAS library computes. The transforms before and after it are in `deiii.pipeline.flow.raft.tiles`.
For inference only, in float32; rounding errors are about ten times those of the direct convolution.
Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016; the five-tap
form uses the points 0, +-1, +-2, +-1/2 and infinity in the same way.
Axes: N images, C input and O output channels, H and W map, P tiles, K products a tile.

>>> fast = WinogradConv(torch.ones(8, 4, 3, 3), torch.zeros(8))
>>> fast(torch.ones(1, 4, 16, 16))[0, 0, 5, 5].round().item()
36.0
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor, nn

from deiii.pipeline.flow.raft.tiles import TILE, from_lines, from_squares, to_lines, to_squares

NARROW = 16  # least number of channels; with fewer, the transforms take longer than they save
KERNELS = ((3, 3), (1, 5), (5, 1))

# The transform of kernel taps, one row per product (G of Lavin & Gray).
TAPS3 = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
     [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
)  # fmt: skip
POINTS5 = ((1, -2 / 9), (-1, -2 / 9), (2, 1 / 90), (-2, 1 / 90), (1 / 2, 32 / 45), (-1 / 2, 32 / 45))
TAPS5 = np.array([[1, 0, 0, 0, 0], *([s * a**i for i in range(5)] for a, s in POINTS5), [0, 0, 0, 0, 1]])


class WinogradConv(nn.Module):
    """A convolution of stride 1 whose output is as large as its input.

    Args:
        weight: [O,C,3,3], [O,C,1,5] or [O,C,5,1].
        bias: [O]; ``None`` for zeros.
        relu: apply a ReLU to the result.

    Raises:
        ValueError: the kernel has another size.
    """

    products: Tensor  # [K,C,O]
    bias: Tensor  # [O]

    def __init__(self, weight: Tensor, bias: Tensor | None = None, relu: bool = False):
        super().__init__()
        self.kernel = tuple(weight.shape[2:])
        self.relu = relu
        if self.kernel not in KERNELS:
            raise ValueError(f"kernels are 3x3, 1x5 or 5x1, not {self.kernel[0]}x{self.kernel[1]}")
        self.outputs, self.inputs = weight.shape[:2]
        products = weight.detach().double()
        for axis, taps in ((2, self.kernel[0]), (3, self.kernel[1])):
            if taps > 1:
                products = transform_taps(products, axis)
        products = products.permute(2, 3, 1, 0).flatten(0, 1)  # [K,C,O]
        bias = torch.zeros(self.outputs) if bias is None else bias.detach().clone()
        self.register_buffer("products", products.float().contiguous())
        self.register_buffer("bias", bias.float())

    @torch.inference_mode()
    def forward(self, *parts: Tensor, add: Tensor | None = None, fresh: int | None = None) -> Tensor:
        """Convolve [N,C,H,W] to [N,O,H,W], both float32 and channels-last.

        Args:
            parts: the input; its channels may be split over several arrays.
            add: [N,O,H,W], which is added instead of the bias.
            fresh: number of parts, from the first, that differ from those of the previous convolution in this
                thread, which had a kernel of the same size. The transforms of the other parts are used again.

        Raises:
            ValueError: the parts do not have the input channels of the convolution.
        """
        n, _, height, width = shape = parts[0].shape
        c, o, k = self.inputs, self.outputs, len(self.products)
        if sum(part.shape[1] for part in parts) != c:
            raise ValueError(f"{c} channels are expected, not {[part.shape[1] for part in parts]}")
        y = torch.empty(n, o, height, width, memory_format=torch.channels_last)
        target = flat_rows(y)[0].numpy()
        given, spread = (self.bias, 0) if add is None else flat_rows(add)
        tall = -(-height // TILE) if self.kernel[0] > 1 else height
        wide = -(-width // TILE) if self.kernel[1] > 1 else width
        tiles = n * tall * wide
        # Number of tiles that take about four times the memory of the weights: enough for efficient matrix
        # products.
        step = max(64, 4 * c * o // (c + o)) if self.kernel == (3, 3) else tiles
        holds = (self.kernel, n, height, width, c)
        if step < tiles or getattr(_held, "holds", None) != holds:
            fresh = None
        _held.holds = holds if step >= tiles else None
        for start in range(0, tiles, step):
            p = min(step, tiles - start)
            moved, summed = workspace("moved", p, k * c), workspace("summed", p, k * o)
            at = 0
            for part in parts[:fresh]:
                source, stride = flat_rows(part)
                self._to_tiles(source.numpy(), stride, part.shape, start, moved.numpy(), c, at)
                at += part.shape[1]
            torch.bmm(_by_product(moved, k, c), self.products, out=_by_product(summed, k, o))
            self._from_tiles(summed.numpy(), shape, start, o, given.numpy(), spread, target)
        return y

    def _to_tiles(self, x, stride, shape, start, moved, total, at) -> None:
        n, channels, height, width = shape
        if self.kernel == (3, 3):
            to_squares(x, stride, (n, height, width), channels, start, moved, total, at)
        else:
            to_lines(x, stride, (n, height, width), channels, start, moved, total, at, self.kernel[0] > 1)

    def _from_tiles(self, summed, shape, start, channels, add, spread, y) -> None:
        n, _, height, width = shape
        if self.kernel == (3, 3):
            from_squares(summed, (n, height, width), start, channels, add, spread, y, self.relu)
        else:
            vertical = self.kernel[0] > 1
            from_lines(summed, (n, height, width), start, channels, add, spread, y, self.relu, vertical)


def _by_product(rows: Tensor, products: int, channels: int) -> Tensor:
    """Return rows [P,K*C+16] of a workspace as one matrix per product, [K,P,C]."""
    return rows[:, : products * channels].unflatten(1, (products, channels)).transpose(0, 1)


def transform_taps(weight: Tensor, axis: int) -> Tensor:
    """Transform kernel taps along ``axis``; the fixed order of the sums gives the same bits on all threads.

    >>> transform_taps(torch.ones(8, 4, 3, 3), 2).shape
    torch.Size([8, 4, 6, 3])
    """
    matrix = torch.from_numpy(TAPS3 if weight.shape[axis] == 3 else TAPS5)
    taps = weight.unbind(axis)
    return torch.stack([sum(g * tap for g, tap in zip(row, taps, strict=True)) for row in matrix], axis)


def flat_rows(x: Tensor) -> tuple[Tensor, int]:
    """Return a channels-last map as one row of numbers, and the distance between neighbouring points.

    Slices of channels are not copied; other layouts are.
    """
    n, c, height, width = x.shape
    step = x.stride(3)
    if x.stride() != (height * width * step, 1, width * step, step):
        x = torch.empty_like(x, memory_format=torch.channels_last).copy_(x)
        step = c
        if x.stride() != (
            height * width * c,
            1,
            width * c,
            c,
        ):  # the stride of an axis of length 1 is arbitrary
            x = x.as_strided(x.shape, (height * width * c, 1, width * c, c))
    return x.as_strided(((n * height * width - 1) * step + c,), (1,)), step


_held = threading.local()  # workspaces of this thread, and what the one of the transformed input holds


def workspace(name: str, rows: int, columns: int) -> Tensor:
    """Return a float32 array [rows,columns+16] that the next call with this name in this thread overwrites.

    The 16 extra columns keep different rows out of the same cache lines.
    """
    size = rows * (columns + 16)
    held = getattr(_held, name, None)
    if held is None or held.numel() < size:
        held = torch.zeros(size)
        setattr(_held, name, held)
    return held[:size].view(rows, columns + 16)
