"""Layout in memory of the gradients that ranks exchange."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def keep_strides(model: nn.Module) -> None:
    """Let the gradients of a network's weights have the strides of the weights, where both are contiguous.

    On a CPU, the gradient of a 1x1 convolution of 16 images or more has the strides [C,1,C,C], not [C,1,1,1].
    Both describe the same memory, and neither the exchange nor the optimiser becomes slower, but
    `DistributedDataParallel` warns of it in each process. Values do not change, and nothing is copied.

    Call this before the network is given to `DistributedDataParallel`, whose buffers get the strides of the
    weights.

    >>> keep_strides(network)   # doctest: +SKIP
    """
    for weight in model.parameters():
        if weight.requires_grad and weight.is_contiguous() and 1 in weight.shape:
            weight.register_hook(_with_strides(weight.stride()))


def _with_strides(stride: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Return a hook that gives contiguous gradients these strides, which are contiguous, too."""

    def restride(gradient: Tensor) -> Tensor:
        if gradient.stride() == stride or not gradient.is_contiguous():
            return gradient
        return gradient.as_strided(gradient.shape, stride)

    return restride
