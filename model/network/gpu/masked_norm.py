"""Batch normalisation with masked steps, and the ReLU after it, with few launches in training on a GPU.

Axes: B clips, C channels, L hops, M bands.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deiii.model.network.gpu.available import masked_norm_kernels


def kernels_for(x_BCLM: Tensor, norm: nn.BatchNorm2d) -> ModuleType | None:
    """Return the kernels if they compute this layer's training on x, else ``None``.

    >>> kernels_for(torch.zeros(1, 2, 3, 4), nn.BatchNorm2d(2)) is None
    True
    """
    if not (x_BCLM.is_cuda and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        return None
    if norm.momentum is None or norm.running_mean is None or not norm.affine or not x_BCLM.numel():
        return None
    kernels = masked_norm_kernels(x_BCLM.device)
    return kernels if kernels is not None and x_BCLM.shape[1] <= kernels.MOST_CHANNELS else None


def masked_norm(
    kernels: ModuleType,
    x_BCLM: Tensor,
    mask_B1L1: Tensor,
    norm: nn.BatchNorm2d,
    beside: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Return relu(norm(x) + beside + bias) with zeros at masked hops, in the data type of x.

    PyTorch's operations start about 60 kernels forward and backward; these are 7.

    Args:
        kernels: of `kernels_for`.
        x_BCLM: feature maps.
        mask_B1L1: bool, true for valid hops; the others are left out of the batch's statistics.
        norm: the layer, in training; its running statistics move.
        beside: [B,C,L,M]; ``None`` for nothing.
        bias: float32 [C], for example that of a convolution without bias whose result is ``beside``.
    """
    result: Tensor = _MaskedNorm.apply(kernels, x_BCLM, mask_B1L1, norm, norm.weight, norm.bias, beside, bias)
    return result


class _MaskedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kernels, x, mask, norm, _weight, _bias, beside, further):
        out, dense, factors = kernels.normalise(x, mask, norm, beside, further)
        ctx.kernels, ctx.beside = kernels, None if beside is None else beside.dtype
        ctx.save_for_backward(out, dense, factors, mask)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        found = ctx.kernels.normalise_back(gradient, *ctx.saved_tensors, ctx.beside)
        to_x, to_beside, of_weight, of_bias = found
        of_further = of_bias if ctx.needs_input_grad[7] else None
        return None, to_x, None, None, of_weight, of_bias, to_beside, of_further
