"""Winograd's convolutions against direct convolutions in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.pipeline.flow.raft.winograd import KERNELS, WinogradConv, workspace


def layer(c, o, kernel, seed=0, **options):
    """A convolution whose outputs are about 1, its weight and bias."""
    torch.manual_seed(seed)
    weight, bias = torch.randn(o, c, *kernel) / (c * kernel[0] * kernel[1]) ** 0.5, torch.randn(o)
    return WinogradConv(weight, bias, **options), weight, bias


def direct(x, weight, bias=None):
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    bias = None if bias is None else bias.double()
    return F.conv2d(x.double(), weight.double(), bias, padding=padding)


@settings(deadline=None, max_examples=40)
@given(
    kernel=st.sampled_from(KERNELS),
    n=st.integers(1, 3),
    c=st.integers(1, 140),
    o=st.integers(1, 70),
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    last=st.booleans(),
    relu=st.booleans(),
)
def test_equals_the_direct_convolution(kernel, n, c, o, height, width, last, relu):
    conv, weight, bias = layer(c, o, kernel, relu=relu)
    x = torch.randn(n, c, height, width)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    expected = direct(x, weight, bias)
    expected = expected.relu() if relu else expected
    y = conv(x)
    assert y.shape == expected.shape and y.is_contiguous(memory_format=torch.channels_last)
    assert (y - expected).abs().max() <= 2e-4


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_error_stays_near_that_of_the_direct_convolution(kernel):
    conv, weight, bias = layer(128, 64, kernel)
    x = torch.randn(4, 128, 16, 16)
    exact = direct(x, weight, bias)
    own = (conv(x) - exact).square().mean().sqrt()
    padding = (kernel[0] // 2, kernel[1] // 2)
    librarys = (F.conv2d(x, weight, bias, padding=padding) - exact).square().mean().sqrt()
    assert own <= 20 * librarys


@pytest.mark.parametrize("kernel", KERNELS)
def test_input_in_parts_slices_and_an_addend(kernel):
    conv, weight, _ = layer(100, 24, kernel)
    wide = torch.randn(2, 150, 9, 13).contiguous(memory_format=torch.channels_last)
    added = torch.randn(2, 50, 9, 13).contiguous(memory_format=torch.channels_last)
    y = conv(wide[:, 90:], wide[:, 10:50], add=added[:, 20:44])
    x = torch.cat([wide[:, 90:], wide[:, 10:50]], 1)
    assert (y - direct(x, weight) - added[:, 20:44]).abs().max() <= 2e-4


@pytest.mark.parametrize("kernel", KERNELS)
def test_transforms_are_used_again_only_if_they_are_still_in_memory(kernel):
    gates, one, _ = layer(48, 32, kernel)
    candidate, other, bias = layer(48, 16, kernel, seed=1)
    h, changed, motion = (torch.randn(2, c, 8, 8) for c in (16, 16, 32))
    expected = direct(torch.cat([changed, motion], 1), other, bias)
    gates(h, motion)
    assert (candidate(changed, motion, fresh=1) - expected).abs().max() <= 2e-4
    gates(torch.randn(1, 48, 8, 8))  # another shape now fills the workspace
    assert (candidate(changed, motion, fresh=1) - expected).abs().max() <= 2e-4


def test_large_maps_are_computed_in_several_steps():
    conv, weight, bias = layer(16, 16, (3, 3))
    x = torch.randn(1, 16, 70, 66)
    assert (conv(x) - direct(x, weight, bias)).abs().max() <= 2e-4


def test_other_kernels_and_channels_are_refused():
    with pytest.raises(ValueError, match="3x3, 1x5 or 5x1, not 7x7"):
        WinogradConv(torch.zeros(4, 4, 7, 7))
    with pytest.raises(ValueError, match="8 channels are expected"):
        WinogradConv(torch.zeros(4, 8, 3, 3))(torch.zeros(1, 4, 8, 8))


def test_a_workspace_is_reused_and_grows():
    first = workspace("test", 4, 8)
    assert workspace("test", 4, 8).data_ptr() == first.data_ptr() and first.shape == (4, 24)
    assert workspace("test", 400, 8).shape == (400, 24)
