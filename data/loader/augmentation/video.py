"""Crop, mirror, zoom, rotate, colour and erase frames and flow of a batch in two ways, with equal results.

`batched` is a few tensor operations over the whole batch, which suits a GPU and never waits for it.
`one_pass` is a loop compiled by Numba that reads each stored byte once (a few times where it interpolates)
and writes each float once. On a CPU the tensor operations would read and write memory six times and take at
least four times as long. Axes: B clips, T video steps, H stored size, S network's input size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from deiii.data.cache.flow_codec_torch import decode_tensor
from deiii.data.loader.augmentation.geometry import Affine, Rectangle
from deiii.data.loader.augmentation.resample import colour_at, flow_at, resample, turn
from deiii.data.tools.compilation.numba_jit import compiled

PIXELS = 8  # pixels that one row of a matrix product colours


@dataclass(frozen=True)
class Crop:
    """The square of the stored fields that each clip shows, and its colours.

    Attributes:
        y, x: int64 [B], upper left corner of the square.
        flip: bool [B], whether the square is mirrored.
        matrix, offset: float32 [B,3,3] and [B,1,3]; colours become ``rgb @ matrix + offset``.
        size: S, height and width of the square; smaller stored fields raise ValueError.
        affine: where pixels are interpolated, in place of y, x and flip; ``None`` for pixels as stored.
        erased: pixels that become 0, which is the mean colour and no motion; ``None`` for none.
    """

    y: torch.Tensor
    x: torch.Tensor
    flip: torch.Tensor
    matrix: torch.Tensor
    offset: torch.Tensor
    size: int
    affine: Affine | None = None
    erased: Rectangle | None = None


def batched(
    frames: torch.Tensor, flow: torch.Tensor, scale: torch.Tensor, view: Crop
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the square of each clip's frames and flow, as the network reads them, by tensor operations.

    Args:
        frames: uint8 [B,T,H,H,3]; H = 0 if frames are not used.
        flow: int8 or float16 [B,T,H,H,2]; H = 0 if flow is not used.
        scale: float32 [B,T], factor from stored flow to px.
        view: the squares.

    Returns:
        float32 [B,T,3,S,S] and [B,T,2,S,S] in px, u negated where mirrored; channels are innermost in memory.
    """
    if view.affine is None:
        rgb, px = colour(crop(frames, view), view), scale_flow(crop(flow, view), scale, view.flip)
    else:
        for field in (frames, flow):
            check_size(field, view.size)
        rgb = colour(resample(frames, view.affine, view.size), view)
        arrows = turn(resample(flow, view.affine, view.size), view.affine)
        px = decode_tensor(arrows, scale).permute(0, 1, 4, 2, 3)
    if view.erased is not None:
        hidden = view.erased.covers(view.size)[:, None, None]
        rgb, px = (x.masked_fill_(hidden, 0) if x.shape[3] else x for x in (rgb, px))
    return rgb, px


