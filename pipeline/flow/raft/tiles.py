"""The transforms of Winograd's convolutions: tiles of a map to products and back, compiled by Numba.

A tile is 6x6 points of the input for 4x4 outputs, or a line of 8 points for 4 outputs.
Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
Axes: N images, C input and O output channels, H and W map, P tiles.
"""

from __future__ import annotations

import numpy as np

from deiii.data.tools.compilation.numba_jit import compiled

TILE = 4  # outputs along each transformed axis
BLOCK = 64  # channels that are transformed at once: a tile of them fits into the first-level cache

# Typed constants, because in Numba float32 times a Python number is float64.
f2, f4, f5, f8 = np.float32(2), np.float32(4), np.float32(5), np.float32(8)
half, quarter, eighth = np.float32(1 / 2), np.float32(1 / 4), np.float32(1 / 8)
q21, q17, q5, h5 = np.float32(21 / 4), np.float32(17 / 4), np.float32(5 / 4), np.float32(5 / 2)
zero = np.float32(0)


@compiled
def _square_in(s, t):
    """Transform one axis of a 6x6 tile (B of Lavin & Gray) and transpose it."""
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
    """Transform one axis of a tile's products, ``n`` columns (A of Lavin & Gray), and transpose it."""
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
    """Transform a line of 8 points."""
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
    """Transform the 8 products of a line to 4 outputs."""
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
    """Copy ``m`` channels of one point, or zeros if it lies outside the map."""
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
    """Write ``m`` channels of one point plus ``add``."""
    to, row, more = y[at : at + m], s[o : o + m], add[add_at : add_at + m]
    if relu:
        for c in range(m):
            to[c] = max(row[c] + more[c], zero)
    else:
        for c in range(m):
            to[c] = row[c] + more[c]


@compiled
def to_squares(x, stride, shape, channels, start, moved, total, first):
    """Transform 6x6 tiles of a flat map, which overlap by two.

    Args:
        x, stride: results of `flat_rows`.
        shape, channels: (N,H,W), and the number of channels of ``x``.
        start: number of the first tile.
        moved: [P,36*total+16] of P tiles, which is written.
        total, first: number of channels of ``moved``, and the first of them that is written.
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
    """Compute the flat map ``y`` from products ``summed`` [P,36*O+16] and add ``add`` to it.

    ``spread`` is the distance between the values of ``add`` for neighbouring points, 0 for a bias.
    """
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
    """Transform lines of 8 points, which overlap by four, into ``moved`` [P,8*total+16]; see `to_squares`."""
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
    """Compute the flat map ``y`` from products ``summed`` [P,8*O+16]; see `from_squares`."""
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
