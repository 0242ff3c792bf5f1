"""Windows of a recording in memory hold the rows of their time; missing stages are empty."""

from __future__ import annotations

import numpy as np

from deiii.data.cache.stages import FACES, FLOW, LOGMEL
from deiii.data.config.load import load_config
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.loader import Loader
from deiii.data.loader.recording import recording


def test_windows_hold_the_rows_of_their_time():
    time = 0.1 + np.arange(30) / 10
    arrays = {"logmel": {"logmel": np.arange(30, dtype=np.float16)[:, None], "time": time}}
    stream = recording(arrays, [(0, 99), (1.0, 2.0), (5, 6)], ("a",)).streams["logmel"]
    assert stream.length.tolist() == [30, 10, 0] and stream.clip(1)["logmel"][:, 0].tolist() == list(
        range(9, 19)
    )


def test_what_is_missing_is_masked():
    """Audio only: the batch has frames of the right size, and all of them are masked."""
    time = np.arange(200) / 100
    settings = load_config(overrides=["faces.size=24", "logmel.n_mels=16"])
    arrays = {stage.name: stage.empty(settings) for stage in (FACES, FLOW, LOGMEL)}
    arrays["logmel"] = {"logmel": np.ones((200, 16), np.float16), "time": time}
    config = LoaderConfig(steps=3, audio_steps=50, crop=20, batch=2, residency="stream")
    batch = next(
        Loader(recording(arrays, [(0, 2), (0, 1)], ("a", "b")), [0, 1], config, training=False).epoch(0)
    )
    assert batch.frames.shape == (2, 3, 3, 20, 20) and batch.flow.shape == (2, 3, 2, 20, 20)
    assert not batch.video_mask.any() and not batch.flow_mask.any() and batch.audio_mask.all()


def test_flow_and_frames_share_their_rows():
    time = np.arange(10) / 5
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    flow = {"flow": np.zeros((10, 8, 8, 2), np.int8), "scale": np.arange(10, dtype=np.float32), "time": time}
    valid = {"valid": np.ones(10, bool)}
    arrays = {"faces": {"frames": frames, "time": time, **valid}, "flow": {**flow, **valid}}
    streams = recording(arrays, [(0.4, 1.2)], ("a",)).streams
    shown, moved = streams["faces"].clip(0), streams["flow"].clip(0)
    assert shown["frames"][:, 0, 0, 0].tolist() == moved["scale"].tolist() == [2, 3, 4, 5]
