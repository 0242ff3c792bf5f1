"""A setting that is said to have no effect changes no network, and every other one changes it."""

from __future__ import annotations

import pytest
import torch

from deiii.data.config.checks.effects import without_effect
from deiii.data.config.schema import Config
from deiii.model.network.hide_streams import hidden_together
from deiii.model.training.losses import total_loss
from tests.helpers.model_helpers import small_config
from tests.helpers.network_switches import SWITCHES, batch_for, make, values

OTHER = {
    "blocks": 2, "conv_kernel": 5, "ife_blocks": 2, "heads": 4, "pool": "statistics", "ov": "concat",
    "channels": [8, 24], "grid": 1, "audio_channels": [8, 8], "flow_scale": 0.25,
}  # fmt: skip


def has_effect(name: str, value, changes) -> bool:
    config = Config(model=small_config(**changes | {name: value}))
    return not without_effect(config, [f"model.{name}"])


def same_network(one, other, changes) -> bool:
    """Whether two networks have equal parameters and outputs."""
    a, b = one.state_dict(), other.state_dict()
    if a.keys() != b.keys() or any(a[n].shape != b[n].shape or not torch.equal(a[n], b[n]) for n in a):
        return False
    batch = batch_for(changes)
    first, second = values(one(batch)), values(other(batch))
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("name", OTHER)
def test_the_rules_say_which_settings_change_the_network(name):
    told = set()
    for case, changes in SWITCHES.items():
        if changes.get(name) == OTHER[name] or (changes.get("imagenet") and name != "channels"):
            continue
        effect = has_effect(name, OTHER[name], changes)
        told.add(effect)
        assert same_network(make(**changes), make(**changes | {name: OTHER[name]}), changes) != effect, case
    assert told == {True, False}


@pytest.mark.parametrize("name", ["time_match", "modality_heads", "ife"])
def test_the_rules_say_which_switches_change_the_network(name):
    told = set()
    for case, changes in SWITCHES.items():
        if changes.get("imagenet"):
            continue
        effect = has_effect(name, True, changes)
        told.add(effect)
        on, off = (make(**changes | {name: switch}) for switch in (True, False))
        assert same_network(on, off, changes) != effect, case
    assert told == {True, False}


def test_the_rules_say_which_weights_change_the_loss_and_what_modality_dropout_can_hide():
    for case, changes in SWITCHES.items():
        if changes.get("imagenet"):
            continue
        config = Config(model=small_config(**changes))
        outputs, batch = make(**changes)(batch_for(changes)), batch_for(changes)
        both = [total_loss(outputs, batch, w_video=w, w_audio=w)[0] for w in (0.1, 0.9)]
        assert bool(both[0] != both[1]) == (not without_effect(config, ["train.w_audio"])), case
        smooth = [total_loss(outputs, batch, label_smoothing=s)[0] for s in (0.0, 0.5)]
        assert bool(smooth[0] != smooth[1]) == (not without_effect(config, ["train.label_smoothing"])), case
        hides = bool(hidden_together(config.model))
        assert hides == (not without_effect(config, ["train.modality_dropout"])), case
