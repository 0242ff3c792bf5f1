"""Crops that are cut while video arrives are those of the whole clip, and memory is bounded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deiii.data.config.schema import FacesConfig, FlowConfig
from deiii.pipeline.faces.face import Face
from deiii.pipeline.faces.stage import extract_faces
from deiii.pipeline.faces.stream import FaceStream, settle_s
from deiii.pipeline.flow.engines import load_engine
from deiii.pipeline.flow.stage import FaceClip, compute_flow
from deiii.pipeline.flow.stream import FlowStream
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import write

TEXTURE = np.random.default_rng(3).integers(90, 255, (40, 40, 3), dtype=np.uint8)
TEXTURE = cv2.GaussianBlur(TEXTURE, (5, 5), 0)


class BrightSquare:
    """Finds the bright square, with some jitter."""

    settle_s = 0.2
    second_look = False

    def __init__(self, oriented: bool):
        self.oriented = oriented
        self.calls = 0

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        self.calls += 1
        ys, xs = np.nonzero(rgb.min(axis=2) > 60)
        if len(ys) < 400:
            return []
        low = np.array([xs.min(), ys.min()], float) + 0.7 * np.sin(self.calls * np.array([1.3, 2.1]))
        box = np.array([*low, 40.0, 40.0])
        marks = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.75], [0.65, 0.75]])
        return [Face(box, box[:2] + marks * 40, 1.0)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A square that moves for 12 s, and is away from 5 to 6 s and for 3 frames at 8 s."""
    frames = []
    for i in range(300):
        frame = np.full((120, 160, 3), 20, np.uint8)
        x, y = int(50 + 30 * np.sin(i / 20)), int(35 + 15 * np.cos(i / 31))
        if not 125 <= i < 150 and not 200 <= i < 203:
            frame[y : y + 40, x : x + 40] = TEXTURE
        frames.append(frame)
    return write(tmp_path_factory.mktemp("stream") / "square.mp4", frames)


@pytest.mark.parametrize("fps", [None, 10.0], ids=["own", "grid"])
@pytest.mark.parametrize("twice", [False, True], ids=["kept", "decoded-twice"])
def test_rows_equal_those_of_the_whole_clip(clip, fps, twice, monkeypatch):
    config = FacesConfig(size=48, fps=fps, every=6, smooth=0.05)
    whole = extract_faces(clip, config, BrightSquare(oriented=True)).arrays
    stream = FaceStream(config, BrightSquare(oriented=True), block_s=0.7)
    again = read_video(clip).frames() if twice else None
    blocks, waiting = [], 0
    for rows in stream.run(read_video(clip).frames(), again):
        blocks.append(rows)
        waiting = max(waiting, len(stream._frames), len(stream._times) // 2)
        assert all(
            len(t.times) <= 25 * (2 * settle_s(config, stream.detector) + 2) for t in stream.tracker.tracks()
        )
    assert len(blocks) > 8
    assert waiting <= 25 * (settle_s(config, stream.detector) + 0.7 + 0.5)
    found = {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}
    for name, values in whole.items():
        if name == "frames":
            assert np.abs(found[name].astype(int) - values).max() <= 1
        else:
            np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)
    assert not whole["valid"].all() and (whole["interpolated"].any() or fps)


def test_roll_from_motion_needs_more_time_ahead(clip):
    config = FacesConfig(size=48, every=6)
    detector = BrightSquare(oriented=False)
    assert settle_s(config, detector) > 8
    rows = list(FaceStream(config, detector).run(read_video(clip).frames()))
    whole = extract_faces(clip, config, BrightSquare(oriented=False)).arrays
    np.testing.assert_allclose(np.concatenate([r["landmarks"] for r in rows]), whole["landmarks"], atol=1e-4)


def test_without_time_ahead_each_interval_gives_its_rows(clip):
    config = FacesConfig(size=48, every=4)
    stream = FaceStream(config, BrightSquare(oriented=True), ahead_s=0.0, behind_s=1.0, block_s=0.0)
    pushed, given = 0, 0
    for frame, time in read_video(clip).frames():
        rows = stream.push(frame, time, [time])
        pushed += 1
        given += 0 if rows is None else len(rows["time"])
        assert pushed - given <= 4
    rows = stream.finish()
    assert given + (0 if rows is None else len(rows["time"])) == 300


@pytest.mark.parametrize("pause_s", [0.0, 1.0])
@pytest.mark.parametrize("storage", ["int8", "float16"])
def test_flow_of_blocks_is_that_of_the_clip(clip, storage, pause_s):
    config = FlowConfig(method="dis", storage=storage)
    faces = extract_faces(clip, FacesConfig(size=48), BrightSquare(oriented=True)).arrays
    faces["time"][35:] += pause_s  # the two frames around the pause are a block of their own
    whole = next(
        compute_flow([FaceClip(faces["frames"], faces["time"], faces["valid"])], config, load_engine(config))
    )
    stream, blocks, at = FlowStream(config, load_engine(config)), [], 0
    for n in (1, 1, 2, 31, 1, 5, 200, 59):
        rows = stream.push({name: values[at : at + n] for name, values in faces.items()})
        blocks += [] if rows is None else [rows]
        at += n
    blocks.append(stream.finish())
    assert at == 300
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(np.concatenate([b[name] for b in blocks]), values, err_msg=name)
