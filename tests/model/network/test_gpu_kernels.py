"""The Triton kernels of training against the operations of PyTorch, in Triton's interpreter on the CPU."""

import copy

import pytest
import torch
from torch import nn

from deiii.data.tools.devices import working_kernels
from deiii.model.distributed.layers import count_together
from deiii.model.network.attention import Attention, keys_of
from deiii.model.network.audio_encoders import DeepAudioEncoder
from deiii.model.network.gpu import heads, norm
from deiii.model.network.gpu.available import gpu_kernels
from deiii.model.network.gpu.masked_norm import kernels_for
from deiii.model.network.gpu.norm import begin_branch
from deiii.model.network.positions import ClockRotary
from deiii.model.network.visual_encoders import ImageEncoder, only_valid
from tests.helpers.triton_interpreter import check_case, needs_triton

CASES = ("layouts", "attention", "branches", "images", "masked_norms")


@needs_triton
@pytest.mark.parametrize("case", CASES)
def test_kernels_compute_what_pytorch_computes(case):
    check_case("tests.model.network.gpu_kernel_cases", case)


@pytest.mark.gpu
def test_kernels_on_a_gpu_compute_what_pytorch_computes(monkeypatch):
    """Attention with rotary positions, and a branch with its shortcut: results and gradients."""
    device = torch.device("cuda")
    assert gpu_kernels(device) is not None
    torch.manual_seed(0)
    layer, before = Attention(192, 4).to(device), nn.LayerNorm(192).to(device)
    x = torch.randn(8, 75, 192, device=device, requires_grad=True)
    rotation = ClockRotary(48).to(device)(torch.rand(8, 75, device=device))
    keys = keys_of(torch.rand(8, 75, device=device) < 0.6)
    learned = [x, *layer.parameters(), *before.parameters()]

    def computed():
        shortcut, y = begin_branch(x, before)
        out = shortcut + layer(y, y, keys, rotation, rotation)
        return out, torch.autograd.grad(out.square().sum(), learned)

    found, gradients = computed()
    for module in (heads, norm):
        monkeypatch.setattr(module, "gpu_kernels", lambda device: None)
    right, expected = computed()
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


@pytest.mark.gpu
def test_the_image_encoder_learns_on_a_gpu_as_by_its_layers():
    """Tokens and gradients in float32, with frames of 96 px as a batch holds them, some of them not valid."""
    torch.manual_seed(0)
    device = torch.device("cuda")
    encoder = ImageEncoder(3, [32, 64, 128], 96, 3).to(device).train()
    count_together(encoder)
    images = torch.rand(20, 96, 96, 3, device=device).permute(0, 3, 1, 2)
    mask = torch.arange(20, device=device) % 3 > 0
    kernels = encoder.kernels_for(images)
    assert kernels is not None
    learned = list(encoder.parameters())
    # With TF32, convolutions round their inputs, and the two ways have different convolutions.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
        right = encoder(only_valid(0.5 * images, mask))
        direction = torch.randn_like(right)
        expected = torch.autograd.grad((right * direction).sum(), learned)
        found = encoder.forward_by_kernels(kernels, images, mask, 0.5)
        gradients = torch.autograd.grad((found * direction).sum(), learned)
    torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-3)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-3 * float(other.abs().max()))


@pytest.mark.gpu
def test_the_audio_encoder_learns_on_a_gpu_as_on_the_processor():
    """Features, gradients and running statistics in float32, with hops that are not valid."""
    torch.manual_seed(0)
    encoder = DeepAudioEncoder(80, 64, [32, 64, 128]).train()
    logmel, direction = torch.randn(6, 200, 80), torch.randn(6, 50, 64)
    mask = torch.arange(200) < torch.tensor([200, 150, 7, 0, 99, 180])[:, None]

    def computed(device):
        network = copy.deepcopy(encoder).to(device)
        assert (kernels_for(logmel.to(device), network.stem_norm) is None) == (device == "cpu")
        found = network(logmel.to(device), mask.to(device))
        found.backward(direction.to(device))
        return [
            x.cpu() for x in (found.detach(), *(p.grad for p in network.parameters()), *network.buffers())
        ]

    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
        found = computed("cuda")
    for one, other in zip(found, computed("cpu"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-3 * max(1.0, float(other.abs().max())))


def test_the_processor_normalises_as_the_layer_does():
    x, layer = torch.randn(2, 3, requires_grad=True), nn.LayerNorm(3)
    shortcut, y = begin_branch(x, layer)
    assert shortcut is x and torch.equal(y, layer(x))


def test_kernels_that_are_missing_or_broken_are_not_used():
    def missing():
        raise ImportError("no Triton")

    def broken():
        raise RuntimeError("no compiler\nmore")

    assert working_kernels(missing, "it runs") is None
    with pytest.warns(RuntimeWarning, match="it runs without Triton's kernels.*RuntimeError: no compiler"):
        assert working_kernels(broken, "it runs") is None
