"""Triton kernels of the small image encoder: the selection of images, and the end of a residual block.

`deiii.model.network.gpu.images` uses them. `deiii.model.network.visual_encoders` computes the same in
PyTorch's operations. This module imports Triton, which comes with PyTorch's builds for CUDA. Sums have a
fixed order, so results are repeatable.

Axes: N images, C channels, H rows, W columns. All maps lie in memory with their channels innermost.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from deiii.model.network.gpu.kernels import inner, sum_rows

# Least number of channels in the result of `select`; most of them are zeros. On an NVIDIA H200 cuDNN took 255
# us for the convolution of 384 images and the gradient of its weight with 32 channels, 748 us with 16 and 491
# us with 8.
WIDE = 32
PLACES = 1024  # values that a program of the elementwise kernels computes
PROGRAMS = 528  # programs of a backward pass with sums, each with a partial sum: 4 a multiprocessor


@triton.jit
def _select(
    images, take, count, out, factor, width, size, image_stride, row_stride, column_stride, channel_stride,
    CHANNELS: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program copies some 2x2 squares of one image, with all channels and zeros behind them."""
    image = tl.program_id(0).to(tl.int64)
    source = tl.load(take + image)
    square = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    place = tl.arange(0, WIDE)[None, :]
    inside = square < size
    wanted = inside & (place < 4 * CHANNELS) & (tl.load(count) > 0)
    corner = place // CHANNELS
    row = 2 * (square // width) + corner // 2
    column = 2 * (square % width) + corner % 2
    here = source * image_stride + row * row_stride + column * column_stride
    x = tl.load(images + here + place % CHANNELS * channel_stride, mask=wanted, other=0.0)
    there = image * size * WIDE + square * WIDE + place
    tl.store(out + there, (x.to(tl.float32) * factor).to(out.dtype.element_ty), mask=inside)


def select(images_NCHW: Tensor, take_N: Tensor, count_1: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Return ``factor * images[take]`` with each 2x2 square as the channels of one place.

    The channels of a place are those of the upper left, upper right, lower left and lower right value of the
    square, filled with zeros to K channels: a power of two, at least `WIDE`. All are zero if ``count`` is 0.

    Args:
        images_NCHW: float32, of even height and width.
        take_N: int64 [N], indices of images.
        count_1: int64 [1].
        factor: multiplies the values.
        dtype: data type of the result.

    Returns:
        [N,K,H/2,W/2] with its channels innermost in memory.

    >>> select(images, take, count, 1.0, torch.bfloat16)  # doctest: +SKIP
    """
    _, channels, height, width = images_NCHW.shape
    wide = max(WIDE, triton.next_power_of_2(4 * channels))
    out = images_NCHW.new_empty((len(take_N), height // 2, width // 2, wide), dtype=dtype)
    size, block = height * width // 4, PLACES // wide
    over_images, over_channels, over_rows, over_columns = images_NCHW.stride()
    _select[(len(take_N), triton.cdiv(size, block))](
        images_NCHW, take_N, count_1, out, factor, width // 2, size, over_images, over_rows, over_columns,
        over_channels, CHANNELS=channels, WIDE=wide, BLOCK=block,
    )  # fmt: skip
    return out.permute(0, 3, 1, 2)


@triton.jit
def _end_block(
    a, b, out, pooled, height, width, channels, total,
    BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program computes some pooled values, and the four values under each."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    channel = at % channels
    column = at // channels % (width // 2)
    row = at // channels // (width // 2)  # number of the row over all images, because their heights are even
    corner = (2 * row * width + 2 * column) * channels + channel
    mean = tl.zeros([BLOCK], tl.float32)
    if BIAS:
        bias = tl.load(b + channel, mask=inside, other=0.0).to(tl.float32)
    for i in tl.static_range(4):
        here = corner + ((i // 2) * width + i % 2) * channels
        x = tl.load(a + here, mask=inside, other=0.0).to(tl.float32)
        if BIAS:
            x += bias
        else:
            x += tl.load(b + here, mask=inside, other=0.0).to(tl.float32)
        x = tl.maximum(x, 0.0).to(out.dtype.element_ty)
        tl.store(out + here, x, mask=inside)
        mean += x.to(tl.float32)
    tl.store(pooled + at, (mean / 4).to(pooled.dtype.element_ty), mask=inside)


def end_block(a_NCHW: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return relu(a + b), and the mean of each 2x2 square of it.

    Args:
        a_NCHW: feature maps of even height and width.
        b: [N,C,H,W], or [C] for one value of each channel.

    >>> end_block(torch.zeros(1, 32, 8, 8), torch.zeros(32))  # doctest: +SKIP
    """
    images, channels, height, width = a_NCHW.shape
    out = torch.empty_like(a_NCHW, memory_format=torch.channels_last)
    pooled = out.new_empty((images, height // 2, width // 2, channels))
    total = pooled.numel()
    _end_block[(triton.cdiv(total, PLACES),)](
        a_NCHW, b, out, pooled, height, width, channels, total, BIAS=b.ndim == 1, BLOCK=PLACES
    )
    return out, pooled.permute(0, 3, 1, 2)


@triton.jit
def _end_block_back(
    gradient, of_pooled, out, result, partial, height, width, channels, squares, each,
    BIAS: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Each program computes the gradients of some squares, and its part of the sums over them."""
    channel = tl.arange(0, WIDE)[None, :]
    first = tl.program_id(0).to(tl.int64) * each
    sums = tl.zeros([ROWS, WIDE], tl.float32)
    for start in range(0, each, ROWS):
        square = first + start + tl.arange(0, ROWS)[:, None]
        inside = (square < squares) & (start + tl.arange(0, ROWS)[:, None] < each) & (channel < channels)
        column = square % (width // 2)
        row = square // (width // 2)
        corner = (2 * row * width + 2 * column) * channels + channel
        mean = tl.load(of_pooled + square * channels + channel, mask=inside, other=0.0).to(tl.float32) / 4
        for i in tl.static_range(4):
            here = corner + ((i // 2) * width + i % 2) * channels
            g = tl.load(gradient + here, mask=inside, other=0.0).to(tl.float32) + mean
            g = tl.where(tl.load(out + here, mask=inside, other=0.0).to(tl.float32) > 0, g, 0.0)
            g = g.to(result.dtype.element_ty)
            tl.store(result + here, g, mask=inside)
            if BIAS:
                sums += g.to(tl.float32)
    if BIAS:
        place = tl.arange(0, WIDE)
        total = tl.sum(sums, 0)
        tl.store(partial + tl.program_id(0).to(tl.int64) * channels + place, total, mask=place < channels)


def end_block_back(
    gradient_NCHW: Tensor, of_pooled: Tensor, out_NCHW: Tensor, bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the two arguments of `end_block`.

    The first is that of a, which is also that of b if b has the shape of a; the second is that of a bias b,
    float32 [C], or ``None`` if b is no bias.

    Args:
        gradient_NCHW: gradient of the first result of `end_block`.
        of_pooled: gradient of the second.
        out_NCHW: the first result.
        bias: whether b was [C].

    >>> end_block_back(gradient, of_pooled, out, False)  # doctest: +SKIP
    """
    _, channels, height, width = out_NCHW.shape
    result = torch.empty_like(out_NCHW)
    squares = out_NCHW.numel() // (4 * channels)
    wide = triton.next_power_of_2(channels)
    rows = max(1, PLACES // wide)
    each = triton.cdiv(squares, min(PROGRAMS, triton.cdiv(squares, rows))) if bias else rows
    programs = triton.cdiv(squares, each)
    partial = out_NCHW.new_empty((programs if bias else 1, channels), dtype=torch.float32)
    _end_block_back[(programs,)](
        inner(gradient_NCHW), inner(of_pooled), out_NCHW, result, partial, height, width, channels, squares,
        each, BIAS=bias, WIDE=wide, ROWS=rows,
    )  # fmt: skip
    return result, sum_rows(partial) if bias else None
