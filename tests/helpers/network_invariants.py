"""The invariants of every network; a test module derives a class and gives it the settings to check."""

from __future__ import annotations

from dataclasses import replace

import torch

from deiii.data.loader.batch import ExtraStream
from deiii.model.network.hide_streams import hide
from deiii.model.training.losses import total_loss
from tests.helpers.model_helpers import CLASSES, take
from tests.helpers.network_switches import assert_same, batch_for, make, pad, values


class NetworkInvariants:
    """Shapes, independence of clips, padding, masked steps, gradients, missing modalities."""

    def test_shapes_and_ranges(self, changes):
        outputs = make(**changes)(batch_for(changes))
        classes = None if changes.get("classes") is False else (4, CLASSES)
        for scores in outputs.heads().values():
            assert (None if scores.logits is None else scores.logits.shape) == classes
            assert scores.attributes.shape == (4, 2)
            assert scores.attributes.abs().max() <= 1

    def test_batch_mates_and_place_have_no_effect(self, changes):
        model, batch = make(**changes), batch_for(changes, 6)
        whole = values(model(batch))
        for rows in ([3], [5, 3, 0], [3, 3]):
            part = values(model(take(batch, rows)))
            assert_same(part, {n: v[rows] for n, v in whole.items()})

    def test_padding_has_no_effect_whatever_it_holds(self, changes):
        model, batch = make(**changes), batch_for(changes)
        expected = values(model(batch))
        for junk in (1e3, float("nan")):
            assert_same(values(model(pad(batch, 3, 12, junk))), expected)

    def test_masked_steps_have_no_effect_whatever_they_hold(self, changes):
        model, batch = make(**changes), batch_for(changes)
        batch.video_mask[:, 2] = batch.flow_mask[:, 2] = False
        batch.flow_mask[:, 0] = False
        batch.audio_mask[:, 8:15] = False
        other = batch_for(changes, seed=9)
        junk = replace(
            batch, **{n: getattr(batch, n).clone() for n in ("frames", "flow", "logmel", "video_time")}
        )
        junk.frames[:, 2], junk.flow[:, [0, 2]] = other.frames[:, 2], other.flow[:, [0, 2]]
        junk.logmel[:, 8:15], junk.video_time[:, 2] = other.logmel[:, 8:15], 77.0
        junk.extra = {}
        for name, x in batch.extra.items():
            x.mask[:, 1:3] = False
            held = ExtraStream(values=x.values.clone(), time=x.time.clone(), mask=x.mask)
            held.values[:, 1:3], held.time[:, 1:3] = other.extra[name].values[:, 1:3], 77.0
            junk.extra[name] = held
        assert_same(values(model(junk)), values(model(batch)))

    def test_every_parameter_gets_a_gradient(self, changes):
        model, batch = make(**changes), batch_for(changes)
        model.train(getattr(model, "time_match", None) is not None)  # L_S is computed in training alone
        loss, _ = total_loss(model(batch), batch)
        loss.backward()
        for name, p in model.named_parameters():
            assert p.grad is not None and p.grad.abs().sum() > 0, name

    def test_missing_modalities_are_finite_forward_and_backward(self, changes):
        model, batch = make(**changes), batch_for(changes, 8)
        none = torch.zeros(8, dtype=torch.bool)
        gone = {"frames": none.clone(), "flow": none.clone(), "audio": none.clone()}
        gone["audio"][:3] = True
        gone["frames"][2:5] = gone["flow"][2:4] = True
        batch = hide(batch, **gone)
        outputs = model(batch)
        assert all(v.isfinite().all() for v in values(outputs).values())
        loss, _ = total_loss(outputs, batch)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
