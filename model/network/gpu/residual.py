"""A shortcut beside a branch that ends in dropout, with few launches in its backward pass on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deiii.model.distributed.layers import Dropout
from deiii.model.network.gpu.fill import constant


def add_branch(x: Tensor, branch: Tensor, drop: Dropout, factor: float = 1.0) -> Tensor:
    """Return x + factor * drop(branch); both have one shape.

    >>> add_branch(torch.ones(2), torch.ones(2), Dropout(0.0), 0.5)
    tensor([1.5000, 1.5000])
    """
    needs_gradient = x.is_cuda and drop.training and torch.is_grad_enabled() and drop.ranks is None
    keeps_dtype = torch.promote_types(x.dtype, branch.dtype) == x.dtype
    if needs_gradient and keeps_dtype and not torch.compiler.is_compiling():
        return add_dropped(x, branch, drop.p, factor)
    return torch.add(x, drop(branch), alpha=factor)


def add_dropped(x: Tensor, branch: Tensor, dropout: float, factor: float = 1.0) -> Tensor:
    """Return x + factor * dropout(branch), in the type of x.

    One kernel computes the gradient of the branch. Automatic differentiation would start a kernel each for
    the factor, for the cast and for dropout.
    """
    result: Tensor = _AddDropped.apply(x, branch, dropout, factor)
    return result


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, branch, dropout, factor):
        kept = None
        ctx.dtype = branch.dtype
        ctx.factor = factor / (1 - dropout)
        if dropout:
            branch, kept = torch.native_dropout(branch, dropout, True)
        ctx.save_for_backward(kept)
        return torch.add(x, branch, alpha=factor)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (kept,) = ctx.saved_tensors
        branch = torch.empty_like(gradient, dtype=ctx.dtype)
        if kept is None:
            torch.mul(gradient, ctx.factor, out=branch)
        else:
            zero = constant(0.0, gradient.device, gradient.dtype)
            torch.addcmul(zero, gradient, kept, value=ctx.factor, out=branch)
        return gradient, branch, None, None
