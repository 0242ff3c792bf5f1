"""Interpolate frames and flow at the places of an affine map; two implementations with equal results.

Values are bilinear between the centres of stored pixels. Places beyond the stored crop have the value of the
nearest pixel of its border. Axes: B clips, T video steps, H stored size, S network's input size, C channels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from deiii.data.loader.augmentation.geometry import Affine
from deiii.data.tools.compilation.numba_jit import compiled


def resample(x: torch.Tensor, affine: Affine, size: int) -> torch.Tensor:
    """Return fields at the places of a map, by tensor operations: [B,T,H,H,C] to float32 [B,T,S,S,C].

    >>> whole = Affine(torch.eye(2, 3)[None], torch.eye(2)[None])
    >>> resample(torch.arange(4).view(1, 1, 2, 2, 1), whole, 2).flatten()
    tensor([0., 1., 2., 3.])
    """
    b, t, h, w, c = x.shape
    if h == 0:
        return x.float()
    at = torch.arange(size, device=x.device) + 0.5
    across, down, begin = (part[:, None, None] for part in affine.place.unbind(2))
    place = across * at[:, None] + down * at[:, None, None] + begin
    grid = torch.stack((place[..., 0] * (2 / w) - 1, place[..., 1] * (2 / h) - 1), -1)
    grid = grid[:, None].expand(b, t, size, size, 2).reshape(b * t, size, size, 2)
    images = x.reshape(b * t, h, w, c).permute(0, 3, 1, 2).float()
    seen = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return seen.permute(0, 2, 3, 1).reshape(b, t, size, size, c)


def turn(flow: torch.Tensor, affine: Affine) -> torch.Tensor:
    """Return flow [B,T,S,S,2n], n pairs of u and v in stored px, in px of the network's input."""
    b, t, h, w, c = flow.shape
    pairs = flow.reshape(b, t * h * w * c // 2, 2)
    of_u, of_v = (column[:, None] for column in affine.arrow.unbind(2))
    # Not a matrix product, which training on a GPU may round to TF32.
    return torch.addcmul(pairs[..., :1] * of_u, pairs[..., 1:], of_v).view(b, t, h, w, c)


@compiled
def colour_at(frames, place, matrix, offset, out):
    """Write the interpolated, coloured frames of a batch.

    Args:
        frames: uint8 [B,T,H,H,3].
        place: float32 [B,2,3] of `Affine`.
        matrix, offset: float32 [B,3,3] and [B,3]; colours become ``rgb @ matrix + offset``.
        out: float32 [B,T,S,S,3].
    """
    b, t, s = out.shape[:3]
    h, w = frames.shape[2:4]
    at, share = np.empty((s, s, 2), np.uint32), np.empty((s, s, 4), np.float32)
    below, right = np.uint32(min(1, h - 1)), np.uint32(min(1, w - 1))
    for i in range(b):
        (rr, rg, rb), (gr, gg, gb), (br, bg, bb) = matrix[i]
        r0, g0, b0 = offset[i]
        neighbours(place[i], h, w, at, share)  # once for all steps
        for k in range(t):
            image, target = frames[i, k], out[i, k]
            for row in range(s):
                for column in range(s):
                    y, x = at[row, column, 0], at[row, column, 1]
                    red, green, blue = np.float32(0), np.float32(0), np.float32(0)
                    for n in range(4):
                        part = share[row, column, n]
                        pixel = image[y + below * np.uint32(n // 2), x + right * np.uint32(n % 2)]
                        red += part * np.float32(pixel[0])
                        green += part * np.float32(pixel[1])
                        blue += part * np.float32(pixel[2])
                    target[row, column, 0] = red * rr + green * gr + blue * br + r0
                    target[row, column, 1] = red * rg + green * gg + blue * bg + g0
                    target[row, column, 2] = red * rb + green * gb + blue * bb + b0


@compiled
def flow_at(flow, place, arrow, scale, out):
    """Write the interpolated, turned flow of a batch.

    Args:
        flow: int8 or float32 [B,T,H,H,2n], n pairs of u and v.
        place, arrow: float32 [B,2,3] and [B,2,2] of `Affine`.
        scale: float32 [B,T], factor from stored flow to px.
        out: float32 [B,T,S,S,2n].
    """
    b, t, s = out.shape[:3]
    h, w = flow.shape[2:4]
    at, share = np.empty((s, s, 2), np.uint32), np.empty((s, s, 4), np.float32)
    below, right = np.uint32(min(1, h - 1)), np.uint32(min(1, w - 1))
    for i in range(b):
        neighbours(place[i], h, w, at, share)
        for k in range(t):
            (uu, uv), (vu, vv) = arrow[i]
            uu, uv, vu, vv = uu * scale[i, k], uv * scale[i, k], vu * scale[i, k], vv * scale[i, k]
            image, target = flow[i, k], out[i, k]
            for row in range(s):
                for column in range(s):
                    y, x = at[row, column, 0], at[row, column, 1]
                    for c in range(0, out.shape[4], 2):
                        u, v = np.float32(0), np.float32(0)
                        for n in range(4):
                            part = share[row, column, n]
                            pair = image[y + below * np.uint32(n // 2), x + right * np.uint32(n % 2)]
                            u += part * np.float32(pair[c])
                            v += part * np.float32(pair[c + 1])
                        target[row, column, c] = uu * u + uv * v
                        target[row, column, c + 1] = vu * u + vv * v


@compiled
def neighbours(place, h, w, at, share):
    """Write where the four stored pixels around each place are, and their shares of its value.

    Args:
        place: float32 [2,3] of `Affine`.
        h, w: height and width of the stored crop.
        at: uint32 [S,S,2], row and column of the upper left one; unsigned, because Numba checks for each
            signed index whether it counts from the end, which takes longer.
        share: float32 [S,S,4]: upper left, upper right, lower left, lower right.
    """
    s = at.shape[0]
    half, one = np.float32(0.5), np.float32(1)
    (xx, xy, x0), (yx, yy, y0) = place
    for row in range(s):
        for column in range(s):
            across, down = np.float32(column) + half, np.float32(row) + half
            x = min(max(xx * across + xy * down + x0 - half, np.float32(0)), np.float32(w - 1))
            y = min(max(yx * across + yy * down + y0 - half, np.float32(0)), np.float32(h - 1))
            top, left = min(int(y), max(0, h - 2)), min(int(x), max(0, w - 2))
            y, x = y - np.float32(top), x - np.float32(left)
            at[row, column, 0], at[row, column, 1] = top, left
            share[row, column, 0], share[row, column, 1] = (one - y) * (one - x), (one - y) * x
            share[row, column, 2], share[row, column, 3] = y * (one - x), y * x
