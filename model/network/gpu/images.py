"""The small image encoder in training on a GPU: with fewer launches, and fewer passes over large maps.

The time of `deiii.model.network.visual_encoders.ImageEncoder` on a GPU is that of reading and writing its
maps. Here one kernel ends a residual block (sum, ReLU, and the pooling that the next block begins with), one
computes its gradient, and one selects, scales and casts the input images. Biases of convolutions whose result
is added to a normalised one are added with the normalisation's own offset, whose gradient is the same.

Axes: N images, C channels, H rows, W columns.
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deiii.model.network.gpu.available import image_kernels

WIDE = 8  # channels of the input: cuDNN's fast kernels need a multiple of eight


def kernels_for(images_NCHW: Tensor, halvings: int) -> ModuleType | None:
    """Return the kernels if they compute an encoder with so many halvings of these images, else ``None``.

    >>> kernels_for(torch.zeros(1, 3, 96, 96), 4) is None
    True
    """
    learns = images_NCHW.is_cuda and torch.is_grad_enabled() and not images_NCHW.requires_grad
    if not learns or torch.compiler.is_compiling() or images_NCHW.dtype != torch.float32:
        return None
    rows, columns = images_NCHW.shape[-2:]
    if rows % 2**halvings or columns % 2**halvings or images_NCHW.stride(2) != columns * images_NCHW.stride(3):
        return None
    return image_kernels(images_NCHW.device)


def stem(
    kernels: ModuleType, images_NCHW: Tensor, take_N: Tensor, count_1: Tensor, factor: float, layer: nn.Conv2d
) -> tuple[Tensor, Tensor]:
    """Return relu(layer(factor * images[take])) and its means of 2x2 squares; images are zero if count is 0."""
    dtype = layer.weight.dtype
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    chosen = kernels.select(images_NCHW, take_N, count_1, factor, WIDE, dtype)
    weight = F.pad(layer.weight, (0, 0, 0, 0, 0, WIDE - layer.in_channels))
    x = F.conv2d(chosen, weight, None, layer.stride, layer.padding)
    return end_block(kernels, x, layer.bias)


def end_block(kernels: ModuleType, a_NCHW: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return relu(a + b) and its means of 2x2 squares; b is [N,C,H,W] or [C]."""
    out, pooled = _EndBlock.apply(kernels, a_NCHW, b)
    return out, pooled


class _EndBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kernels, a, b):
        ctx.kernels, ctx.bias = kernels, None if b.ndim > 1 else b.dtype
        out, pooled = kernels.end_block(kernels.inner(a), b if b.ndim == 1 else kernels.inner(b))
        ctx.save_for_backward(out)
        return out, pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, of_pooled):
        (out,) = ctx.saved_tensors
        found, sums = ctx.kernels.end_block_back(gradient, of_pooled, out, ctx.bias is not None)
        return None, found, found if sums is None else sums.to(ctx.bias)