def one_pass(
    frames: torch.Tensor, flow: torch.Tensor, scale: torch.Tensor, view: Crop
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same as `batched`, for tensors on the CPU, by a compiled loop."""
    for field in (frames, flow):
        check_size(field, view.size)
    if flow.dtype == torch.float16:
        flow = flow.float()  # Numba does not support half precision
    place = view.y.numpy(), view.x.numpy(), view.flip.numpy()
    side = [view.size if field.shape[2] else 0 for field in (frames, flow)]
    rgb = torch.empty(*frames.shape[:2], side[0], side[0], 3)
    px = torch.empty(*flow.shape[:2], side[1], side[1], flow.shape[4])
    colours = view.matrix.numpy(), view.offset[:, 0].numpy()
    if view.affine is None:
        if side[0]:
            _colour(frames.numpy(), *place, *colours, rgb.numpy())
        if side[1]:
            _scale(flow.numpy(), *place, scale.numpy(), px.numpy())
    else:
        at, arrow = view.affine.place.numpy(), view.affine.arrow.numpy()
        if side[0]:
            colour_at(frames.numpy(), at, *colours, rgb.numpy())
        if side[1]:
            flow_at(flow.numpy(), at, arrow, scale.numpy(), px.numpy())
    if view.erased is not None:
        _erase((rgb, px), view.erased)
    return rgb.permute(0, 1, 4, 2, 3), px.permute(0, 1, 4, 2, 3)


def _erase(fields: tuple[torch.Tensor, ...], erased: Rectangle) -> None:
    """Fill the rectangles of fields [B,T,S,S,C] with 0."""
    edges = torch.stack((erased.top, erased.bottom, erased.left, erased.right), 1)
    for i, (top, bottom, left, right) in enumerate(edges.tolist()):
        for field in fields:
            field[i, :, top:bottom, left:right] = 0


def check_size(x: torch.Tensor, size: int) -> None:
    """Raise ValueError if fields [B,T,H,W,C] are smaller than ``size`` px; empty fields pass."""
    h, w = x.shape[2:4]
    if h and (h < size or w < size):
        raise ValueError(f"stored crops are {h}x{w} px; loader.crop={size} is larger")


def crop(x: torch.Tensor, view: Crop) -> torch.Tensor:
    """Return the square of each clip: [B,T,H,W,C] to [B,T,S,S,C], mirrored if ``view.flip`` is true."""
    b, t, h, w, c = x.shape
    if h == 0:
        return x
    check_size(x, view.size)
    step = torch.arange(view.size, device=x.device)
    rows = view.y[:, None] + step
    columns = view.x[:, None] + step
    columns = torch.where(view.flip[:, None], columns.flip(1), columns)
    place = (rows[:, :, None] * w + columns[:, None]).view(b, 1, -1, 1).expand(-1, t, -1, c)
    return x.view(b, t, h * w, c).gather(2, place).view(b, t, view.size, view.size, c)


def colour(x: torch.Tensor, view: Crop) -> torch.Tensor:
    """Return uint8 [B,T,S,S,3] as normalised float32 [B,T,3,S,S], with one matrix and offset a clip."""
    b, t, s = x.shape[:3]
    # Several pixels form one row, with the matrix repeated along a diagonal: products of 24 columns take a
    # third of the time of products of 3 columns.
    k = math.gcd(PIXELS, t * s * s)
    repeat = _identity(k, x.device)[:, None, :, None] * view.matrix[:, None, :, None, :]
    flat = x.reshape(b, t * s * s // k, 3 * k).float()
    flat = torch.baddbmm(view.offset.repeat(1, 1, k), flat, repeat.reshape(b, 3 * k, 3 * k))
    return flat.view(b, t, s, s, 3).permute(0, 1, 4, 2, 3)


@cache
def _identity(size: int, device: torch.device) -> torch.Tensor:
    """Return the identity matrix on a device, made once."""
    return torch.eye(size, device=device)


def scale_flow(flow: torch.Tensor, scale: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Return stored flow [B,T,S,S,2] in px, float32 [B,T,2,S,S]; u changes its sign in a mirrored clip."""
    px = decode_tensor(flow, scale).permute(0, 1, 4, 2, 3)
    px[:, :, 0] *= (1.0 - 2.0 * flip)[:, None, None, None]
    return px


@compiled
def _colour(frames, y, x, flip, matrix, offset, out):
    b, t, s = out.shape[:3]
    for i in range(b):
        # Local scalars stay in registers; elements of the matrix would be read again for every pixel.
        (rr, rg, rb), (gr, gg, gb), (br, bg, bb) = matrix[i]
        r0, g0, b0 = offset[i]
        for k in range(t):
            for row in range(s):
                source, target = frames[i, k, y[i] + row, x[i] : x[i] + s], out[i, k, row]
                for column in range(s):
                    pixel = source[s - 1 - column] if flip[i] else source[column]
                    r, g, b = np.float32(pixel[0]), np.float32(pixel[1]), np.float32(pixel[2])
                    target[column, 0] = r * rr + g * gr + b * br + r0
                    target[column, 1] = r * rg + g * gg + b * bg + g0
                    target[column, 2] = r * rb + g * gb + b * bb + b0


@compiled
def _scale(flow, y, x, flip, scale, out):
    b, t, s = out.shape[:3]
    for i in range(b):
        for k in range(t):
            along_v = scale[i, k]
            along_u = -along_v if flip[i] else along_v
            for row in range(s):
                source, target = flow[i, k, y[i] + row, x[i] : x[i] + s], out[i, k, row]
                for column in range(s):
                    arrow = source[s - 1 - column] if flip[i] else source[column]
                    target[column, 0] = np.float32(arrow[0]) * along_u
                    target[column, 1] = np.float32(arrow[1]) * along_v
