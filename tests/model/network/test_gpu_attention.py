"""Attention in few launches is attention: against the layer's plain operations and numerical gradients."""

import pytest
import torch

from deiii.model.network.attention import Attention, keys_of, learns_on_gpu
from deiii.model.network.gpu.attention import attend
from deiii.model.network.positions import ClockRotary

B, H, K = 3, 2, 8


def inputs(itself, masked, rotated, dtype=torch.float32):
    """Queries, keys (the queries themselves where ``itself``), a mask with an empty clip, rotations."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(B, 5, H * K, generator=generator, dtype=dtype).requires_grad_()
    kv = q if itself else torch.randn(B, 7, H * K, generator=generator, dtype=dtype).requires_grad_()
    steps = kv.shape[1]
    mask = torch.rand(B, steps, generator=generator) < 0.6
    mask[0], mask[1, 0] = False, True
    at = torch.rand(B, max(5, steps), generator=generator)
    rotary = ClockRotary(K)
    rotations = (None, None)
    if rotated:
        of_queries = rotary(at[:, :5])
        rotations = (of_queries, of_queries if itself else rotary(at[:, :steps]))
    return q, kv, mask if masked else None, rotations


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("rotated", [True, False])
def test_result_and_gradients_are_those_of_plain_operations(itself, masked, rotated):
    torch.manual_seed(1)
    layer = Attention(H * K, H)
    q, kv, mask, rotations = inputs(itself, masked, rotated)
    learned = [q, kv, *layer.parameters()] if not itself else [q, *layer.parameters()]
    expected = layer(q, kv, mask, *rotations)
    direction = torch.randn_like(expected)
    keys = None if mask is None else keys_of(mask)
    found = layer._few_launches(q, kv, keys, rotations if rotated else None, 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    pairs = zip(
        torch.autograd.grad(found, learned, direction),
        torch.autograd.grad(expected, learned, direction),
        strict=True,
    )
    for gradient, right in pairs:
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_gradients_are_the_numerical_ones(packed):
    q, kv, mask, rotations = inputs(False, True, True, torch.float64)
    keys = keys_of(mask)
    if packed:
        rotation = rotations[0]
        q, kv = torch.randn(B, 5, 3 * H * K, dtype=torch.float64, requires_grad=True), None
        hidden, some, rotations = keys.hidden[:, :5], keys.valid[:, :5].any(dim=1), (rotation, rotation)
    else:
        kv = torch.randn(B, 7, 2 * H * K, dtype=torch.float64, requires_grad=True)
        hidden, some = keys.hidden, keys.some
    torch.autograd.gradcheck(
        lambda *x: attend(*x, *([None] * (2 - len(x))), H, hidden, some, rotations),
        (q,) if packed else (q, kv),
    )


def test_dropout_drops_weights_and_learns_through_those_that_stay():
    q = torch.zeros(1, 400, 1)
    kv = torch.stack((torch.zeros(1, 100), torch.ones(1, 100)), dim=2).requires_grad_()
    torch.manual_seed(0)
    found = attend(q, kv, 1, dropout=0.25)  # equal weights of values that are one: shares of those that stay
    assert abs(found.mean().item() - 1) < 0.01 and found.std() > 0.01
    counts = found * 0.75 * 100
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-3)
    found.sum().backward()
    torch.testing.assert_close(kv.grad[0, :, 1].sum(), found.sum().detach(), rtol=1e-4, atol=0)


def test_bfloat16_agrees_with_float32():
    q, kv = torch.randn(B, 5, H * K), torch.randn(B, 7, 2 * H * K)
    _, _, mask, rotations = inputs(False, True, True)
    keys = keys_of(mask)
    right = attend(q, kv, H, keys.hidden, keys.some, rotations)
    half = attend(q.bfloat16(), kv.bfloat16(), H, keys.hidden, keys.some, rotations)
    assert half.dtype == torch.bfloat16 and not half[0].any()
    torch.testing.assert_close(half.float(), right, rtol=0.05, atol=0.03)


def test_the_processor_keeps_the_fused_kernel():
    x = torch.randn(B, 5, H * K, requires_grad=True)
    assert not learns_on_gpu(x, x, H)
