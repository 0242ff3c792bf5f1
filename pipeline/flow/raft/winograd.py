"""Stride-1 convolutions on the CPU with a quarter of the multiplications: Winograd's minimal filtering.

Outputs are computed in tiles of 4x4 (3x3 kernels: 36 products a tile instead of 144) or of 4 in a row
(1x5 and 5x1: 8 products instead of 20). The products of all tiles form one batch of matrix products,
which the BLAS library does; the two transforms around it are the loops below, compiled by Numba.
For inference alone, in float32; rounding errors are about ten times those of the direct convolution.
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

from deiii.data.tools.numba_jit import compiled

TILE = 4  # outputs along each transformed axis
BLOCK = 64  # channels transformed at once: a tile of them stays in the first-level cache
KERNELS = ((3, 3), (1, 5), (5, 1))

# What a kernel tap becomes, one row a product (G of Lavin & Gray).
TAPS3 = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
     [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
)  # fmt: skip
POINTS5 = ((1, -2 / 9), (-1, -2 / 9), (2, 1 / 90), (-2, 1 / 90), (1 / 2, 32 / 45), (-1 / 2, 32 / 45))
TAPS5 = np.array([[1, 0, 0, 0, 0], *([s * a**i for i in range(5)] for a, s in POINTS5), [0, 0, 0, 0, 1]])

# In Numba float32 times a Python number is float64, hence typed constants.
f2, f4, f5, f8 = np.float32(2), np.float32(4), np.float32(5), np.float32(8)
half, quarter, eighth = np.float32(1 / 2), np.float32(1 / 4), np.float32(1 / 8)
q21, q17, q5, h5 = np.float32(21 / 4), np.float32(17 / 4), np.float32(5 / 4), np.float32(5 / 2)
zero = np.float32(0)


class WinogradConv(nn.Module):
    """A convolution of stride 1 whose output is as large as its input.

    Args:
        weight: [O,C,3,3], [O,C,1,5] or [O,C,5,1].
        bias: [O]; zero where empty.
        relu: cut the result off at zero.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, relu: bool = False):
        super().__init__()
        self.kernel, self.relu = tuple(weight.shape[2:]), relu
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
        """[N,C,H,W] to [N,O,H,W], both float32 and channels-last.

        Args:
            parts: the input, or its channels in several pieces.
            add: [N,O,H,W], in place of the bias.
            fresh: only so many parts, the first ones, differ from those of the last convolution in
                this thread, whose kernel is as large: the others' transforms are used again.
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
        # As many as take about four times the room of the products: enough for efficient matrix products.
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
            by_product = lambda rows, m: rows[:, : k * m].unflatten(1, (k, m)).transpose(0, 1)
            torch.bmm(by_product(moved, c), self.products, out=by_product(summed, o))
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


def transform_taps(weight: Tensor, axis: int) -> Tensor:
    """Taps along ``axis`` as products; summed in a fixed order, so that threads change no bit."""
    matrix = torch.from_numpy(TAPS3 if weight.shape[axis] == 3 else TAPS5)
    taps = weight.unbind(axis)
    return torch.stack([sum(g * tap for g, tap in zip(row, taps, strict=True)) for row in matrix], axis)


def flat_rows(x: Tensor) -> tuple[Tensor, int]:
    """A channels-last map as one row of numbers, and the distance between neighbouring points.

    Slices of channels are taken as they are; other layouts are copied.
    """
    n, c, height, width = x.shape
    step = x.stride(3)
    if x.stride() != (height * width * step, 1, width * step, step):
        x = torch.empty_like(x, memory_format=torch.channels_last).copy_(x)
        step = c
        if x.stride() != (height * width * c, 1, width * c, c):  # sizes of one leave strides open
            x = x.as_strided(x.shape, (height * width * c, 1, width * c, c))
    return x.as_strided(((n * height * width - 1) * step + c,), (1,)), step


_held = threading.local()  # this thread's workspaces, and what the one of transformed input holds


def workspace(name: str, rows: int, columns: int) -> Tensor:
    """A float32 [rows,columns+16] that the thread's next call of this name overwrites.

    The 16 keep rows from falling onto each other's cache lines.
    """
    size = rows * (columns + 16)
    held = getattr(_held, name, None)
    if held is None or held.numel() < size:
        held = torch.zeros(size)
        setattr(_held, name, held)
    return held[:size].view(rows, columns + 16)


@compiled
def _square_in(s, t):
    """One axis of a 6x6 tile (B of Lavin & Gray); the axes change places."""
    for q in range(6):
        for c in range(BLOCK):
            i = q * BLOCK + c
            d0, d1, d2 = s[i], s[i + 6 * BLOCK], s[i + 12 * BLOCK]
            d3, d4, d5 = s[i + 18 * BLOCK], s[i + 24 * BLOCK], s[i + 30 * BLOCK]
            o = 6 * q * BLOCK + c
            even, odd, near, far = d4 - f4 * d2, d3 - f4 * d1, d4 - d2, f2 * (d3 - d1)
            t[o] = f4 * d0 - f5 * d2 + d4
            t[o + BLOCK] = even + odd
            t[o + 2 * BLOCK] = even - odd
            t[o + 3 * BLOCK] = near + far
            t[o + 4 * BLOCK] = near - far
            t[o + 5 * BLOCK] = f4 * d1 - f5 * d3 + d5


@compiled
def _square_out(s, t, n):
    """One axis of a tile's products, ``n`` columns of them (A of Lavin & Gray); the axes change places."""
    for q in range(n):
        for c in range(BLOCK):
            i = q * BLOCK + c
            m0, m1, m2 = s[i], s[i + n * BLOCK], s[i + 2 * n * BLOCK]
            m3, m4, m5 = s[i + 3 * n * BLOCK], s[i + 4 * n * BLOCK], s[i + 5 * n * BLOCK]
            o = 4 * q * BLOCK + c
            a, b, d, e = m1 + m2, m1 - m2, m3 + m4, m3 - m4
            t[o] = m0 + a + d
            t[o + BLOCK] = b + f2 * e
            t[o + 2 * BLOCK] = a + f4 * d
            t[o + 3 * BLOCK] = b + f8 * e + m5


