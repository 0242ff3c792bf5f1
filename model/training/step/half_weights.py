"""The weights of matrix products in bfloat16, all of them cast together.

Autocast casts each weight and each bias by itself, and each gradient back: two launches for each of them.
These were 392 of the 3,058 launches of a step of the preset ``base`` before this module existed. Here a few
launches cast all of them, with the same results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from deiii.model.network.gpu.side_stream import recording

OWN = ("deiii", "torch", "torchvision")  # packages whose layers leave their weights to autocast
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)  # layers that autocast computes in bfloat16


class HalfWeights(nn.Module):
    """A network that is called with its weights of matrix products in bfloat16, inside autocast.

    Outside autocast it is called as it is. Parameters, gradients and buffers stay those of the network.

    Args:
        model: the network. Modules of other packages in it keep their weights, because they may use them
            outside autocast.

    >>> HalfWeights(network)(batch)   # doctest: +SKIP
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.held = dict(weights_of_products(model))
        self.recorded: list[Tensor] = []  # weights that graphs read

    def forward(self, *inputs: Any) -> Any:
        some = next(iter(self.held.values()), None)
        if some is None or not torch.is_autocast_enabled(some.device.type):
            return self.model(*inputs)
        dtype = torch.get_autocast_dtype(some.device.type)
        cast = _Cast.apply(dtype, *self.held.values())
        if recording(some.device):  # other streams read them until the graph ends
            self.recorded += [weight.detach() for weight in cast]
        return functional_call(self.model, dict(zip(self.held, cast, strict=True)), inputs)


def weights_of_products(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the names and the float32 parameters of a network's matrix products and convolutions."""
    foreign = [name for name, module in model.named_modules() if _package(module) not in OWN]
    for name, module in model.named_modules():
        inside = any(not outer or name == outer or name.startswith(f"{outer}.") for outer in foreign)
        if inside or type(module) not in PRODUCTS:
            continue
        for own, parameter in module.named_parameters(name, recurse=False):
            if parameter.dtype == torch.float32:
                yield own, parameter


def channels_last(model: nn.Module) -> None:
    """Store the weights of a network's convolutions of images with their channels innermost.

    Feature maps have this layout, too. With another layout of the weights, the libraries of a GPU would copy
    each weight at each use, and its gradient. Shapes, names and values do not change. Weights that
    `weights_of_products` leaves out are not changed.
    """
    for _, weight in weights_of_products(model):
        if weight.ndim == 4 and weight.shape[2:] != (1, 1):
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def cast_together(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return copies in another type; those of one layout in memory take a few launches together."""
    copies = [torch.empty_like(x, dtype=dtype) for x in tensors]
    torch._foreach_copy_(copies, list(tensors))
    return copies


class _Cast(torch.autograd.Function):
    """Casts all tensors, and all gradients back."""

    @staticmethod
    def forward(ctx, dtype, *weights):
        ctx.set_materialize_grads(False)
        return tuple(cast_together(weights, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        there = [i for i, gradient in enumerate(gradients) if gradient is not None]
        found: list[Tensor | None] = [None] * len(gradients)
        cast = cast_together([gradients[i] for i in there], torch.float32)
        for i, gradient in zip(there, cast, strict=True):
            found[i] = gradient
        return None, *found


def _package(module: nn.Module) -> str:
    return type(module).__module__.partition(".")[0]
