"""Triton kernels of RAFT for GPUs: the lookup in the correlation pyramid, and the upsampling of the flow.

Each is one launch for a whole batch. PyTorch's operations in `deiii.pipeline.flow.raft.correlation` and
`deiii.pipeline.flow.raft.upsampling` compute the same and are the reference. This module imports Triton,
which comes with PyTorch's builds for CUDA; `deiii.pipeline.flow.raft.network.gpu_kernels` imports it.
Axes: N pairs, h and w feature map, P=N*h*w points, L levels, D=2*radius+1 side of the window.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LOOKUP_BLOCK = 1024  # values that one program computes
UPSAMPLE_BLOCK = 256  # px that one program computes


@triton.jit
def _lookup(
    pyramid, points, out, rows, height, width, pair_step, axis_step, row_step, column_step,
    LEVELS: tl.constexpr, RADIUS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program writes ``BLOCK`` consecutive values of ``out`` [P,L*D*D]."""
    SIDE: tl.constexpr = 2 * RADIUS + 1
    AREA: tl.constexpr = SIDE * SIDE
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    wanted = place < rows * (LEVELS * AREA)
    p = place // (LEVELS * AREA)
    level = (place // AREA) % LEVELS
    dy = (place % AREA) // SIDE - RADIUS
    dx = (place % AREA) % SIDE - RADIUS

    pair = p // (height * width)
    row = (p // width) % height
    column = p % width
    at = pair.to(tl.int64) * pair_step + row * row_step + column * column_step
    x = tl.load(points + at, mask=wanted, other=0.0)
    y = tl.load(points + at + axis_step, mask=wanted, other=0.0)

    # Where each level starts, its size, and the size of its px.
    start = tl.zeros([BLOCK], tl.int64)
    tall = tl.zeros([BLOCK], tl.int32) + height
    wide = tl.zeros([BLOCK], tl.int32) + width
    unit = tl.zeros([BLOCK], tl.float32) + 1.0
    for finer in tl.static_range(LEVELS - 1):
        coarser = level > finer
        start = tl.where(coarser, start + tall.to(tl.int64) * wide, start)
        tall = tl.where(coarser, tall // 2, tall)
        wide = tl.where(coarser, wide // 2, wide)
        unit = tl.where(coarser, unit * 0.5, unit)

    # Outside of this range every sample is zero; the bounds also keep indices small.
    x = tl.minimum(tl.maximum(x * unit, -RADIUS - 2.0), wide + (RADIUS + 1.0))
    y = tl.minimum(tl.maximum(y * unit, -RADIUS - 2.0), tall + (RADIUS + 1.0))
    left = tl.floor(x)
    top = tl.floor(y)
    fx = x - left
    fy = y - top
    i = top.to(tl.int32) + dy
    j = left.to(tl.int32) + dx
    row0 = wanted & (i >= 0) & (i < tall)
    row1 = wanted & (i >= -1) & (i + 1 < tall)
    column0 = (j >= 0) & (j < wide)
    column1 = (j >= -1) & (j + 1 < wide)
    cell = pyramid + start * rows + p.to(tl.int64) * (tall * wide) + (i * wide + j)
    a = tl.load(cell, mask=row0 & column0, other=0.0)
    b = tl.load(cell + 1, mask=row0 & column1, other=0.0)
    c = tl.load(cell + wide, mask=row1 & column0, other=0.0)
    d = tl.load(cell + wide + 1, mask=row1 & column1, other=0.0)
    upper = (1.0 - fx) * a + fx * b
    lower = (1.0 - fx) * c + fx * d
    value = (1.0 - fy) * upper + fy * lower
    tl.store(out + place, value.to(out.dtype.element_ty), mask=wanted)


def lookup(pyramid: Tensor, points: Tensor, levels: int, radius: int, dtype: torch.dtype) -> Tensor:
    """Return bilinear samples of every level around each point; zero outside the map.

    Args:
        pyramid: float32, all levels in one contiguous array, one after the other, each of them
            [P,h//2**level,w//2**level].
        points: float32 [N,2,h,w], x and y in the map of the finest level.
        levels: number of levels.
        radius: radius of the window in px of each level.
        dtype: data type of the result; the samples are computed in float32.

    Returns:
        [N,h,w,L*D*D], each window row by row.

    >>> lookup(pyramid, points, 4, 3, torch.float16).shape  # doctest: +SKIP
    torch.Size([512, 16, 16, 196])
    """
    n, _, h, w = points.shape
    out = torch.empty(n, h, w, levels * (2 * radius + 1) ** 2, device=points.device, dtype=dtype)
    grid = (triton.cdiv(out.numel(), LOOKUP_BLOCK),)
    _lookup[grid](
        pyramid, points, out, n * h * w, h, w, *points.stride(),
        LEVELS=levels, RADIUS=radius, BLOCK=LOOKUP_BLOCK,
    )  # fmt: skip
    return out


@triton.jit
def _upsample(
    flow, mask, out, total, height, width, flow_pair, flow_axis, flow_row, flow_column,
    mask_pair, mask_channel, mask_row, mask_column, FACTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program writes ``BLOCK`` consecutive px of ``out`` [N,8h,8w,2]."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    wanted = place < total
    across = place % (width * FACTOR)
    down = (place // (width * FACTOR)) % (height * FACTOR)
    pair = (place // (width * FACTOR * height * FACTOR)).to(tl.int64)
    row = down // FACTOR
    column = across // FACTOR
    inner = (down % FACTOR) * FACTOR + across % FACTOR
    weights = mask + pair * mask_pair + inner * mask_channel + row * mask_row + column * mask_column
    near = flow + pair * flow_pair

    largest = tl.zeros([BLOCK], tl.float32) - float("inf")
    for k in tl.static_range(9):
        weight = tl.load(weights + k * (FACTOR * FACTOR) * mask_channel, mask=wanted, other=0.0)
        largest = tl.maximum(largest, weight.to(tl.float32))
    total_weight = tl.zeros([BLOCK], tl.float32)
    u = tl.zeros([BLOCK], tl.float32)
    v = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(9):
        weight = tl.load(weights + k * (FACTOR * FACTOR) * mask_channel, mask=wanted, other=0.0)
        weight = tl.exp(weight.to(tl.float32) - largest)
        i = row + (k // 3 - 1)
        j = column + (k % 3 - 1)
        seen = wanted & (i >= 0) & (i < height) & (j >= 0) & (j < width)
        at = near + i * flow_row + j * flow_column
        total_weight += weight
        u += weight * tl.load(at, mask=seen, other=0.0)
        v += weight * tl.load(at + flow_axis, mask=seen, other=0.0)
    to = out + place.to(tl.int64) * 2
    tl.store(to, u / total_weight * FACTOR, mask=wanted)
    tl.store(to + 1, v / total_weight * FACTOR, mask=wanted)


def upsample(flow: Tensor, mask: Tensor) -> Tensor:
    """Return the flow of eight times the size: each px is a convex combination of the 3x3 points around it.

    Args:
        flow: float32 [N,2,h,w], in px of the feature map.
        mask: [N,576,h,w], logits of the nine weights of each of the 8x8 px of a point.

    Returns:
        float32 [N,8h,8w,2], in px of the image.

    >>> upsample(flow, mask).shape  # doctest: +SKIP
    torch.Size([512, 128, 128, 2])
    """
    n, _, h, w = flow.shape
    out = torch.empty(n, 8 * h, 8 * w, 2, device=flow.device, dtype=torch.float32)
    total = n * 64 * h * w
    _upsample[(triton.cdiv(total, UPSAMPLE_BLOCK),)](
        flow, mask, out, total, h, w, *flow.stride(), *mask.stride(), FACTOR=8, BLOCK=UPSAMPLE_BLOCK
    )
    return out