@compiled
def _line_in(s, t):
    for c in range(BLOCK):
        d0, d1, d2, d3 = s[c], s[c + BLOCK], s[c + 2 * BLOCK], s[c + 3 * BLOCK]
        d4, d5, d6, d7 = s[c + 4 * BLOCK], s[c + 5 * BLOCK], s[c + 6 * BLOCK], s[c + 7 * BLOCK]
        t[c] = d0 - d6 + q21 * (d4 - d2)
        e, o = d2 + d6 - q17 * d4, d1 + d5 - q17 * d3
        t[c + BLOCK], t[c + 2 * BLOCK] = e + o, e - o
        e, o = quarter * d2 - q5 * d4 + d6, half * d1 - h5 * d3 + f2 * d5
        t[c + 3 * BLOCK], t[c + 4 * BLOCK] = e + o, e - o
        e, o = f4 * d2 - f5 * d4 + d6, f2 * d1 - h5 * d3 + half * d5
        t[c + 5 * BLOCK], t[c + 6 * BLOCK] = e + o, e - o
        t[c + 7 * BLOCK] = d7 - d1 + q21 * (d3 - d5)


@compiled
def _line_out(s, t):
    for c in range(BLOCK):
        m1, m2, m3 = s[c + BLOCK], s[c + 2 * BLOCK], s[c + 3 * BLOCK]
        m4, m5, m6 = s[c + 4 * BLOCK], s[c + 5 * BLOCK], s[c + 6 * BLOCK]
        a, b, d, e, g, h = m1 + m2, m1 - m2, m3 + m4, m3 - m4, m5 + m6, m5 - m6
        t[c] = s[c] + a + d + g
        t[c + BLOCK] = b + f2 * e + half * h
        t[c + 2 * BLOCK] = a + f4 * d + quarter * g
        t[c + 3 * BLOCK] = b + f8 * e + eighth * h + s[c + 7 * BLOCK]


@compiled
def _take(s, o, x, at, m, inside):
    """``m`` channels of one point, or zeros outside the map."""
    to = s[o : o + m]
    if inside:
        row = x[at : at + m]
        for c in range(m):
            to[c] = row[c]
    else:
        for c in range(m):
            to[c] = zero


@compiled
def _give(y, at, m, s, o, add, add_at, relu):
    to, row, more = y[at : at + m], s[o : o + m], add[add_at : add_at + m]
    if relu:
        for c in range(m):
            to[c] = max(row[c] + more[c], zero)
    else:
        for c in range(m):
            to[c] = row[c] + more[c]


