"""Triton kernels of a training step: heads of attention with rotary positions, and layer normalisation.

PyTorch's operations in `deiii.model.network.gpu.heads` and `torch.nn.LayerNorm` compute the same and are the
reference. This module imports Triton, which comes with PyTorch's builds for CUDA;
`deiii.model.network.gpu.available.gpu_kernels` imports it. Sums have a fixed order, so results are
repeatable.

Axes: P parts (queries, keys, values), B clips, T steps, H heads, K features of a head, N rows, D width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from deiii.model.network.gpu.fill import constant

# Programs of a backward pass of layer normalisation, each with a partial sum: about 4 a multiprocessor.
PROGRAMS = 512


@triton.jit
def _arrange(
    source, out, cos, sin, steps, source_part, source_clip, source_step, source_head,
    out_part, out_clip, out_step, out_head, angle_clip, angle_step,
    PARTS: tl.constexpr, ROTATED: tl.constexpr, BACK: tl.constexpr, HEADS: tl.constexpr,
    FEATURES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program copies all parts of one step of a clip, and rotates the first ``ROTATED`` of them."""
    clip = (tl.program_id(0) // steps).to(tl.int64)
    step = tl.program_id(0) % steps
    place = tl.arange(0, BLOCK)
    wanted = place < HEADS * FEATURES
    head = place // FEATURES
    feature = place % FEATURES
    partner = (feature + FEATURES // 2) % FEATURES
    here = source + clip * source_clip + step * source_step + head * source_head
    there = out + clip * out_clip + step * out_step + head * out_head + feature
    c = tl.zeros([BLOCK], tl.float32)
    s = tl.zeros([BLOCK], tl.float32)
    if ROTATED:
        angle = clip * angle_clip + step * angle_step + feature
        c = tl.load(cos + angle, mask=wanted, other=0.0)
        s = tl.load(sin + angle, mask=wanted, other=0.0)
        if BACK:
            s = -s
    for part in tl.static_range(PARTS):
        x = tl.load(here + part * source_part + feature, mask=wanted, other=0.0)
        if part < ROTATED:
            swapped = tl.load(here + part * source_part + partner, mask=wanted, other=0.0)
            x = (x.to(tl.float32) * c + swapped.to(tl.float32) * s).to(out.dtype.element_ty)
        tl.store(there + part * out_part, x, mask=wanted)


def arrange(
    source_PBHTK: Tensor, out_PBHTK: Tensor, cos: Tensor | None, sin: Tensor | None, rotated: int, back: bool
) -> None:
    """Copy parts from one layout to another, and rotate the first of them by the angles of their steps.

    Args:
        source_PBHTK, out_PBHTK: tensors of one type, with features innermost in memory.
        cos, sin: float32 [B,1,T,K], the factors of `deiii.model.network.positions.rotate`; ``None`` for no
            rotation.
        rotated: number of parts that are rotated.
        back: rotate by the opposite angles.

    >>> arrange(source, out, cos, sin, 2, False)  # doctest: +SKIP
    """
    parts, clips, heads, steps, features = source_PBHTK.shape
    rotated = 0 if cos is None else rotated
    # Without a rotation the kernel does not read these arguments, but it needs tensors.
    cos = source_PBHTK if cos is None else cos.contiguous()
    sin = source_PBHTK if sin is None else sin.contiguous()
    inner = (0, 1, 3, 2)
    _arrange[(clips * steps,)](
        source_PBHTK, out_PBHTK, cos, sin, steps,
        *(source_PBHTK.stride(axis) for axis in inner), *(out_PBHTK.stride(axis) for axis in inner),
        steps * features, features, PARTS=parts, ROTATED=rotated, BACK=back, HEADS=heads, FEATURES=features,
        BLOCK=triton.next_power_of_2(heads * features),
    )  # fmt: skip


@triton.jit
def _normalise(x, weight, bias, out, width, eps, BLOCK: tl.constexpr):
    """Each program normalises one row of x [N,D]."""
    row = tl.program_id(0).to(tl.int64) * width
    place = tl.arange(0, BLOCK)
    inside = place < width
    value = tl.load(x + row + place, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, value - tl.sum(value, 0) / width, 0.0)
    normal = centred * tl.rsqrt(tl.sum(centred * centred, 0) / width + eps)
    w = tl.load(weight + place, mask=inside, other=0.0)
    b = tl.load(bias + place, mask=inside, other=0.0)
    tl.store(out + row + place, (normal * w + b).to(out.dtype.element_ty), mask=inside)


def normalise(x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Return x normalised over its last axis, computed in float32 and rounded once to ``dtype``.

    Args:
        x: float32 [...,D], contiguous.
        weight, bias: float32 [D].
        eps: added to the variance.
        dtype: data type of the result.

    >>> normalise(x, norm.weight, norm.bias, norm.eps, torch.bfloat16)  # doctest: +SKIP
    """
    width = x.shape[-1]
    out = torch.empty_like(x, dtype=dtype)
    _normalise[(x.numel() // width,)](x, weight, bias, out, width, eps, BLOCK=triton.next_power_of_2(width))
    return out


@triton.jit
def _normalise_back(
    gradient, passed, x, weight, to_x, partial, rows, width, eps, each,
    PASSED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program computes the gradients of ``each`` rows, and its part of those of weight and bias."""
    place = tl.arange(0, BLOCK)
    inside = place < width
    w = tl.load(weight + place, mask=inside, other=0.0)
    of_weight = tl.zeros([BLOCK], tl.float32)
    of_bias = tl.zeros([BLOCK], tl.float32)
    first = tl.program_id(0) * each
    start = first.to(tl.int64) * width
    for i in range(0, tl.minimum(each, rows - first)):
        at = start + i * width + place
        g = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        centred = tl.where(inside, value - tl.sum(value, 0) / width, 0.0)
        inverse = tl.rsqrt(tl.sum(centred * centred, 0) / width + eps)
        normal = centred * inverse
        of_weight += g * normal
        of_bias += g
        g = g * w
        result = (g - tl.sum(g, 0) / width - normal * (tl.sum(g * normal, 0) / width)) * inverse
        if PASSED:
            result += tl.load(passed + at, mask=inside, other=0.0)
        tl.store(to_x + at, result, mask=inside)
    sums = partial + tl.program_id(0).to(tl.int64) * (2 * width) + place
    tl.store(sums, of_weight, mask=inside)
    tl.store(sums + width, of_bias, mask=inside)


def normalise_back(
    gradient: Tensor, passed: Tensor | None, x: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `normalise` with respect to x, weight and bias.

    Args:
        gradient: gradient of the result, [...,D].
        passed: float32, a further gradient of x, which is added to it; ``None`` for none.
        x: float32 [...,D], contiguous.
        weight: float32 [D].
        eps: added to the variance.

    Returns:
        float32 [...,D], [D] and [D].

    >>> normalise_back(gradient, None, x, norm.weight, norm.eps)  # doctest: +SKIP
    """
    width = x.shape[-1]
    rows = x.numel() // width
    each = triton.cdiv(rows, min(rows, PROGRAMS))
    programs = triton.cdiv(rows, each)
    to_x = torch.empty_like(x)
    partial = x.new_empty((programs, 2, width))
    passed = passed if passed is None else passed.contiguous()
    _normalise_back[(programs,)](
        gradient.contiguous(), x if passed is None else passed, x, weight, to_x, partial, rows, width, eps,
        each, PASSED=passed is not None, BLOCK=triton.next_power_of_2(width),
    )  # fmt: skip
    of_weight, of_bias = sum_rows(partial.view(programs, -1)).view(2, width).unbind()
    return to_x, of_weight, of_bias


def sum_rows(partial_PD: Tensor) -> Tensor:
    """Return the sum of the rows of float32 [P,D], in a fixed order.

    The sum is computed as a product with ones, which took less than half the time of `torch.sum` on an NVIDIA
    H200 (3.3 and 7.9 us for P = 480 and D = 384).

    >>> sum_rows(torch.ones(3, 2))
    tensor([3., 3.])
    """
    with torch.autocast(partial_PD.device.type, enabled=False):  # it would round the sums to its type
        return torch.mv(partial_PD.t(), constant(1.0, partial_PD.device, partial_PD.dtype, len(partial_PD)))


def inner(x_NCHW: Tensor) -> Tensor:
    """Return a map with its channels innermost in memory.

    >>> inner(torch.zeros(1, 2, 3, 3)).stride()
    (18, 1, 6, 2)
    """
    return x_NCHW.contiguous(memory_format=torch.channels_last)
