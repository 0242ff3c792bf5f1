"""The layout of gradients in memory."""

from __future__ import annotations

import copy

import torch
from torch import nn

from deiii.model.distributed.gradients import keep_strides


def gradients(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    network(images).square().sum().backward()
    return [weight.grad for weight in network.parameters()]


def test_gradients_have_the_strides_of_the_weights_and_their_own_values():
    """The gradient of the 1x1 convolution has others in PyTorch 2.14 and 2.15 (see the docstring)."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 1), nn.Flatten(), nn.Linear(16 * 36, 1))
    images = torch.randn(16, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    kept = copy.deepcopy(plain)
    keep_strides(kept)
    expected = gradients(plain, images)
    for weight, gradient, other in zip(kept.parameters(), gradients(kept, images), expected, strict=True):
        assert gradient.stride() == weight.stride()
        torch.testing.assert_close(gradient, other, rtol=0, atol=0)


def test_a_gradient_in_another_order_of_memory_keeps_it():
    weight = nn.Parameter(torch.zeros(1, 3, 4))
    network = nn.Module()
    network.weight = weight
    keep_strides(network)
    values = torch.arange(12.0).reshape(1, 4, 3).transpose(1, 2)
    weight.backward(values)
    assert torch.equal(weight.grad, values)