@compiled
def to_squares(x, stride, shape, channels, start, moved, total, first):
    """6x6 tiles of a flat map, overlapping by two, transformed.

    Args:
        x, stride, shape, channels: from `flat_rows`; (N,H,W); C.
        start: number of the first tile.
        moved: [P,36*total+16] of P tiles, of which this fills ``channels`` from ``first``.
    """
    n, height, width = shape
    s, t = np.zeros(36 * BLOCK, np.float32), np.zeros(36 * BLOCK, np.float32)
    tall, wide = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
    for p in range(len(moved)):
        i, tile = divmod(start + p, tall * wide)
        top, left = tile // wide * TILE - 1, tile % wide * TILE - 1
        for c in range(0, channels, BLOCK):
            m = min(BLOCK, channels - c)
            for a in range(6):
                row = top + a
                for b in range(6):
                    column = left + b
                    inside = 0 <= row < height and 0 <= column < width
                    at = ((i * height + row) * width + column) * stride + c
                    _take(s, (a * 6 + b) * BLOCK, x, at, m, inside)
            _square_in(s, t)
            _square_in(t, s)
            for k in range(36):
                _take(moved[p], k * total + first + c, s, k * BLOCK, m, True)


@compiled
def from_squares(summed, shape, start, channels, add, spread, y, relu):
    """Flat map ``y`` from products ``summed`` [P,36*O+16]; ``add`` is spread by ``spread`` (0: a bias)."""
    n, height, width = shape
    s, t = np.zeros(36 * BLOCK, np.float32), np.zeros(36 * BLOCK, np.float32)
    tall, wide = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
    for p in range(len(summed)):
        i, tile = divmod(start + p, tall * wide)
        top, left = tile // wide * TILE, tile % wide * TILE
        for c in range(0, channels, BLOCK):
            m = min(BLOCK, channels - c)
            for k in range(36):
                _take(s, k * BLOCK, summed[p], k * channels + c, m, True)
            _square_out(s, t, 6)
            _square_out(t, s, 4)
            for a in range(min(TILE, height - top)):
                for b in range(min(TILE, width - left)):
                    point = (i * height + top + a) * width + left + b
                    at, add_at = point * channels + c, point * spread + c
                    _give(y, at, m, s, (a * 4 + b) * BLOCK, add, add_at, relu)


@compiled
def to_lines(x, stride, shape, channels, start, moved, total, first, vertical):
    """As `to_squares`: stretches of 8 points, overlapping by four, into ``moved`` [P,8*total+16]."""
    n, height, width = shape
    s, t = np.zeros(8 * BLOCK, np.float32), np.zeros(8 * BLOCK, np.float32)
    tall, wide = ((height + TILE - 1) // TILE, width) if vertical else (height, (width + TILE - 1) // TILE)
    for p in range(len(moved)):
        i, tile = divmod(start + p, tall * wide)
        top, left = tile // wide, tile % wide
        for c in range(0, channels, BLOCK):
            m = min(BLOCK, channels - c)
            for a in range(8):
                row = top * TILE - 2 + a if vertical else top
                column = left if vertical else left * TILE - 2 + a
                inside = 0 <= row < height and 0 <= column < width
                at = ((i * height + row) * width + column) * stride + c
                _take(s, a * BLOCK, x, at, m, inside)
            _line_in(s, t)
            for k in range(8):
                _take(moved[p], k * total + first + c, t, k * BLOCK, m, True)


@compiled
def from_lines(summed, shape, start, channels, add, spread, y, relu, vertical):
    """As `from_squares`, of products ``summed`` [P,8*O+16]."""
    n, height, width = shape
    s, t = np.zeros(8 * BLOCK, np.float32), np.zeros(8 * BLOCK, np.float32)
    tall, wide = ((height + TILE - 1) // TILE, width) if vertical else (height, (width + TILE - 1) // TILE)
    for p in range(len(summed)):
        i, tile = divmod(start + p, tall * wide)
        top, left = (tile // wide * TILE, tile % wide) if vertical else (tile // wide, tile % wide * TILE)
        for c in range(0, channels, BLOCK):
            m = min(BLOCK, channels - c)
            for k in range(8):
                _take(s, k * BLOCK, summed[p], k * channels + c, m, True)
            _line_out(s, t)
            for a in range(min(TILE, height - top if vertical else width - left)):
                row, column = (top + a, left) if vertical else (top, left + a)
                point = (i * height + row) * width + column
                at, add_at = point * channels + c, point * spread + c
                _give(y, at, m, t, a * BLOCK, add, add_at, relu)
