"""Rows of ``model.extra`` in a batch: those of the sampled frames, and those within the audio window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deiii.data.cache.stages import Field, extra_inputs, network_stages, stages
from deiii.data.config.load import load_config
from deiii.data.config.schema import LoaderConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch
from deiii.data.loader.loader import Loader
from deiii.data.loader.recording import recording
from tests.helpers.extra_stages import APPEARANCE, EXTRA, SPEECH

STEPS, HOPS = 4, 40


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """The stages of another package, as if it were installed."""
    for stage in (SPEECH, APPEARANCE):
        monkeypatch.setitem(stages(), stage.name, stage)


def features(with_audio: bool = True, not_valid: slice | None = None):
    """Four seconds; every row holds its own time in ms, so that a batch tells which rows it took."""
    frame_time, hop_time, state_time = np.arange(100) / 25, np.arange(400) / 100, 0.005 + np.arange(200) / 50
    valid = np.arange(100) % 7 > 0

    def rows(time, shape):
        return np.round(1000 * time)[(..., *(None,) * len(shape))] * np.ones(shape)

    arrays = {
        "faces": {"frames": np.zeros((100, 8, 8, 3), np.uint8), "time": frame_time, "valid": valid},
        "appearance": {"vector": rows(frame_time, (5,)).astype(np.float32), "time": frame_time},
        "speech": {"states": rows(state_time, (3, 6)).astype(np.float32), "time": state_time},
    }
    if not_valid is not None:
        arrays["speech"]["valid"] = np.ones(200, bool)
        arrays["speech"]["valid"][not_valid] = False
    if with_audio:
        arrays["logmel"] = {"logmel": np.zeros((400, 4), np.float16), "time": hop_time}
    return recording(arrays, [(0.0, 4.0), (1.0, 1.2), (2.0, 4.0)], ("a", "b"))


def batch(
    training: bool,
    residency: str = "stream",
    with_audio: bool = True,
    not_valid: slice | None = None,
    **changes,
) -> Batch:
    config = LoaderConfig(
        steps=STEPS, audio_steps=HOPS, crop=8, batch=3, residency=residency, threads=1, **changes
    )
    loader = Loader(
        features(with_audio, not_valid), [0, 1, 2], config, training=training, flow=False, audio=with_audio,
        extra=[EXTRA["speech"], EXTRA["appearance"]],
    )  # fmt: skip
    return next(iter(loader.epoch(0)))


@pytest.mark.parametrize("training", [False, True])
def test_a_video_stage_has_the_sampled_frames_and_their_mask(training):
    found = batch(training)
    x = found.extra["appearance"]
    assert x.values.shape == (3, STEPS, 5) and x.values.dtype == torch.float32
    assert torch.equal(x.mask, found.video_mask) and x.mask.any()
    assert torch.equal(x.time, found.video_time)
    shown = (1000 * x.time).round()[..., None].expand(-1, -1, 5)
    assert torch.equal(x.values[x.mask], shown[x.mask])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("with_audio", [True, False])
def test_an_audio_stage_has_the_rows_within_the_window(training, with_audio):
    """At most 20 rows at 50 Hz for 40 hops at 100 Hz; a row keeps its time, whatever the shift."""
    found = batch(training, with_audio=with_audio, time_shift=0.1)
    x = found.extra["speech"]
    assert x.values.shape == (3, 20, 3, 6) and x.mask.any(dim=1).all()
    shift = torch.zeros(3)
    for clip in range(3):
        rows = x.values[clip, x.mask[clip], 0, 0]
        assert torch.equal(rows, rows[0] + 20 * torch.arange(len(rows)))  # neighbours, 20 ms apart
        difference = rows / 1000 - x.time[clip, x.mask[clip]]
        assert difference.std(unbiased=False) < 1e-5 and difference[0].abs() <= 0.1 + 1e-5
        shift[clip] = difference[0]
        if with_audio:
            times = found.audio_time[clip, found.audio_mask[clip]]
            inside = x.time[clip, x.mask[clip]]
            assert inside.min() >= times.min() - 0.0051 and inside.max() <= times.max() + 0.0051
            assert len(inside) >= len(times) // 2 - 1
    assert training == bool(shift.abs().max() > 1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_residency_changes_nothing(training):
    a, b = (batch(training, residency).tensors() for residency in ("stream", "ram"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[n].nan_to_num(9.0), b[n].nan_to_num(9.0)) for n in a)


def test_shapes_that_do_not_fit_are_named():
    tensors = batch(False).tensors()
    tensors["extra/speech/time"] = tensors["extra/speech/time"][:, 1:]
    with pytest.raises(ValueError, match=r"Batch.extra\['speech'\].*\[3, 20, 3, 6\]"):
        Batch.from_tensors(tensors)
    tensors = batch(False).tensors()
    tensors["flow_mask"] = tensors["flow_mask"][:, 1:]
    with pytest.raises(
        ValueError, match=r"Batch.flow_mask has the shape \[3, 3\], expected \[B,T\] with B=3, T=4"
    ):
        Batch.from_tensors(tensors)
    shown = repr(batch(False))
    assert "frames=float32 [3, 4, 3, 8, 8]" in shown and "'speech': ExtraStream(values=float32" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model.extra=[gaze]"], "no stage 'gaze'.*package installed"),
        (["model.extra=[flow]"], "model.flow has it already"),
        (["model.extra=[speech]"], "stages lacks"),
    ],
)
def test_impossible_extra_inputs_are_refused(words, says):
    with pytest.raises(ConfigError, match=says):
        extra_inputs(load_config(overrides=words))


def test_a_video_stage_needs_the_faces():
    model = load_config(overrides=["model.video=false", "model.flow=false", "model.extra=[appearance]"]).model
    assert network_stages(model) == ["faces", "logmel", "appearance"]


def test_rows_that_an_audio_stage_marks_as_not_valid_are_masked(monkeypatch):
    fields = {**SPEECH.fields, "valid": Field("bool", (), "small")}
    monkeypatch.setitem(stages(), "speech", replace(SPEECH, fields=fields))
    before = batch(False, not_valid=slice(0)).extra["speech"]
    after = batch(False, not_valid=slice(20, 60)).extra["speech"]  # 0.4 to 1.2 s
    hidden = (before.time > 0.4) & (before.time < 1.2)
    assert (before.mask & hidden).any() and (before.mask & ~hidden).any()
    assert torch.equal(after.mask, before.mask & ~hidden)
