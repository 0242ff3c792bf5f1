"""Flow per second: one motion filmed at several frame rates is one motion for the network."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from deiii.data.config.load import load_config
from deiii.data.loader.loader import Loader
from deiii.data.loader.recording import recording
from deiii.pipeline.flow.stage import FaceClip, compute_flow, load_engine

SPEED = 50.0  # px/s: 4 px a step at 12.5 frames per second, 0.5 px at 100
SIZE = 64


def texture(seed=0):
    noise = np.random.default_rng(seed).random((SIZE, 3 * SIZE)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 7.0)
    return 255 * (smooth - smooth.min()) / np.ptp(smooth)


def film(times):
    """Frames of a texture that moves to the right with `SPEED`, at some times."""
    whole, frames = texture(), []
    for time in times:
        shift = np.array([[1, 0, SPEED * time - SIZE], [0, 1, 0]], np.float32)
        picture = cv2.warpAffine(
            whole, shift, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP
        )
        frames.append(np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return np.stack(frames)


def batch_of(times, *overrides, intervals=None):
    """What the network gets of such frames, through the stage that computes flow and the loader."""
    words = ["flow.method=dis", "loader.crop=48", "loader.steps=8", "loader.batch=1", "faces.size=64"]
    config = load_config(overrides=[*words, *overrides])
    frames, valid = film(times), np.ones(len(times), bool)
    clip = FaceClip(frames, times, valid)
    flow = next(iter(compute_flow([clip], config.flow, load_engine(config.flow)))).arrays
    arrays = {"faces": {"frames": frames, "time": times, "valid": valid}, "flow": flow}
    features = recording(arrays, intervals or [(0.0, 99.0)], ("a", "b"))
    loader = Loader(features, np.arange(len(features)), config.loader, training=False, audio=False)
    return next(iter(loader.epoch(0)))


def speed(batch):
    """Median length of the valid flow near the centre."""
    flow = batch.flow[batch.flow_mask][..., 12:36, 12:36]
    return float(torch.linalg.vector_norm(flow, dim=1).median())


@pytest.mark.parametrize("storage", ["int8", "float16"])
@pytest.mark.parametrize("rate", [12.5, 25.0, 50.0, 100.0])
def test_one_motion_has_one_flow_at_every_rate(rate, storage):
    found = batch_of(np.arange(0, 1.2, 1 / rate), f"flow.storage={storage}")
    assert speed(found) == pytest.approx(SPEED / 25, rel=0.1)  # px in 1/25 s


@pytest.mark.parametrize("rate", [12.5, 25.0, 50.0])
def test_switched_off_it_is_px_to_the_next_frame(rate):
    found = batch_of(np.arange(0, 1.2, 1 / rate), "loader.flow_per_second=false")
    assert speed(found) == pytest.approx(SPEED / rate, rel=0.1)


def test_at_25_frames_per_second_nothing_changes():
    times = np.arange(30) * 0.04
    new, old = batch_of(times), batch_of(times, "loader.flow_per_second=false")
    torch.testing.assert_close(new.flow, old.flow, rtol=1e-6, atol=0)


def test_irregular_times_use_the_time_of_each_step():
    steps = np.tile([0.02, 0.06], 20)
    found = batch_of(
        np.concatenate([[0.0], np.cumsum(steps)]), "loader.stride=1", "loader.sampling=contiguous"
    )
    lengths = torch.linalg.vector_norm(found.flow[found.flow_mask][..., 12:36, 12:36], dim=1).flatten(1)
    assert lengths.median(dim=1).values.numpy() == pytest.approx(SPEED / 25, rel=0.15)


def test_windows_of_a_recording_read_the_same_flow():
    times = np.arange(0, 2.0, 0.02)
    found = batch_of(times, "loader.batch=3", "loader.stride=1", intervals=[(0, 1), (0.5, 1.5), (0.5, 0.62)])
    for clip in range(3):
        flow = found.flow[clip][found.flow_mask[clip]][..., 12:36, 12:36]
        assert float(torch.linalg.vector_norm(flow, dim=1).median()) == pytest.approx(SPEED / 25, rel=0.1)


def test_times_that_are_almost_equal_do_not_explode():
    times = np.sort(np.concatenate([np.arange(30) * 0.04, [0.4 + 1e-7]]))
    found = batch_of(times, "loader.stride=1", "loader.sampling=contiguous", "loader.steps=30")
    assert found.flow.abs().max() < 100 and torch.isfinite(found.flow).all()
