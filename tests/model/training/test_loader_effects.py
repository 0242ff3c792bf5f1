"""A loader setting that is said to have no effect changes no bit of the batches; every other one does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from deiii.data.cache.stages import stages
from deiii.data.config.checks.effects import missing_for
from deiii.data.config.checks.rules import RULES
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.loader.recording import recording
from deiii.model.training.loaders import make_loader
from tests.helpers.extra_stages import APPEARANCE, SPEECH

SIZE, FRAMES, HOPS, STATES = 16, 100, 400, 200
BASE = (
    "loader.steps=4", "loader.audio_steps=40", "loader.crop=12", "loader.batch=3", "loader.threads=1",
    "loader.residency=stream", "loader.flip=0", "loader.colour=0", "loader.spec_masks=0",
    "loader.flow_frames=2",
)  # fmt: skip
CHANGES = {
    "crop": 8, "flip": 1.0, "colour": 0.9, "flow_per_second": False, "flow_frames": 3,
    "flow_join": "stack", "steps": 3, "stride": 1,
    "sampling": "contiguous", "audio_steps": 30, "eval_audio_steps": 30, "spec_masks": 4, "stretch": 0.5,
    "mel_shift": 3.0, "mel_warp": 0.5, "gain_db": 9.0, "time_shift": 0.5, "normalise": "speaker",
    "zoom": 0.5, "rotate": 30.0, "erase": 1.0, "grey": 1.0,
}  # fmt: skip
INPUTS = [  # video, flow, audio, extra
    (True, False, False, ()),
    (False, True, False, ()),
    (False, False, True, ()),
    (False, False, False, ("speech",)),
    (False, False, False, ("appearance",)),
    (False, False, False, ("speech", "appearance")),
    (True, False, False, ("speech",)),
    (False, False, True, ("appearance",)),
    (True, True, True, ()),
    (True, True, True, ("speech", "appearance")),
]


@pytest.fixture
def packages(monkeypatch):
    """Cheap stages in the place of speech and appearance."""
    for stage in (SPEECH, APPEARANCE):
        monkeypatch.setitem(stages(), stage.name, stage)


@pytest.fixture
def features(packages):
    """Three clips of random features, four seconds each, at 24 frames per second."""
    rng = np.random.default_rng(0)
    frame_time, hop_time, state_time = np.arange(FRAMES) / 24, np.arange(HOPS) / 100, np.arange(STATES) / 50
    valid = np.arange(FRAMES) % 7 > 0
    arrays = {
        "faces": {
            "frames": rng.integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8),
            "time": frame_time, "valid": valid,
        },
        "flow": {
            "flow": rng.integers(-127, 128, (FRAMES, SIZE, SIZE, 2)).astype(np.int8),
            "scale": rng.random(FRAMES, np.float32), "time": frame_time, "valid": valid,
        },
        "logmel": {"logmel": rng.uniform(-80, 0, (HOPS, 16)).astype(np.float16), "time": hop_time},
        "appearance": {"vector": rng.random((FRAMES, 5)).astype(np.float16), "time": frame_time},
        "speech": {"states": rng.random((STATES, 3, 6)).astype(np.float16), "time": state_time},
    }  # fmt: skip
    return recording(arrays, [(0.0, 4.0), (0.5, 3.5), (1.0, 4.0)], ("a", "b"))


def config_of(inputs, **changes) -> Config:
    video, flow, audio, extra = inputs
    config = base()
    model = replace(config.model, video=video, flow=flow, audio=audio, extra=list(extra))
    return replace(config, model=model, loader=replace(config.loader, **changes))


@cache
def base() -> Config:
    return load_config(overrides=[*BASE, "stages=[faces,flow,logmel,speech,appearance]"])


def batches(features, config: Config, training: bool) -> list[dict[str, torch.Tensor]]:
    """The batches of two epochs, without the fields of a modality that the network reads nothing of."""
    loader = make_loader(features, np.arange(3), config, torch.device("cpu"), training)
    found = [batch.tensors() for epoch in range(2) for batch in loader.epoch(epoch)]
    model = config.model
    if not (model.video or model.flow or "appearance" in model.extra):
        found = [without(batch, "video", "flow", "frames") for batch in found]
    if not (model.audio or "speech" in model.extra):
        found = [without(batch, "audio", "logmel") for batch in found]
    return found


def without(batch, *heads: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in batch.items() if not name.startswith(heads)}


def without_times(found) -> list[dict[str, torch.Tensor]]:
    return [{name: tensor for name, tensor in batch.items() if not name.endswith("time")} for batch in found]


def same(one, other) -> bool:
    return all(
        a.keys() == b.keys() and all(a[n].shape == b[n].shape and torch.equal(a[n], b[n]) for n in a)
        for a, b in zip(one, other, strict=True)
    )


def test_every_rule_about_the_loader_is_tried():
    named = {key.partition(".")[2] for rule in RULES for key in rule.keys if key.startswith("loader.")}
    assert named == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_the_rules_say_which_settings_change_the_batches(features, name):
    told = set()
    training = name != "eval_audio_steps"
    for inputs in INPUTS:
        changed = config_of(inputs, **{name: CHANGES[name]})
        effect = not missing_for(changed, f"loader.{name}")
        told.add(effect)
        one = batches(features, config_of(inputs), training)
        other = batches(features, changed, training)
        if name == "time_shift" and not effect:
            # One modality is shifted as a whole: its times move, which no network can see alone.
            one, other = (
                [{n: t for n, t in b.items() if not n.endswith("time")} for b in x] for x in (one, other)
            )
        assert same(one, other) != effect, inputs
    assert told == {True, False}


def test_batches_of_the_same_settings_are_equal(features):
    config = config_of(INPUTS[-1], flip=0.5, colour=0.2, spec_masks=2, stretch=0.1)
    assert same(batches(features, config, True), batches(features, config, True))
