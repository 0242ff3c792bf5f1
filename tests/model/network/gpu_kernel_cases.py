"""Compare the Triton kernels of training with PyTorch; run by `test_gpu_kernels` in Triton's interpreter."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from deiii.model.distributed.layers import BatchNorm2d, count_together
from deiii.model.network import audio_encoders
from deiii.model.network.attention import Attention, keys_of
from deiii.model.network.audio_encoders import DeepAudioEncoder
from deiii.model.network.gpu import heads, image_kernels, images, kernels, masked_norm_kernels, norm
from deiii.model.network.gpu.heads import put_together, take_apart
from deiii.model.network.gpu.norm import begin_branch
from deiii.model.network.positions import ClockRotary
from deiii.model.network.visual_encoders import ImageEncoder, only_valid

TYPES = (torch.float32, torch.bfloat16)


@contextlib.contextmanager
def on_kernels() -> Iterator[None]:
    """The code for GPUs, on the CPU."""
    fits = mock.patch.object(norm, "_fits", lambda x, norm: True)
    chosen = [mock.patch.object(module, "gpu_kernels", lambda device: kernels) for module in (heads, norm)]
    with fits, chosen[0], chosen[1]:
        yield


def same(found: torch.Tensor, right: torch.Tensor, tolerance: float) -> None:
    assert found.dtype == right.dtype
    torch.testing.assert_close(found, right, rtol=tolerance, atol=tolerance)


def layouts() -> None:
    generator = torch.Generator().manual_seed(0)
    for clips, steps, count, width in ((2, 5, 2, 8), (1, 3, 3, 6), (3, 1, 1, 2)):
        rotation = ClockRotary(width)(torch.rand(clips, steps, generator=generator))
        for parts, rotated in ((1, 1), (2, 1), (3, 2), (3, 0)):
            for dtype in TYPES:
                x = torch.randn(clips, steps, parts * count * width, generator=generator).to(dtype)
                for turn in (rotation, None):
                    right = take_apart(x, parts, count, turn, rotated)
                    back = put_together(right, turn, rotated)
                    with on_kernels():
                        same(
                            take_apart(x, parts, count, turn, rotated),
                            right,
                            1e-6 if dtype == torch.float32 else 1e-2,
                        )
                        same(
                            put_together(right, turn, rotated), back, 1e-6 if dtype == torch.float32 else 1e-2
                        )
                        strange = x.mT.contiguous().mT  # another axis is innermost in memory
                        same(take_apart(strange, parts, count, turn, rotated), right, 1e-2)


def attention() -> None:
    torch.manual_seed(0)
    layer = Attention(16, 2)
    x = torch.randn(3, 5, 16, requires_grad=True)
    y = torch.randn(3, 7, 16, requires_grad=True)
    keys = keys_of(torch.rand(3, 7) < 0.6)
    rotary = ClockRotary(8)
    of_x, of_y = rotary(torch.rand(3, 5)), rotary(torch.rand(3, 7))
    for other, mask, rotations in (
        (y, keys, (of_x, of_y)),
        (x, None, (of_x, of_x)),
        (x, None, None),
        (y, None, None),
    ):
        learned = [x, *layer.parameters()] + ([y] if other is y else [])
        right = layer(x, other, mask, *(rotations or (None, None)))
        direction = torch.randn_like(right)
        expected = torch.autograd.grad(right, learned, direction)
        with on_kernels():
            found = layer._few_launches(x, other, mask, rotations, 0.0)
            same(found, right, 1e-5)
            for one, of_plain in zip(torch.autograd.grad(found, learned, direction), expected, strict=True):
                same(one, of_plain, 1e-5)


def branches() -> None:
    kernels.PROGRAMS = 4  # so that a program has several rows, and the last one fewer
    torch.manual_seed(0)
    for shape in ((2, 3, 24), (1, 7), (11, 16)):
        layer = nn.LayerNorm(shape[-1], eps=1e-3)
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
        x = (3 + 2 * torch.randn(shape)).requires_grad_()
        learned = [x, layer.weight, layer.bias]
        first, second = torch.randn(shape), torch.randn(shape)
        for shares in ((1.0, 1.0), (0.0, 1.0)):  # with the gradient of the shortcut, and without
            right = begin_branch(x, layer)
            expected = torch.autograd.grad(
                shares[0] * (right[0] * first).sum() + (right[1] * second).sum(), learned
            )
            with on_kernels():
                shortcut, y = begin_branch(x, layer)
                loss = (y * second).sum()
                if shares[0]:
                    loss = loss + (shortcut * first).sum()
                found = torch.autograd.grad(loss, learned)
            assert torch.equal(shortcut, x)
            same(y, right[1], 1e-5)
            for one, of_plain in zip(found, expected, strict=True):
                same(one, of_plain, 2e-4)
        with on_kernels(), torch.autocast("cpu", dtype=torch.bfloat16):
            half = begin_branch(x, layer)[1]
        assert half.dtype == torch.bfloat16
        same(half.float(), layer(x), 2e-2)
        with on_kernels():  # the branch was not used: the shortcut's gradient alone
            (alone,) = torch.autograd.grad((begin_branch(x, layer)[0] * first).sum(), x)
        assert torch.equal(alone, first)


def block_ends() -> None:
    """The end of a residual block with its pooling, and its gradients."""
    image_kernels.PROGRAMS, image_kernels.PLACES = 3, 64  # so that a program has several rows
    torch.manual_seed(0)
    for shape in ((3, 8, 4, 6), (2, 12, 8, 8), (1, 32, 2, 2)):
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
            a = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
            for b in (torch.randn(shape), torch.randn(shape[1])):
                b = b.to(dtype).requires_grad_()
                right = torch.relu(a + (b if b.ndim > 1 else b[:, None, None]))
                both = [right, F.avg_pool2d(right, 2)]
                directions = [torch.randn_like(x) for x in both]
                expected = torch.autograd.grad(both, [a, b], directions)
                found = images.end_block(image_kernels, a, b)
                for one, of_plain in zip(found, both, strict=True):
                    same(one, of_plain, tolerance)
                for one, of_plain in zip(
                    torch.autograd.grad(found, [a, b], directions), expected, strict=True
                ):
                    same(one, of_plain, tolerance)


def squares() -> None:
    """A convolution of the 2x2 squares of chosen images equals one of 5x5 with stride 2."""
    torch.manual_seed(0)
    take, count = torch.tensor([1, 1, 4, 0, 2]), torch.tensor([3])
    for channels in (2, 3, 10):
        x = torch.randn(5, 8, 6, channels).permute(0, 3, 1, 2)
        layer = nn.Conv2d(channels, 16, 5, stride=2, padding=2)
        found = image_kernels.select(x, take, count, 0.5, torch.float32)
        weight = images.squares_weight(layer.weight, found.shape[1])
        same(F.conv2d(found, weight, layer.bias, padding=1), layer(x[take] * 0.5), 1e-4)
        assert not image_kernels.select(x, take, 0 * count, 0.5, torch.float32).any()


def encoder() -> None:
    """The whole image encoder: tokens, gradients and running statistics, also where no image is valid."""
    torch.manual_seed(0)
    plain = ImageEncoder(3, [8, 16], 12, 2).train()
    for layer in plain.modules():
        if isinstance(layer, BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    count_together(plain)
    x = torch.randn(5, 16, 16, 3).permute(0, 3, 1, 2)
    for mask in (torch.tensor([True, False, True, True, False]), torch.zeros(5, dtype=torch.bool)):
        one, other = copy.deepcopy(plain), copy.deepcopy(plain)
        right = one(only_valid(0.5 * x, mask))
        found = other.forward_by_kernels(image_kernels, x, mask, 0.5)
        same(found, right, 1e-4)
        direction = torch.randn_like(right)
        (right * direction).sum().backward()
        (found * direction).sum().backward()
        for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
            assert p.grad is not None and q.grad is not None, name
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-3)
        for p, q in zip(one.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)


def images_and_blocks() -> None:
    """All cases of the image encoder, in one process, because a process takes longer to start than to run."""
    block_ends()
    squares()
    encoder()


def masked_norms() -> None:
    """Audio encoders: outputs, gradients and running statistics, also where no hop is valid."""
    masked_norm_kernels.PROGRAMS, masked_norm_kernels.VALUES = 3, 64  # so that a program has several rounds
    torch.manual_seed(0)
    for hops in (21, 16):
        plain = DeepAudioEncoder(12, 8, [4, 6, 12]).train()
        for layer in plain.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight)
                nn.init.normal_(layer.bias)
        x, direction = 3 + 2 * torch.randn(4, hops, 12), torch.randn(4, -(-hops // 4), 8)
        mask = torch.arange(hops) < torch.tensor([hops, hops // 2, 0, 7])[:, None]

        def computed(valid, by_kernels, dtype, plain=plain, x=x, direction=direction):
            network = copy.deepcopy(plain)
            chosen = mock.patch.object(audio_encoders, "kernels_for", lambda x, norm: masked_norm_kernels)
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                with chosen if by_kernels else contextlib.nullcontext():
                    y = network(x, valid)
            (y * direction).sum().backward()
            return [y.detach(), *(p.grad for p in network.parameters()), *network.buffers()]

        for valid in (mask, torch.zeros_like(mask)):
            right = computed(valid, False, torch.float32)
            for found, one in zip(computed(valid, True, torch.float32), right, strict=True):
                same(found, one, 1e-4)
            # Rounding between the layers costs about as much as with PyTorch's operations. The type is
            # float16 because Triton's interpreter cuts digits off in bfloat16, where a GPU rounds.
            errors = []
            for by_kernels in (True, False):
                pairs = zip(computed(valid, by_kernels, torch.float16), right, strict=True)
                errors.append(sum(float((a - b).norm() / (1 + b.norm())) for a, b in pairs if b.ndim))
            assert errors[0] <= 1.3 * errors[1]


CASES = {
    "layouts": layouts,
    "attention": attention,
    "branches": branches,
    "images": images_and_blocks,
    "masked_norms": masked_norms,
}

if __name__ == "__main__":
    CASES[sys.argv[1]]()
