"""What each peer does between encoders and heads, against independent computations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.model.network.heads import Encoded, Scores
from deiii.model.network.hide_streams import hide
from deiii.model.peers import mbt
from deiii.model.peers.attention import StepWeights
from deiii.model.peers.base import averaged
from deiii.model.peers.gru import nearest
from deiii.model.peers.mbt import _layer, _mean
from tests.helpers.model_helpers import random_batch, take
from tests.helpers.network_switches import assert_same, make, values
from tests.model.peers.test_invariants import PEERS


@pytest.mark.parametrize("name", PEERS)
def test_the_fused_head_reads_every_stream_and_its_order(name):
    model, batch, other = make(name=name), random_batch(), random_batch(seed=5)
    for p in model.parameters():  # away from the start, where branches are small
        p.data += 0.2 * torch.randn_like(p)
    expected = model(batch).fused.logits
    for stream in ("frames", "flow", "logmel"):
        changed = model(replace(batch, **{stream: getattr(other, stream)})).fused.logits
        assert (changed - expected).abs().amax(dim=1).min() > 1e-4, stream
        turned = model(replace(batch, **{stream: getattr(batch, stream).flip(1)})).fused.logits
        assert (turned - expected).abs().amax(dim=1).min() > 1e-6, stream


@pytest.mark.parametrize("name", [n for n in PEERS if n != "late"])
def test_modalities_interact_before_the_head(name):
    """Late fusion adds what it makes of each modality; the others do not."""
    model, batch, other = make(name=name, head="linear"), random_batch(), random_batch(seed=5)
    for p in model.parameters():
        p.data += 0.2 * torch.randn_like(p)

    def logits(v, a):
        return model(replace(a, frames=v.frames, flow=v.flow)).fused.logits

    # Where nothing interacts, the effect of other audio is the same whatever the video shows.
    gap = logits(batch, other) - logits(batch, batch) - (logits(other, other) - logits(other, batch))
    if name == "vavl":  # its modalities share layers and meet in the head alone
        assert gap.abs().max() < 1e-5
    else:
        assert gap.abs().max() > 1e-4


def test_late_fusion_is_the_mean_of_two_networks():
    model, batch = make(name="late"), random_batch()
    found = model(batch)
    torch.testing.assert_close(found.fused.logits, (found.video.logits + found.audio.logits) / 2)
    torch.testing.assert_close(found.fused.attributes, (found.video.attributes + found.audio.attributes) / 2)
    without = model(hide(batch, audio=True))
    torch.testing.assert_close(without.fused.logits, found.video.logits)
    assert without.fused.present.all() and not without.audio.present.any()
    assert make(name="late", modality_heads=False)(batch).video is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6), st.integers(0, 1000))
def test_the_mean_of_heads_is_over_those_that_can_read_the_clip(present, seed):
    rng = np.random.default_rng(seed)
    yes = np.array(present).T
    logits = rng.normal(size=(2, len(present), 3)).astype(np.float32)
    each = [
        Scores(torch.from_numpy(x), None, torch.from_numpy(p.copy()))
        for x, p in zip(logits, yes, strict=True)
    ]
    found = averaged(each)
    for clip in range(len(present)):
        own = logits[yes[:, clip], clip]
        expected = own.mean(axis=0) if len(own) else np.zeros(3)
        np.testing.assert_allclose(found.logits[clip], expected, rtol=1e-5, atol=1e-6)
        assert found.present[clip] == (len(own) > 0)
    assert found.attributes is None


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_the_nearest_valid_step_is_taken(steps, wanted, seed):
    g = torch.Generator().manual_seed(seed)
    x, mask = torch.randn(3, steps, 2, generator=g), torch.rand(3, steps, generator=g) < 0.6
    own, times = torch.rand(3, steps, generator=g), torch.rand(3, wanted, generator=g)
    found = nearest(Encoded(x, mask, own), times)
    for clip in range(3):
        valid = [i for i in range(steps) if mask[clip, i]]
        for n in range(wanted):
            place = min(valid, key=lambda i: abs(float(own[clip, i] - times[clip, n])), default=None)
            expected = torch.zeros(2) if place is None else x[clip, place]
            assert torch.equal(found[clip, n], expected)


def test_the_gru_reads_merged_steps_in_the_order_of_time():
    """Against a GRU over the valid steps of one clip, sorted by hand."""
    model = make(name="gru", blocks=1)
    g = torch.Generator().manual_seed(0)
    video = Encoded(torch.randn(1, 3, 16, generator=g), torch.tensor([[True, False, True]]),
                    torch.tensor([[0.0, 0.0, 0.5]]))  # fmt: skip
    audio = Encoded(torch.randn(1, 2, 16, generator=g), torch.ones(1, 2, dtype=torch.bool),
                    torch.tensor([[0.2, 0.4]]))  # fmt: skip
    v, a = video.features[0], audio.features[0]
    pairs = [(v[0], a[0]), (v[0], a[0]), (v[2], a[1]), (v[2], a[1])]  # at 0.0, 0.2, 0.4, 0.5 s
    states = model.layers[0](torch.stack([torch.cat(pair) for pair in pairs])[None])[0]
    seen = []
    model.out.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    model.fuse({"video": video, "audio": audio})
    torch.testing.assert_close(seen[0].features[:, :4], states)
    assert seen[0].mask.tolist() == [[True, True, True, True, False]]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_step_weights_are_column_means_of_attention(queries, keys, seed):
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    layer = StepWeights(8, 2).requires_grad_(False)
    x, other = torch.randn(3, keys, 8, generator=g), torch.randn(3, queries, 8, generator=g)
    mask, other_mask = torch.rand(3, keys, generator=g) < 0.7, torch.rand(3, queries, generator=g) < 0.7
    found = layer(x, mask, other, other_mask)
    for clip in range(3):
        valid = mask[clip].nonzero()[:, 0].tolist()
        asking = other_mask[clip].nonzero()[:, 0].tolist()
        if not asking:
            assert (found[clip] == 1).all()
            continue
        total = torch.zeros(keys)
        for head in (slice(0, 4), slice(4, 8)):
            for row in asking:
                q = (layer.to_q.weight @ other[clip, row])[head]
                scores = torch.tensor([float(q @ (layer.to_k.weight @ x[clip, k])[head]) / 2 for k in valid])
                total[valid] += scores.softmax(dim=0) / 2 if valid else 0
        torch.testing.assert_close(found[clip], total / len(asking) * len(valid), rtol=1e-4, atol=1e-5)


def test_crossmodal_layers_read_the_other_modality_from_before_the_first_layer():
    """What self-attention does to the audio cannot reach the video of MulT."""
    model, batch = make(name="mult", ife_blocks=2), random_batch()
    seen = []
    model.out.register_forward_pre_hook(lambda _, args: seen.append(args[0][0].features))
    model(batch)
    for layer in [*model.crossmodal["audio"], *model.within["audio"]]:
        for p in layer.parameters():
            p.data += torch.randn_like(p)
    model(batch)
    torch.testing.assert_close(seen[1], seen[0])
    model.convolutions["audio"].over_time.weight.data.normal_()
    model(batch)
    assert not torch.allclose(seen[2], seen[0], atol=1e-3)


def test_modalities_of_mbt_meet_in_the_bottleneck_alone(monkeypatch):
    model, batch, logits = make(name="mbt"), random_batch(), []
    model.heads["video"].register_forward_hook(lambda _, __, out: logits.append(out.logits))
    other = replace(batch, logmel=random_batch(seed=5).logmel)
    model(batch), model(other)
    assert (logits[1] - logits[0]).abs().amax(dim=1).min() > 1e-7
    monkeypatch.setattr(mbt, "_mean", lambda each, masks: torch.ones_like(each[0]))
    model(batch), model(other)
    assert torch.equal(logits[3], logits[2])


def test_bottleneck_tokens_are_averaged_over_the_modalities_of_a_clip():
    a, b = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    masks = [torch.tensor([[True], [True], [False]]), torch.tensor([[True], [False], [False]])]
    found = _mean([a, b], masks)
    torch.testing.assert_close(found[0], (a[0] + b[0]) / 2)
    torch.testing.assert_close(found[1], a[1])
    assert not found[2].any()
    layer = make(name="mbt").between["video"][0]
    x, mask = torch.randn(3, 5, 16), torch.ones(3, 5, dtype=torch.bool)
    steps, tokens = _layer(layer, x, mask, torch.randn(3, 4, 16))
    assert steps.shape == x.shape and tokens.shape == (3, 4, 16)
    assert _layer(layer, x, mask, None)[1] is None


class TestBatchAxis:
    """The fault of VAVL's published code: attention and convolution along the clips of a batch."""

    def test_predictions_depend_on_batch_mates(self):
        model, batch = make(name="vavl", batch_axis=True), random_batch(6)
        with_mates, alone = values(model(batch)), values(model(take(batch, [3])))
        assert not torch.allclose(with_mates["fused/logits"][3], alone["fused/logits"][0], atol=1e-3)
        honest = make(name="vavl")
        assert_same(values(honest(take(batch, [3]))), {n: v[3:4] for n, v in values(honest(batch)).items()})

    def test_steps_never_meet(self):
        """The steps of a clip could stand in any order; without the fault their order matters."""
        batch = random_batch()
        later = hide(batch, frames=True, flow=True)
        turned = replace(later, logmel=later.logmel[:, ::4].repeat_interleave(4, dim=1))
        for wrong in (True, False):
            model = make(name="vavl", batch_axis=wrong)
            for p in model.parameters():
                p.data += 0.2 * torch.randn_like(p)
            sequence = model.sequence("audio", turned)
            order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
            mixed = Encoded(sequence.features[:, order], sequence.mask, sequence.time)
            video = model.sequence("video", turned)
            found = [model.fuse({"video": video, "audio": a}).fused.logits for a in (sequence, mixed)]
            assert torch.allclose(*found, atol=1e-5) == wrong

    def test_parameters_are_those_of_the_right_network(self):
        states = [make(name="vavl", batch_axis=wrong).state_dict() for wrong in (False, True)]
        assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())
