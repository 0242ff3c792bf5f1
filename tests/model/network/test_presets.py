"""The design page's invariances on every preset that ships, in float32 and in bfloat16.

`test_deiii` goes through the switches with a small network; here are the real sizes, on few clips.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deiii.data.config.load import load_config
from deiii.model.network.deiii import DEIII
from deiii.model.training.losses import total_loss
from tests.helpers.model_helpers import random_batch, take

PRESETS = ("tiny", "base", "ablation", "ravdess_audio", pytest.param("large", marks=pytest.mark.slow))
CLASSES = 8


@pytest.fixture(scope="module", params=PRESETS)
def preset(request):
    """A network whose branches and gates are away from their small start, and a batch for it."""
    config = load_config(f"configs/{request.param}.yaml")
    torch.manual_seed(0)
    model = DEIII(config.model, CLASSES, 0, config.logmel.n_mels).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("_gate"):
                p.fill_(0.5)
            elif p.ndim >= 2 and "trunk" not in name:
                p.add_(0.3 * p.std() * torch.randn_like(p))
    steps, hops = min(4, config.loader.steps), 48
    batch = random_batch(3, steps, hops, config.loader.crop, CLASSES, 0, config.logmel.n_mels)
    return config, model, batch


def logits(model, batch, dtype) -> dict[str, torch.Tensor]:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        return {name: scores.logits for name, scores in model(batch).heads().items()}


def gap(a, b) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def size(a) -> float:
    return max(float(v.abs().max()) for v in a.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_mates_place_and_padding_do_not_move_a_clip(preset, dtype):
    """1e-5 in float32; in bfloat16, whose numbers are 2^-8 apart, a few of its steps."""
    _, model, batch = preset
    whole = logits(model, batch, dtype)
    tolerance = (1e-5 if dtype is torch.float32 else 0.03) * max(1.0, size(whole))
    alone = logits(model, take(batch, [1]), dtype)
    assert gap(alone, {n: v[1:2] for n, v in whole.items()}) <= tolerance
    turned = logits(model, take(batch, [2, 1, 0]), dtype)
    assert gap({n: v.flip(0) for n, v in turned.items()}, whole) <= tolerance

    def grow(x, n, value):
        return torch.cat([x, torch.full((len(x), n, *x.shape[2:]), value, dtype=x.dtype)], dim=1)

    video = {n: grow(getattr(batch, n), 2, 7.0) for n in ("frames", "flow", "video_time")}
    audio = {n: grow(getattr(batch, n), 8, 7.0) for n in ("logmel", "audio_time")}
    masks = {n: grow(getattr(batch, n), 2, False) for n in ("video_mask", "flow_mask")}
    padded = replace(batch, **video, **audio, **masks, audio_mask=grow(batch.audio_mask, 8, False))
    assert gap(logits(model, padded, dtype), whole) <= tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_order_matters(preset, dtype):
    """By far more than rounding does, which turning the batch round shows.

    Each step has its own level: steps of noise alone are nearly alike after the pooling of the encoders.
    """
    config, model, batch = preset
    levels = torch.randn(*batch.frames.shape[:2], 1, 1, 1, generator=torch.Generator().manual_seed(0))
    if config.model.video:
        batch = replace(batch, frames=batch.frames + 2 * levels, flow=batch.flow + 2 * levels)
    plain = logits(model, batch, dtype)
    moved = logits(model, take(batch, [2, 1, 0]), dtype)
    rounding = gap({n: v.flip(0) for n, v in moved.items()}, plain)
    least = max(1e-4, 3 * rounding)
    turned = {n: getattr(batch, n).flip(1) for n in ("frames", "flow", "logmel")}
    assert gap(logits(model, replace(batch, **turned), dtype), plain) > least
    if config.model.video:
        turned = {n: getattr(batch, n).flip(1) for n in ("frames", "flow")}
        assert gap(logits(model, replace(batch, **turned), dtype), plain) > least


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_before_ife_see_their_own_modality_alone(preset, dtype):
    config, model, batch = preset
    if not config.model.video:
        pytest.skip("one modality alone: there is no head of each")
    other = random_batch(
        3, batch.frames.shape[1], 48, config.loader.crop, CLASSES, 0, config.logmel.n_mels, 5
    )
    plain = logits(model, batch, dtype)
    deaf = logits(model, replace(batch, logmel=other.logmel), dtype)
    blind = logits(model, replace(batch, frames=other.frames, flow=other.flow), dtype)
    assert torch.equal(deaf["video"], plain["video"]) and torch.equal(blind["audio"], plain["audio"])
    for changed in (deaf, blind):
        assert (changed["fused"] - plain["fused"]).abs().max() > 1e-3


def test_every_parameter_gets_a_gradient(preset):
    _, model, batch = preset
    model.zero_grad()
    loss, _ = total_loss(model(batch), batch)
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without
