"""Weights copied from a trained network into one with other inputs and other classes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network.deiii import DEIII
from deiii.model.network.task import Task
from deiii.model.peers.gru import ConcatGRU
from deiii.model.peers.late import Late
from deiii.model.peers.mult import MulT
from deiii.model.peers.vavl import VAVL
from deiii.model.training.start.weights import copy_weights, describe
from deiii.model.training.trained import TrainedNetwork
from tests.helpers.extra_stages import EXTRA
from tests.helpers.model_helpers import MELS, random_batch, small_config

OLD = Task(("a", "b", "c"), ("valence",), ((0.0, 1.0),))
NEW = Task(("c", "d", "a"), ("arousal", "valence"), ((0.0, 1.0), (-2.0, 2.0)))


def network(task, seed, kind=DEIII, **changes):
    """A network in evaluation mode whose every weight is random, also those that start at zero."""
    torch.manual_seed(seed)
    stages = [EXTRA[name] for name in changes.get("extra", ())]
    config = small_config(**changes)
    made = kind(config, len(task.classes), len(task.attributes), MELS, task.ranges, extra=stages)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0.0, 0.2)
    return made.eval()


def trained(made, task):
    config = load_config()
    config.model = made.config
    return TrainedNetwork(made, task, config, {"corpus": "other"}, 0)


def hide_video(batch):
    """The batch without frames, flow and the rows of video stages."""
    extra = {
        name: dataclasses.replace(part, mask=torch.zeros_like(part.mask)) if name == "appearance" else part
        for name, part in batch.extra.items()
    }
    hidden = torch.zeros_like(batch.video_mask)
    return dataclasses.replace(batch, video_mask=hidden, flow_mask=hidden, extra=extra)


@pytest.mark.parametrize("head", ["linear", "hidden"])
@pytest.mark.parametrize("balance", [0.0, 0.75])
def test_pooled_stages_give_the_old_logits_of_the_classes_that_both_have(head, balance):
    pooled = {"join": "pooled", "head": head, "video": False, "flow": False, "audio": False}
    old = network(OLD, 1, extra=["speech"], **pooled)
    new = network(NEW, 2, extra=["speech", "appearance"], balance=balance, **pooled)
    copied, names = copy_weights(new, NEW, trained(old, OLD))
    batch = hide_video(random_batch(extra=True))
    with torch.no_grad():
        before, after = old(batch).fused, new(batch).fused
    torch.testing.assert_close(after.logits[:, [0, 2]], before.logits[:, [2, 0]], atol=1e-5, rtol=1e-5)
    scaled = {"old": before.attributes[:, 0], "new": (after.attributes[:, 1] + 2) / 4}  # other ranges
    torch.testing.assert_close(scaled["new"], scaled["old"], atol=1e-5, rtol=1e-5)
    assert copied < sum(p.numel() for p in new.parameters())
    assert "fused_head.classes.weight" in names and "audio_head.classes.weight" in names


def test_all_of_an_equal_network_is_copied():
    old, new = network(OLD, 1), network(OLD, 2)
    copied, names = copy_weights(new, OLD, trained(old, OLD))
    assert names == []
    assert copied == sum(p.numel() for p in new.parameters())
    batch = random_batch()
    with torch.no_grad():
        torch.testing.assert_close(new(batch).fused.logits, old(batch).fused.logits, atol=0, rtol=0)


def test_a_modality_more_keeps_the_columns_of_the_other_one():
    old = network(OLD, 1, video=False, flow=False, ife=False)
    new = network(OLD, 2, ife=False)
    _, names = copy_weights(new, OLD, trained(old, OLD))
    place = new.head_inputs()["audio"]
    assert place == slice(16, 32)
    torch.testing.assert_close(
        new.fused_head.first_layer().weight[:, place], old.fused_head.first_layer().weight
    )
    assert "fused_head.mix.0.weight" in names or "fused_head.classes.weight" in names
    assert not any(name.startswith(("audio_encoder", "a_conformer")) for name in names)


@pytest.mark.parametrize(("kind", "head"), [(DEIII, "fused_head"), (MulT, "out"), (VAVL, "out")])
def test_the_pooling_of_a_modality_is_copied_whatever_its_number_in_the_head(kind, head):
    """Audio is the second input of the head beside video, and the first without."""
    alone = {"video": False, "flow": False}
    both, audio = network(OLD, 1, kind=kind), network(OLD, 2, kind=kind, **alone)
    other_audio, other_both = network(OLD, 3, kind=kind, **alone), network(OLD, 4, kind=kind)
    fresh = other_both.get_submodule(head).pools[0].score.weight.clone()
    copy_weights(audio, OLD, trained(both, OLD))
    _, new = copy_weights(other_both, OLD, trained(other_audio, OLD))
    one, two, three, four = (made.get_submodule(head) for made in (both, audio, other_audio, other_both))
    assert torch.equal(two.pools[0].score.weight, one.pools[1].score.weight)
    assert torch.equal(two.first_layer().weight, one.first_layer().weight[:, 16:])
    assert torch.equal(four.pools[1].score.weight, three.pools[0].score.weight)
    assert torch.equal(four.first_layer().weight[:, 16:], three.first_layer().weight)
    assert torch.equal(four.pools[0].score.weight, fresh) and f"{head}.pools.0.score.weight" in new


def test_nothing_of_video_is_copied_to_the_head_of_audio():
    old = network(OLD, 1, kind=MulT, audio=False)
    new = network(OLD, 2, kind=MulT, video=False, flow=False)
    copy_weights(new, OLD, trained(old, OLD))
    assert not torch.equal(new.out.pools[0].score.weight, old.out.pools[0].score.weight)
    assert not torch.equal(new.out.first_layer().weight, old.out.first_layer().weight)
    assert torch.equal(new.out.classes.weight, old.out.classes.weight)  # they read the hidden layer


def test_a_head_that_reads_all_modalities_in_one_sequence_is_copied_whole():
    old, new = network(OLD, 1, kind=ConcatGRU), network(OLD, 2, kind=ConcatGRU, video=False, flow=False)
    copy_weights(new, OLD, trained(old, OLD))
    assert torch.equal(new.out.pools[0].score.weight, old.out.pools[0].score.weight)
    assert torch.equal(new.out.first_layer().weight, old.out.first_layer().weight)


def test_nothing_is_copied_for_a_stage_of_another_encoder():
    words = {"extra": ["speech"], "join": "pooled", "head": "linear", "video": False, "flow": False}
    old, new = network(OLD, 1, **words), network(OLD, 2, **words)
    place = new.head_inputs()["speech"]
    before = new.fused_head.classes.weight[:, place].clone()
    _, names = copy_weights(new, OLD, trained(old, OLD), other=["speech"])
    assert torch.equal(new.fused_head.classes.weight[:, place], before)
    assert "fused_head.classes.weight" in names


def test_standardisation_and_ranges_stay_those_of_the_new_clips():
    words = {"extra": ["speech"], "join": "pooled", "standardise": True}
    old, new = network(OLD, 1, **words), network(OLD, 2, **words)
    old.extra_encoders["speech"].vector_offset += 3
    new.fused_head.ranges -= 1
    copy_weights(new, OLD, trained(old, OLD))
    assert not new.extra_encoders["speech"].vector_offset.any()
    assert new.fused_head.ranges.tolist() == [[-1.0, 0.0]]


def test_other_kinds_of_networks_are_refused():
    late = network(OLD, 2, kind=Late)
    with pytest.raises(ConfigError, match=r"train\.start holds a network of model\.name"):
        copy_weights(late, OLD, trained(network(OLD, 1), OLD))


def test_networks_without_anything_in_common_are_refused():
    old = network(OLD, 1, audio=False, flow=False)
    new = network(Task(("x", "y"), (), ()), 2, video=False, flow=False, width=8)
    with pytest.raises(ConfigError, match=r"nothing of train\.start fits"):
        copy_weights(new, Task(("x", "y"), (), ()), trained(old, OLD))


def test_peers_are_copied_by_name():
    old, new = network(OLD, 1, kind=Late), network(NEW, 2, kind=Late)
    _, names = copy_weights(new, NEW, trained(old, OLD))
    assert names and all(".classes." in name or ".attributes." in name for name in names)


def test_description_names_modules_once():
    names = ["fused_head.classes.weight", "fused_head.classes.bias", "extra_encoders.speech.project.weight"]
    assert describe(names) == "fused_head.classes, extra_encoders.speech"
