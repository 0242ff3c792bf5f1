"""Fill hidden places of a tensor, in one launch forward and one backward on a GPU."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def fill(x: Tensor, hidden: Tensor, value: float = 0.0) -> Tensor:
    """Return x with ``value`` where ``hidden``, bool and broadcastable to x, is true; x may be overwritten.

    Use it only if no backward pass needs the old values of x, as for the output of `torch.nn.Linear`.

    >>> fill(torch.ones(2), torch.tensor([True, False]))
    tensor([0., 1.])
    """
    if x.is_cuda and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return fill_by_choice(x, hidden, value)
    return x.masked_fill_(hidden, value)


def fill_by_choice(x: Tensor, hidden: Tensor, value: float = 0.0) -> Tensor:
    """Return the same as `fill`, and leave x as it is."""
    result: Tensor = _Fill.apply(x, hidden, value)
    return result


@cache
def constant(value: float, device: torch.device, dtype: torch.dtype, *shape: int) -> Tensor:
    """Return a tensor of equal values on a device, [] if no shape is given; equal calls share one tensor.

    >>> constant(1.0, torch.device("cpu"), torch.float32, 2)
    tensor([1., 1.])
    """
    with torch.inference_mode(False):
        return torch.full(shape, value, device=device, dtype=dtype)


class _Fill(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, hidden, value):
        ctx.save_for_backward(hidden)
        return torch.where(hidden, constant(value, x.device, x.dtype), x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (hidden,) = ctx.saved_tensors
        return torch.where(hidden, constant(0.0, gradient.device, gradient.dtype), gradient), None, None
