"""Modules against independent implementations and known answers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deiii.model.network.attention import Attention, AttentivePool
from deiii.model.network.audio_encoders import AudioEncoder, DeepAudioEncoder
from deiii.model.network.conformer import Convolution
from deiii.model.network.positions import ClockRotary, rotate
from deiii.model.network.visual_encoders import ImageEncoder, _cells, only_valid


def test_attention_equals_torchs():
    torch.manual_seed(0)
    ours, theirs = Attention(16, 4), nn.MultiheadAttention(16, 4, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.to_q.weight, ours.to_kv.weight]))
        theirs.out_proj.weight.copy_(ours.out.weight)
    q, kv = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    mask = torch.rand(3, 7) < 0.7
    mask[:, 0] = True
    expected, _ = theirs(q, kv, kv, key_padding_mask=~mask)
    torch.testing.assert_close(ours(q, kv, mask), expected)


def test_attention_without_any_key_adds_nothing():
    attention = Attention(16, 4)
    mask = torch.tensor([[True, True], [False, False]])
    out = attention(torch.randn(2, 3, 16), torch.randn(2, 2, 16), mask)
    assert out[0].abs().sum() > 0 and torch.equal(out[1], torch.zeros(3, 16))


def test_rotation_depends_on_the_difference_of_times_alone():
    rotary = ClockRotary(8)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def at(x, t):
        return rotate(x, rotary(torch.tensor([[t]])))

    dots = [(at(q, t) * at(k, t - 0.3)).sum() for t in (0.0, 0.7, 12.3)]
    torch.testing.assert_close(dots[1], dots[0])
    torch.testing.assert_close(dots[2], dots[0], rtol=0, atol=1e-4)
    other = (at(q, 0.0) * at(k, -0.1)).sum()
    assert (other - dots[0]).abs() > 1e-3
    torch.testing.assert_close(at(q, 5.0).norm(), q.norm())


def test_rotation_equals_multiplication_by_a_unit_complex_number():
    rotary = ClockRotary(6)
    x, time = torch.randn(2, 3, 4, 6), torch.rand(2, 4)
    turn = torch.polar(torch.ones(2, 1, 4, 3), time[:, None, :, None] * rotary.omega)
    expected = torch.complex(x[..., :3], x[..., 3:]) * turn
    torch.testing.assert_close(rotate(x, rotary(time)), torch.cat([expected.real, expected.imag], -1))


def test_pool_with_equal_scores_is_the_masked_mean():
    pool = AttentivePool(8, 2)
    nn.init.zeros_(pool.score.weight)
    x, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 3 + [False] * 2, [False] * 5])
    expected = torch.stack([F.layer_norm(x[0, :3], (8,)).mean(0), torch.zeros(8)])
    torch.testing.assert_close(pool(x, mask), expected)


def test_pool_can_select_one_step_per_head():
    pool = AttentivePool(4, 2)
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[100.0, 0, 0, 0], [-100.0, 0, 0, 0]]))
    x = torch.tensor([[[3.0, 1, 2, 0], [-3.0, 2, 0, 1]]])
    n = F.layer_norm(x, (4,))[0]
    torch.testing.assert_close(pool(x)[0], torch.cat([n[0, :2], n[1, 2:]]))


def test_convolution_reaches_no_further_than_its_kernel():
    conv = Convolution(4, 3, 0.0)
    x = torch.randn(1, 9, 4)
    mask = torch.ones(1, 9, dtype=torch.bool)
    moved = x.clone()
    moved[0, 4] = torch.randn(4)
    changed = (conv(moved, mask) - conv(x, mask)).abs().amax(-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == [3, 4, 5]


def test_cells_equal_adaptive_average_pooling():
    for length in range(3, 12):
        x = torch.randn(2, 4, length, length)
        cells = _cells(length, 3, x)
        ours = torch.einsum("nchw,gh,kw->ncgk", x, cells, cells)
        torch.testing.assert_close(ours, F.adaptive_avg_pool2d(x, 3))


@pytest.mark.parametrize("encoder", [AudioEncoder(24, 16), DeepAudioEncoder(24, 16, [8, 8, 8]).eval()])
def test_audio_steps_are_centred_on_every_fourth_hop(encoder):
    """Changing hop 4i moves step i, and hops beyond its receptive field do not."""
    x, mask = torch.zeros(1, 64, 24), torch.ones(1, 64, dtype=torch.bool)
    moved = x.clone()
    moved[0, 32] = 1.0
    changed = (encoder(moved, mask) - encoder(x, mask)).abs().amax(-1)[0] > 1e-6
    steps = changed.nonzero().flatten().tolist()
    assert 8 in steps and sum(steps) / len(steps) == 8


@pytest.mark.parametrize("mask", [[1, 1, 1], [0, 1, 0, 1], [1, 0, 0], [0, 0, 1]])
def test_only_valid_images_are_left_each_in_its_place(mask):
    mask = torch.tensor(mask, dtype=torch.bool)
    images = torch.arange(1.0, len(mask) + 1)[:, None, None, None]
    found = only_valid(images, mask).flatten()
    assert torch.equal(found[mask], images.flatten()[mask])
    assert set(found.tolist()) == set(images.flatten()[mask].tolist())


def test_no_valid_image_leaves_zeros():
    assert not only_valid(torch.ones(3, 1, 1, 1), torch.zeros(3, dtype=torch.bool)).any()


def test_the_image_encoder_depends_on_the_strength_of_a_flow():
    """Per-image normalisation alone would make a field and its double look the same."""
    torch.manual_seed(0)
    encoder = ImageEncoder(2, [8, 16], 16, 2).eval()
    flow = torch.randn(1, 2, 32, 32)
    weak, strong = encoder(flow), encoder(flow * 4)
    assert (weak - strong).abs().mean() > 0.05
