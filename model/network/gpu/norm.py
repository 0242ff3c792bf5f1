"""Layer normalisation at the beginning of a branch, with few launches on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deiii.model.network.gpu.available import gpu_kernels

MOST_WIDTH = 4096  # features that one program of the kernels holds


def begin_branch(x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Return x for the shortcut, and norm(x) for the branch beside it.

    On a GPU one kernel normalises x and rounds to the type in which autocast computes matrix products. One
    kernel computes the gradient of x, including that of the shortcut. Automatic differentiation would start
    further kernels for both casts and for the sum.

    >>> shortcut, y = begin_branch(torch.zeros(2, 3), nn.LayerNorm(3))
    >>> y.shape
    torch.Size([2, 3])
    """
    kernels = gpu_kernels(x.device) if _fits(x, norm) and not torch.compiler.is_compiling() else None
    if kernels is not None:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        shortcut, y = _BeginBranch.apply(kernels, x, norm.weight, norm.bias, norm.eps, dtype)
        return shortcut, y
    return x, norm(x)


def _fits(x: Tensor, norm: nn.LayerNorm) -> bool:
    """Return whether the kernels compute this norm, and gradients are recorded."""
    if not (x.is_cuda and torch.is_grad_enabled()):
        return False
    if x.dtype != torch.float32 or norm.weight.dtype != torch.float32 or norm.bias is None:
        return False
    return norm.normalized_shape == (x.shape[-1],) and x.shape[-1] <= MOST_WIDTH and x.numel() > 0


class _BeginBranch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kernels, x, weight, bias, eps, dtype):
        ctx.set_materialize_grads(False)
        ctx.kernels, ctx.eps = kernels, eps
        dense = x.contiguous()
        ctx.save_for_backward(dense, weight)
        return x, kernels.normalise(dense, weight, bias, eps, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, passed, gradient):
        if gradient is None:
            return None, passed, None, None, None, None
        x, weight = ctx.saved_tensors
        found = ctx.kernels.normalise_back(gradient, passed, x, weight, ctx.eps)
        return None, *found, None, None
