"""The faces stage on synthetic faces of known position, roll and size, and on a still real face."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.cache.outcomes import Status
from deiii.data.cache.stages import FACES
from deiii.data.config.schema import Config, FacesConfig, SyntheticConfig
from deiii.data.corpora.synthetic.face import landmarks, render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.pipeline.faces import align
from deiii.pipeline.faces import stage as faces
from deiii.pipeline.faces.face import Face
from deiii.pipeline.faces.stage import extract_faces, load_detector, resampled
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import needs_shared, shared, write

CORPUS = SyntheticConfig(speakers=4, clips_per_class=1)


@pytest.fixture(scope="module")
def haar():
    return load_detector(FacesConfig())


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    plan = plan_clip(CORPUS, 0)
    frames = render_frames(plan)
    return write(tmp_path_factory.mktemp("synthetic") / "a.mp4", frames), frames, landmarks(plan)


def test_synthetic_face(synthetic, haar):
    path, frames, truth = synthetic
    result = extract_faces(path, FacesConfig(), haar)
    arrays = result.arrays
    assert result.outcome.status is Status.OK and len(arrays["time"]) == len(frames)
    FACES.check(arrays, Config())
    assert all(len(array) == len(frames) for array in arrays.values())
    # Haar's points are placed by its box: an offset common to all frames is the cascade's; what
    # must be right is the motion.
    scale = 112 / 1.5 / arrays["box"][:, 2].mean()
    error = (arrays["landmarks"][:, :3] - truth[:, :3]).astype(np.float64)
    wander = (error - error.mean(axis=0)) * scale
    assert np.sqrt((wander**2).sum(-1).mean()) < 1.5
    assert np.abs(error.mean(axis=0)).max() * scale < 12


def test_same_bytes_in_another_process_and_with_threads(synthetic):
    path = synthetic[0]
    script = (
        "import sys, hashlib, cv2; cv2.setNumThreads(int(sys.argv[2]));"
        "from deiii.data.config.schema import FacesConfig; from deiii.pipeline.faces.stage import *;"
        "c = FacesConfig(); a = extract_faces(sys.argv[1], c, load_detector(c)).arrays;"
        "print(hashlib.sha256(b''.join(a[k].tobytes() for k in sorted(a))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script, path, n], capture_output=True, text=True, check=True
        ).stdout
        for n in ("1", "4")
    }
    assert len(digests) == 1


def test_decoding_twice_gives_the_same_result(synthetic, haar, monkeypatch):
    once = extract_faces(synthetic[0], FacesConfig(), haar).arrays
    monkeypatch.setattr(faces, "KEEP_BYTES", 0)
    twice = extract_faces(synthetic[0], FacesConfig(), haar).arrays
    assert all(once[k].tobytes() == twice[k].tobytes() for k in once)


@pytest.mark.parametrize("count", [1, 2])
def test_very_short(synthetic, haar, tmp_path, count):
    result = extract_faces(write(tmp_path / "s.mp4", synthetic[1][:count]), FacesConfig(), haar)
    assert result.outcome.status is Status.OK and result.arrays["frames"].shape == (count, 112, 112, 3)


def test_variable_frame_rate_keeps_its_times(synthetic, haar, tmp_path):
    times = uneven(len(synthetic[1]))
    path = write(tmp_path / "v.mp4", synthetic[1], times=times)
    arrays = extract_faces(path, FacesConfig(), haar).arrays
    np.testing.assert_allclose(arrays["time"], times, atol=1e-3)


def uneven(n):
    return np.cumsum([0.0, *np.tile([0.02, 0.06], 40)])[:n]


@pytest.mark.parametrize("fps", [12.5, 25.0, 60.0])
def test_grid(synthetic, haar, tmp_path, fps):
    """Rows lie on the grid, and each holds the crop of the frame nearest in time."""
    path = write(tmp_path / "v.mp4", synthetic[1], times=uneven(len(synthetic[1])))
    native = extract_faces(path, FacesConfig(every=1), haar).arrays
    result = extract_faces(path, FacesConfig(every=1, fps=fps), haar)
    got, times = result.arrays, native["time"]
    wanted = np.arange(int((times[-1] - times[0]) * fps + 1e-6) + 1) / fps + times[0]
    np.testing.assert_allclose(got["time"], wanted, atol=1e-9)
    nearest = np.array(
        [np.flatnonzero(np.abs(times - t) <= np.abs(times - t).min() + 1e-6)[0] for t in wanted]
    )
    if fps == 60:  # every frame is shown, so tracking saw what it sees natively
        np.testing.assert_array_equal(got["frames"], native["frames"][nearest])
        assert result.outcome.status is Status.OK and "repeat a frame" in result.outcome.reason
    shift = np.abs(got["landmarks"] - native["landmarks"][nearest]).max()
    assert shift < 1.5 and got["valid"].all()


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.floats(0.005, 0.5), min_size=0, max_size=40),
    fps=st.floats(1, 60),
)
def test_resampling_against_brute_force(steps, fps):
    times = np.cumsum([0.37, *steps])
    shown = [(n, t) for n, _, grid in resampled(((n, t) for n, t in enumerate(times)), fps) for t in grid]
    instants = times[0] + np.arange(len(shown)) / fps
    np.testing.assert_allclose([t for _, t in shown], instants, atol=1e-9)
    assert times[-1] - instants[-1] < 1 / fps + 1e-6  # nothing of the clip's end is missing
    for n, t in shown:
        assert abs(times[n] - t) <= np.abs(times - t).min() + 1e-5


def test_a_gap_in_a_resampled_video_is_not_valid(synthetic, haar, tmp_path):
    times = np.arange(len(synthetic[1])) / 25
    times[20:] += 1.0
    path = write(tmp_path / "h.mp4", synthetic[1], times=times)
    result = extract_faces(path, FacesConfig(fps=25), haar)
    time, valid = result.arrays["time"], result.arrays["valid"]
    inside = (time > times[19] + 0.15) & (time < times[20] - 0.15)
    assert inside.sum() > 15 and not valid[inside].any() and valid[~inside].all()
    assert result.outcome.status is Status.OK_PARTIAL


@pytest.mark.parametrize("mode", ["static", "box", "similarity"])
def test_align_modes(synthetic, haar, mode):
    arrays = extract_faces(synthetic[0], FacesConfig(align=mode, size=64), haar).arrays
    assert arrays["frames"].shape[1:] == (64, 64, 3) and arrays["valid"].all()


def test_a_face_that_leaves_is_not_continued(synthetic, haar, tmp_path):
    empty = np.full_like(synthetic[1][0], 128)
    path = write(tmp_path / "l.mp4", [*synthetic[1][:20], *[empty] * 20])
    result = extract_faces(path, FacesConfig(), haar)
    assert result.outcome.status is Status.OK_PARTIAL and "20 of 40" in result.outcome.reason
    assert result.arrays["valid"].tolist() == [True] * 20 + [False] * 20


def test_too_little_of_a_face(synthetic, haar, tmp_path):
    empty = np.full_like(synthetic[1][0], 128)
    path = write(tmp_path / "l.mp4", [*synthetic[1][:4], *[empty] * 40])
    result = extract_faces(path, FacesConfig(min_valid=0.5), haar)
    assert result.outcome.status is Status.TOO_SHORT and "only 4 of 44" in result.outcome.reason
    assert result.arrays == {}
    nothing = extract_faces(write(tmp_path / "n.mp4", [empty] * 5), FacesConfig(), haar)
    assert nothing.outcome.status is Status.NO_FACE and nothing.arrays == {}


def test_short_gaps_are_interpolated_and_marked(synthetic, haar, tmp_path):
    frames = synthetic[1][:30].copy()
    for frame, points in zip(frames[12:16], synthetic[2][12:16], strict=True):  # a hand before the face
        (x, y), side = points.mean(axis=0).astype(int), int(np.ptp(points[:, 0]) * 1.2)
        hidden = frame[max(y - side, 0) : y + side, max(x - side, 0) : x + side]
        hidden[:] = hidden.mean(axis=(0, 1))
    path = write(tmp_path / "g.mp4", frames)
    arrays = extract_faces(path, FacesConfig(max_gap=0.3), haar).arrays
    assert arrays["valid"].all() and np.flatnonzero(arrays["interpolated"]).tolist() == [12, 13, 14, 15]
    long = extract_faces(path, FacesConfig(max_gap=0.1), haar).arrays
    assert np.flatnonzero(~long["valid"]).tolist() == [12, 13, 14, 15] and not long["interpolated"].any()


def test_a_crop_outside_the_frame_is_not_valid(synthetic, haar):
    strict = extract_faces(synthetic[0], FacesConfig(margin=2.0, min_inside=0.99), haar)
    assert strict.outcome.status is Status.TOO_SHORT and "inside the frame" in strict.outcome.reason


def test_landmarks_that_are_all_one_point_are_no_face(synthetic):
    """The reason named faces.min_inside, and dividing by the size of the landmarks was a warning."""

    class OnePoint:
        oriented, settle_s, second_look = True, 0.5, False

        def __call__(self, rgb):
            return [Face(np.array([40.0, 30, 60, 60]), np.full((5, 2), 70.0), 0.9)]

    result = extract_faces(synthetic[0], FacesConfig(min_inside=0.0), OnePoint())
    assert result.outcome.status is Status.NO_FACE and not result.arrays
    assert f"no face in {len(synthetic[1])} frames" in result.outcome.reason


def test_many_crops_are_kept_on_disk(synthetic, haar, monkeypatch):
    here = extract_faces(synthetic[0], FacesConfig(), haar).arrays["frames"]
    monkeypatch.setattr(faces, "SPOOL_BYTES", 100_000)
    np.testing.assert_array_equal(extract_faces(synthetic[0], FacesConfig(), haar).arrays["frames"], here)


@needs_shared
@pytest.mark.parametrize("detector", ["yunet", "haar"])
def test_still_and_moved_real_face(tmp_path, detector):
    """One frame under known drift, roll, zoom and camera noise: crops must stand still."""
    rgb, _ = next(iter(read_video(shared("media/grid/brbk7n.mpg"))))
    rng, moves, frames = np.random.default_rng(0), [], []
    for i in range(30):
        turn = cv2.getRotationMatrix2D((180, 140), 4 * np.sin(i / 6), 1 + 0.04 * np.sin(i / 9))
        turn[:, 2] += [6 * np.sin(i / 8), 0.1 * i]
        moves.append(turn)
        moved = cv2.warpAffine(rgb, turn, (360, 288), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        frames.append(np.clip(moved + rng.normal(0, 2, moved.shape), 0, 255).astype(np.uint8))
    weights = shared("weights/face_detection_yunet_2023mar.onnx") if detector == "yunet" else None
    config = FacesConfig(detector=detector, weights=weights, smooth=0.04)
    arrays = extract_faces(write(tmp_path / "m.mp4", frames), config, load_detector(config)).arrays
    points = arrays["landmarks"].astype(np.float64)
    # Each frame's crop, undone by the known motion: the same place of the still picture throughout.
    undone = []
    for move, point in zip(moves, points, strict=True):
        undone.append((point - move[:, 2]) @ np.linalg.inv(move[:, :2]).T)
    undone = np.array(undone)
    scale = config.size / 1.5 / arrays["box"][:, 2].mean()
    steps = np.linalg.norm(np.diff(undone, axis=0), axis=-1) * scale
    assert steps.mean() < 0.1, steps.mean()
    flat = points[..., 0] + 1j * points[..., 1]
    transforms = align.crop_transforms(flat, config.size, config.margin, config.align)
    assert transforms.shape == (30, 2, 3)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in arrays["frames"]]
    flow = [
        np.hypot(*np.moveaxis(dis.calc(a, b, None), -1, 0)).mean()
        for a, b in zip(greys, greys[1:], strict=False)
    ]
    assert np.mean(flow) < 0.15
