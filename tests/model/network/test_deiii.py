"""Properties of the network, for every switch."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.cache.stages import stages
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network.audio_encoders import MaskedBatchNorm
from deiii.model.network.deiii import DEIII
from deiii.model.network.hide_streams import hide
from deiii.model.network.inputs.network import Network
from deiii.model.network.visual_encoders import ImageEncoder
from tests.helpers.extra_stages import APPEARANCE, SPEECH
from tests.helpers.model_helpers import CLASSES, MELS, random_batch, small_config, take
from tests.helpers.network_invariants import NetworkInvariants
from tests.helpers.network_switches import SWITCHES, assert_same, make, pad, values


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """The stages of another package, as if it were installed."""
    for stage in (SPEECH, APPEARANCE):
        monkeypatch.setitem(stages(), stage.name, stage)


@pytest.mark.parametrize("changes", SWITCHES.values(), ids=SWITCHES.keys())
class TestEverySwitch(NetworkInvariants):
    """The invariants of all networks, for every switch of DE-III."""


@pytest.mark.parametrize("changes", [{}, {"flow": False}, {"ov": "concat"}, {"conformer": False}])
def test_order_matters(changes):
    model, batch = make(**changes), random_batch()
    for p in model.parameters():  # away from the start, where branches and gates are small
        p.data += 0.3 * torch.randn_like(p)
    expected = model(batch)
    turned = model(replace(batch, frames=batch.frames.flip(1), flow=batch.flow.flip(1)))
    assert (turned.fused.logits - expected.fused.logits).abs().amax(1).min() > 1e-5
    turned = model(replace(batch, logmel=batch.logmel.flip(1)))
    assert (turned.fused.logits - expected.fused.logits).abs().amax(1).min() > 1e-4
    if changes.get("conformer", True):
        turned = model(replace(batch, frames=batch.frames.flip(1), flow=batch.flow.flip(1)))
        assert (turned.video.logits - expected.video.logits).abs().amax(1).min() > 1e-4


def test_modality_heads_read_one_modality_and_the_fused_head_both():
    model, batch, other = make(), random_batch(), random_batch(seed=5)
    expected = model(batch)
    deaf = model(replace(batch, logmel=other.logmel))
    assert torch.equal(deaf.video.logits, expected.video.logits)
    assert not torch.allclose(deaf.fused.logits, expected.fused.logits, atol=1e-3)
    for name in ("frames", "flow"):
        blind = model(replace(batch, **{name: getattr(other, name)}))
        assert torch.equal(blind.audio.logits, expected.audio.logits)
        assert not torch.allclose(blind.fused.logits, expected.fused.logits, atol=1e-3)


def test_ife_relates_the_streams_through_time():
    """Shifting the audio's clock against the video's changes the fused logits and no others."""
    model, batch = make(), random_batch()
    for block in model.ife:
        torch.nn.init.ones_(block.v_gate)
    expected = model(batch)
    late = model(replace(batch, audio_time=batch.audio_time + 0.2))
    assert not torch.allclose(late.fused.logits, expected.fused.logits, atol=1e-4)
    torch.testing.assert_close(late.audio.logits, expected.audio.logits, rtol=0, atol=1e-5)
    # The same shift of both clocks has no effect.
    both = replace(batch, audio_time=batch.audio_time + 0.2, video_time=batch.video_time + 0.2)
    torch.testing.assert_close(model(both).fused.logits, expected.fused.logits, rtol=0, atol=1e-5)


def test_a_missing_stream_leaves_the_other_head_alone():
    model, batch = make(), random_batch()
    expected = model(batch)
    assert torch.equal(model(hide(batch, audio=True)).video.logits, expected.video.logits)
    gone = model(hide(batch, frames=True, flow=True))
    assert torch.equal(gone.audio.logits, expected.audio.logits)
    assert not gone.video.present.any() and gone.fused.present.all()


def test_disabled_modules_do_not_exist():
    def modules(**changes):
        return {name.split(".")[0] for name, _ in make(**changes).named_parameters()}

    everything = modules()
    assert everything - modules(flow=False) == {"flow_encoder"}
    assert everything - modules(video=False) == {"frame_encoder"}
    assert everything - modules(conformer=False) == {"v_conformer", "a_conformer"}
    assert everything - modules(ife=False) == {"ife"}
    assert everything - modules(modality_heads=False) == {"video_head", "audio_head"}
    assert modules(video=False, flow=False) == {"audio_encoder", "a_conformer", "fused_head"}
    assert not any("cross" in n for n, _ in make(ov="concat").named_parameters())


def test_attributes_stay_within_the_corpus_range():
    model = DEIII(small_config(), CLASSES, 2, MELS, ranges=[(1.0, 5.0), (-3.0, 0.0)]).eval()
    head = model.fused_head.attributes
    found = {}
    for sign in (-1, 1):
        head.bias.data.fill_(sign * 1e4)
        found[sign] = model(random_batch()).fused.attributes
    assert torch.equal(found[-1], torch.tensor([1.0, -3.0]).expand(4, 2))
    assert torch.equal(found[1], torch.tensor([5.0, 0.0]).expand(4, 2))


def test_bfloat16_stays_close_and_independent():
    model, batch = make(), random_batch(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, alone = model(batch), model(take(batch, [2]))
    assert_same(values(low), values(model(batch)), tolerance=0.05)
    assert_same(values(alone), {n: v[2:3] for n, v in values(low).items()}, tolerance=0.02)
    assert low.fused.logits.dtype == torch.float32


@pytest.mark.parametrize("changes", [{}, {"ov": "concat"}, {"video": False}])
def test_masked_images_stay_out_of_batch_statistics(changes):
    """In training, what masked steps hold moves neither outputs nor running statistics."""
    results = []
    for junk in (0.0, 50.0, float("nan")):
        model, batch = make(**changes).train(), random_batch()
        batch.video_mask[1, 2:] = batch.flow_mask[1, 1:] = batch.flow_mask[3] = False
        batch.frames[1, 2:] = batch.flow[1, 1:] = batch.flow[3] = junk
        outputs = values(model(batch))
        results.append((outputs, dict(model.named_buffers())))
    for outputs, buffers in results[1:]:
        assert_same(outputs, results[0][0], tolerance=0)
        assert all(torch.equal(buffers[name], value) for name, value in results[0][1].items())


def test_masked_hops_stay_out_of_batch_statistics():
    """As above for the residual audio encoder, and a padded batch trains like an unpadded one."""
    results = []
    for junk, more in ((0.0, 0), (50.0, 0), (float("nan"), 12)):
        model, batch = make(audio_channels=[8, 8], audio_deltas=True).train(), random_batch()
        batch.audio_mask[1, 20:] = False
        batch.logmel[1, 20:] = junk
        outputs = values(model(pad(batch, 0, more, junk)))
        results.append((outputs, dict(model.named_buffers())))
    for outputs, buffers in results[1:]:
        assert_same(outputs, results[0][0], tolerance=1e-5)
        for name, value in results[0][1].items():
            torch.testing.assert_close(buffers[name], value, rtol=1e-4, atol=1e-5)


def test_a_batch_without_a_modality_leaves_its_statistics_as_they_are():
    """An example is a last batch of one clip whose audio is hidden by modality dropout."""
    norm = MaskedBatchNorm(4)
    norm(torch.randn(2, 4, 6, 3) + 5, torch.ones(2, 1, 6, 1, dtype=torch.bool))
    encoder = ImageEncoder(3, [4, 8], width=8, grid=1)
    encoder(torch.randn(4, 3, 32, 32))
    network = SimpleNamespace(training=True, ranks=None)
    before = {name: x.clone() for m in (norm, encoder) for name, x in m.named_buffers() if "running" in name}
    norm(torch.zeros(1, 4, 6, 3), torch.zeros(1, 1, 6, 1, dtype=torch.bool))
    hidden = torch.zeros(1, 2, dtype=torch.bool)
    Network._encode_images(network, encoder, torch.randn(1, 2, 3, 32, 32), hidden)
    after = {name: x for m in (norm, encoder) for name, x in m.named_buffers() if "running" in name}
    assert all(torch.equal(after[name], x) for name, x in before.items())
    Network._encode_images(network, encoder, torch.randn(1, 2, 3, 32, 32), ~hidden)
    moved = dict(encoder.named_buffers())
    assert not all(torch.equal(moved[n], x) for n, x in before.items() if n in moved)


def test_masked_batch_norm_equals_torchs_where_all_is_valid():
    ours, theirs = MaskedBatchNorm(6), torch.nn.BatchNorm2d(6)
    x = torch.randn(5, 6, 8, 3)
    mask = torch.ones(5, 1, 8, 1, dtype=torch.bool)
    torch.testing.assert_close(ours(x, mask), theirs(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x, mask), theirs.eval()(x), rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(1, 7),
    hops=st.integers(1, 40),
    v_valid=st.integers(0, 7),
    a_valid=st.integers(0, 40),
)
def test_a_clip_shortened_by_its_mask_equals_a_shorter_clip(steps, hops, v_valid, a_valid):
    model = make(0)
    batch = random_batch(2, steps, hops)
    v, a = min(v_valid, steps), min(a_valid, hops)
    batch.video_mask[:, v:] = batch.flow_mask[:, v:] = False
    batch.audio_mask[:, a:] = False
    found = values(model(batch))
    assert all(x.isfinite().all() for x in found.values())
    if v and a:
        cut_v = {
            n: getattr(batch, n)[:, :v] for n in ("frames", "flow", "video_time", "video_mask", "flow_mask")
        }
        cut_a = {n: getattr(batch, n)[:, :a] for n in ("logmel", "audio_time", "audio_mask")}
        assert_same(found, values(model(replace(batch, **cut_v, **cut_a))))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"video": False, "flow": False, "audio": False}, "all off"),
        ({"classes": False}, "nothing to predict"),
        ({"heads": 3}, "heads"),
        ({"heads": 16}, "even width"),
        ({"audio_channels": [8]}, "audio_channels"),
    ],
)
def test_impossible_settings_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        DEIII(small_config(**changes), CLASSES, 0, MELS)


def test_a_grid_finer_than_the_features_is_refused():
    with pytest.raises(ValueError, match="model.grid=9"):
        make(grid=9)(random_batch())
