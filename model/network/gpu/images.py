"""The small image encoder in training on a GPU: with fewer launches, and fewer passes over large maps.

On a GPU, `deiii.model.network.visual_encoders.ImageEncoder` spends its time on reading and writing its maps.
Here one kernel ends a residual block (sum, ReLU, and the pooling that the next block begins with), one
computes its gradient, and one selects, scales and casts the input images. Biases of convolutions whose result
is added to a normalised one are added with the normalisation's own offset, whose gradient is the same.

Axes: N images, C channels, H rows, W columns.
"""

from __future__ import annotations

from types import ModuleType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deiii.model.network.gpu.available import image_kernels


def kernels_for(images_NCHW: Tensor, halvings: int) -> ModuleType | None:
    """Return the kernels if they compute an encoder with this many halvings of the images, else ``None``.

    >>> kernels_for(torch.zeros(1, 3, 96, 96), 4) is None
    True
    """
    in_training = images_NCHW.is_cuda and torch.is_grad_enabled() and not images_NCHW.requires_grad
    if not in_training or torch.compiler.is_compiling() or images_NCHW.dtype != torch.float32:
        return None
    if any(length % 2**halvings for length in images_NCHW.shape[-2:]):
        return None
    return image_kernels(images_NCHW.device)


def stem(
    kernels: ModuleType, images_NCHW: Tensor, take_N: Tensor, count_1: Tensor, factor: float, layer: nn.Conv2d
) -> tuple[Tensor, Tensor]:
    """Return relu(layer(factor * images[take])) and its means of 2x2 squares; zero images if count is 0.

    The layer is a convolution of 5x5 with stride 2, a padding of 2 and a bias.
    """
    dtype = layer.weight.dtype
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    squares = kernels.select(images_NCHW, take_N, count_1, factor, dtype)
    x = F.conv2d(squares, squares_weight(layer.weight, squares.shape[1]), padding=1)
    return end_block(kernels, x, cast(Tensor, layer.bias))


def squares_weight(weight_OC55: Tensor, wide: int) -> Tensor:
    """Return the weight [O,K,3,3] of a convolution over 2x2 squares that equals one of 5x5 with stride 2.

    Value k of the 5x5 kernel is at place k - 2. The places -2 to 2 lie in the squares -1, -1, 0, 0 and 1, as
    their first, second, first, second and first value. cuDNN has no fast kernels for images of 2 or 3
    channels.

    Args:
        weight_OC55: weight of a convolution with a padding of 2.
        wide: K, channels of the squares with the zeros behind them.
    """
    outputs, inputs = weight_OC55.shape[:2]
    even = F.pad(weight_OC55, (0, 1, 0, 1)).view(outputs, inputs, 3, 2, 3, 2)
    inner = even.permute(0, 3, 5, 1, 2, 4).reshape(outputs, 4 * inputs, 3, 3)
    return F.pad(inner, (0, 0, 0, 0, 0, wide - 4 * inputs)).contiguous(memory_format=torch.channels_last)


def end_block(kernels: ModuleType, a_NCHW: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
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
