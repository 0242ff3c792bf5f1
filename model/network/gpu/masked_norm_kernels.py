"""Triton kernels of batch normalisation with masked steps, and of the ReLU after it, in training.

`deiii.model.network.gpu.masked_norm` uses them; `deiii.model.network.audio_encoders.MaskedBatchNorm` computes
the same in PyTorch's operations. This module imports Triton, which comes with PyTorch's builds for CUDA. Sums
have a fixed order, so results are repeatable.

Axes: B clips, L hops, M bands, C channels, N = B*L*M places. All maps lie in memory with their channels
innermost, so a place is a row of C values.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from deiii.model.network.gpu.kernels import inner, sum_rows

MOST_CHANNELS = 1024  # values that a program holds for each of its places
VALUES = 1024  # values that a program reads at once
PROGRAMS = 528  # programs of a kernel with sums, each with a partial sum: 4 a multiprocessor


@triton.jit
def _is_valid(mask, place, inside, bands, hops, over_clips, over_hops):
    """Return 1 for places of valid hops and 0 for others, float32."""
    hop = place // bands
    at = hop // hops * over_clips + hop % hops * over_hops
    return tl.load(mask + at, mask=inside, other=0).to(tl.float32)


@triton.jit
def _sums(
    x, mask, partial, places, channels, bands, hops, over_clips, over_hops, each,
    WIDE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Each program sums x, its square and the mask over ``each`` places."""
    channel = tl.arange(0, WIDE)
    first = tl.program_id(0).to(tl.int64) * each
    total = tl.zeros([ROWS, WIDE], tl.float32)
    squares = tl.zeros([ROWS, WIDE], tl.float32)
    count = tl.zeros([ROWS, 1], tl.float32)
    for start in range(0, each, ROWS):
        step = start + tl.arange(0, ROWS)[:, None]
        place = first + step
        row = (place < places) & (step < each)
        weight = _is_valid(mask, place, row, bands, hops, over_clips, over_hops)
        inside = row & (channel[None, :] < channels)
        value = tl.load(x + place * channels + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        total += weight * value
        squares += weight * value * value
        count += weight
    sums = partial + tl.program_id(0).to(tl.int64) * (2 * channels + 1)
    tl.store(sums + channel, tl.sum(total, 0), mask=channel < channels)
    tl.store(sums + channels + channel, tl.sum(squares, 0), mask=channel < channels)
    tl.store(sums + 2 * channels, tl.sum(tl.sum(count, 1), 0))


@triton.jit
def _statistics(
    sums, weight, bias, further, running_mean, running_var, batches, factors, channels, momentum, eps,
    FURTHER: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One program computes mean, inverse deviation, scale and offset, and moves the running statistics."""
    channel = tl.arange(0, WIDE)
    inside = channel < channels
    valid = tl.load(sums + 2 * channels)
    count = tl.maximum(valid, 1.0)
    mean = tl.load(sums + channel, mask=inside, other=0.0) / count
    square = tl.load(sums + channels + channel, mask=inside, other=0.0) / count
    variance = tl.maximum(square - mean * mean, 0.0)
    inverse = tl.rsqrt(variance + eps)
    scale = tl.load(weight + channel, mask=inside, other=0.0) * inverse
    offset = tl.load(bias + channel, mask=inside, other=0.0) - mean * scale
    if FURTHER:
        offset += tl.load(further + channel, mask=inside, other=0.0)
    tl.store(factors + channel, mean, mask=inside)
    tl.store(factors + channels + channel, inverse, mask=inside)
    tl.store(factors + 2 * channels + channel, scale, mask=inside)
    tl.store(factors + 3 * channels + channel, offset, mask=inside)
    tl.store(factors + 4 * channels, count)
    # A batch in which every hop is masked moves nothing.
    step = momentum * tl.minimum(valid, 1.0)
    old = tl.load(running_mean + channel, mask=inside, other=0.0)
    tl.store(running_mean + channel, old + step * (mean - old), mask=inside)
    unbiased = variance * valid / tl.maximum(valid - 1.0, 1.0)
    old = tl.load(running_var + channel, mask=inside, other=0.0)
    tl.store(running_var + channel, old + step * (unbiased - old), mask=inside)
    tl.store(batches, tl.load(batches) + 1)


@triton.jit
def _apply(
    x, beside, mask, factors, out, total, channels, bands, hops, over_clips, over_hops,
    BESIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program normalises some values, adds those beside them, and sets negative and masked ones to 0."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    channel = at % channels
    scale = tl.load(factors + 2 * channels + channel, mask=inside, other=0.0)
    offset = tl.load(factors + 3 * channels + channel, mask=inside, other=0.0)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) * scale + offset
    if BESIDE:
        value += tl.load(beside + at, mask=inside, other=0.0).to(tl.float32)
    valid = _is_valid(mask, at // channels, inside, bands, hops, over_clips, over_hops)
    value = tl.where(valid > 0, tl.maximum(value, 0.0), 0.0)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


def normalise(
    x_BCLM: Tensor, mask_B1L1: Tensor, norm: torch.nn.BatchNorm2d, beside: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return relu(norm(x) + beside + bias) with zeros at masked hops, and what `normalise_back` needs.

    The statistics are those of the valid hops, and the running statistics of ``norm`` move towards them.

    Args:
        x_BCLM: feature maps.
        mask_B1L1: bool, true for valid hops.
        norm: the layer with the parameters and running statistics, float32.
        beside: [B,C,L,M]; ``None`` for nothing.
        bias: float32 [C], added to all places; ``None`` for nothing.

    Returns:
        [B,C,L,M] in the data type of x; x with its channels innermost in memory; and float32 [4*C+1]: mean,
        inverse deviation, scale and offset of each channel, and the number of valid places (at least 1).

    >>> normalise(x, mask, norm, None, None)  # doctest: +SKIP
    """
    x, beside = inner(x_BCLM), None if beside is None else inner(beside)
    channels, bands = x.shape[1], x.shape[3]
    places, total = x.numel() // channels, x.numel()
    wide, rows, each, programs = _plan(places, channels)
    partial = x.new_empty((programs, 2 * channels + 1), dtype=torch.float32)
    hops = _hops(mask_B1L1)
    mask = mask_B1L1.view(torch.uint8)
    _sums[(programs,)](x, mask, partial, places, channels, bands, *hops, each, WIDE=wide, ROWS=rows)
    factors = partial.new_empty(4 * channels + 1)
    _statistics[(1,)](
        sum_rows(partial), norm.weight, norm.bias, norm.bias if bias is None else bias, norm.running_mean,
        norm.running_var, norm.num_batches_tracked, factors, channels, norm.momentum, norm.eps,
        FURTHER=bias is not None, WIDE=wide,
    )  # fmt: skip
    out = torch.empty_like(x)
    _apply[(triton.cdiv(total, VALUES),)](
        x, x if beside is None else beside, mask, factors, out, total, channels, bands, *hops,
        BESIDE=beside is not None, BLOCK=VALUES,
    )  # fmt: skip
    return out, x, factors


@triton.jit
def _sums_back(
    gradient, out, x, factors, partial, places, channels, each,
    WIDE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Each program sums the gradient of the normalised values over ``each`` places, also times the values."""
    channel = tl.arange(0, WIDE)
    known = channel < channels
    mean = tl.load(factors + channel, mask=known, other=0.0)[None, :]
    inverse = tl.load(factors + channels + channel, mask=known, other=0.0)[None, :]
    first = tl.program_id(0).to(tl.int64) * each
    of_bias = tl.zeros([ROWS, WIDE], tl.float32)
    of_weight = tl.zeros([ROWS, WIDE], tl.float32)
    for start in range(0, each, ROWS):
        step = start + tl.arange(0, ROWS)[:, None]
        inside = (first + step < places) & (step < each) & known[None, :]
        at = (first + step) * channels + channel[None, :]
        g = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.where(tl.load(out + at, mask=inside, other=0.0).to(tl.float32) > 0, g, 0.0)
        normal = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - mean) * inverse
        of_bias += g
        of_weight += g * normal
    sums = partial + tl.program_id(0).to(tl.int64) * (2 * channels) + channel
    tl.store(sums, tl.sum(of_bias, 0), mask=known)
    tl.store(sums + channels, tl.sum(of_weight, 0), mask=known)


@triton.jit
def _apply_back(
    gradient, out, x, mask, factors, sums, to_x, to_beside, total, channels, bands,
    hops, over_clips, over_hops, BESIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program computes the gradients of some values of x, and of those beside them."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    channel = at % channels
    mean = tl.load(factors + channel, mask=inside, other=0.0)
    inverse = tl.load(factors + channels + channel, mask=inside, other=0.0)
    scale = tl.load(factors + 2 * channels + channel, mask=inside, other=0.0)
    count = tl.load(factors + 4 * channels)
    g = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    g = tl.where(tl.load(out + at, mask=inside, other=0.0).to(tl.float32) > 0, g, 0.0)
    if BESIDE:
        tl.store(to_beside + at, g.to(to_beside.dtype.element_ty), mask=inside)
    normal = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - mean) * inverse
    of_bias = tl.load(sums + channel, mask=inside, other=0.0) / count
    of_weight = tl.load(sums + channels + channel, mask=inside, other=0.0) / count
    valid = _is_valid(mask, at // channels, inside, bands, hops, over_clips, over_hops)
    g = (g - valid * (of_bias + normal * of_weight)) * scale
    tl.store(to_x + at, g.to(to_x.dtype.element_ty), mask=inside)


def normalise_back(
    gradient: Tensor, out: Tensor, x: Tensor, factors: Tensor, mask_B1L1: Tensor, beside: torch.dtype | None
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Return the gradients of `normalise` with respect to x, beside, and the layer's weight and bias.

    The gradient of the layer's bias is also that of the further bias.

    Args:
        gradient: gradient of the first result, [B,C,L,M].
        out, x, factors: the results.
        mask_B1L1: bool, true for valid hops.
        beside: data type of ``beside``; ``None`` for none.

    Returns:
        [B,C,L,M] in the data type of x, [B,C,L,M] in that of ``beside`` or ``None``, float32 [C] and [C].

    >>> normalise_back(gradient, out, x, factors, mask, None)  # doctest: +SKIP
    """
    gradient = inner(gradient)
    channels, bands = x.shape[1], x.shape[3]
    places, total = x.numel() // channels, x.numel()
    wide, rows, each, programs = _plan(places, channels)
    partial = factors.new_empty((programs, 2 * channels))
    _sums_back[(programs,)](gradient, out, x, factors, partial, places, channels, each, WIDE=wide, ROWS=rows)
    sums = sum_rows(partial)
    to_x = torch.empty_like(x)
    to_beside = None if beside is None else torch.empty_like(x, dtype=beside)
    _apply_back[(triton.cdiv(total, VALUES),)](
        gradient, out, x, mask_B1L1.view(torch.uint8), factors, sums, to_x,
        to_x if to_beside is None else to_beside, total, channels, bands, *_hops(mask_B1L1),
        BESIDE=to_beside is not None, BLOCK=VALUES,
    )  # fmt: skip
    of_bias, of_weight = sums.view(2, channels).unbind()
    return to_x, to_beside, of_weight, of_bias


def _plan(places: int, channels: int) -> tuple[int, int, int, int]:
    """Return channels and places that a program reads at once, places of a program, and their programs."""
    wide = triton.next_power_of_2(channels)
    rows = max(1, VALUES // wide)
    each = triton.cdiv(places, min(PROGRAMS, triton.cdiv(places, rows)))
    return wide, rows, each, triton.cdiv(places, each)


def _hops(mask_B1L1: Tensor) -> tuple[int, int, int]:
    """Return the number of hops, and the distances in memory from clip to clip and from hop to hop."""
    return mask_B1L1.shape[2], mask_B1L1.stride(0), mask_B1L1.stride(2)
