"""Synthetic faces of known position, size and roll: errors in px, two people, cuts, rotated and 4K frames."""

import cv2
import numpy as np
import pytest

from deiii.data.cache.outcomes import Status
from deiii.data.config.schema import FacesConfig, SyntheticConfig
from deiii.data.corpora.synthetic.face import landmarks, render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.pipeline.faces import align
from deiii.pipeline.faces import stage as faces
from deiii.pipeline.faces.stage import extract_faces, load_detector
from tests.helpers.clipmaker import SHARED, rotated, shared, write

CORPUS = SyntheticConfig(speakers=4, clips_per_class=1, seconds=0.8)
GROUND = (96, 110, 120)


@pytest.fixture(scope="module", params=["haar", "yunet"])
def detector(request):
    """A detector with its settings."""
    if request.param == "yunet" and not SHARED:
        pytest.skip("needs YuNet's weights: set DEIII_TEST_DATA")
    weights = shared("weights/face_detection_yunet_2023mar.onnx") if request.param == "yunet" else None
    settings = {"detector": request.param, "weights": weights}
    return settings, load_detector(FacesConfig(**settings))


def run(detector, path, **settings):
    return extract_faces(path, FacesConfig(**detector[0], **settings), detector[1])


@pytest.fixture(scope="module")
def people():
    """Two synthetic people: frames uint8 [n,192,192,3] and true landmarks [n,5,2]."""
    plans = [plan_clip(CORPUS, n) for n in (0, 9)]
    return [(render_frames(p), landmarks(p)) for p in plans]


def placed(canvas, person, n, centre, scale=1.0, roll=0.0):
    """Paint frame n of a person, shrunk or enlarged and turned, in place; the landmarks it has there."""
    frames, points = person
    turn = cv2.getRotationMatrix2D((95.5, 95.5), np.degrees(-roll), scale)
    turn[:, 2] += np.array(centre) - 95.5
    size = canvas.shape[1::-1]
    frame = frames[n]
    if scale < 1:
        frame = cv2.GaussianBlur(frame, (0, 0), 0.4 / scale)
    cv2.warpAffine(frame, turn, size, dst=canvas, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
    return points[n] @ turn[:, :2].T + turn[:, 2]


def canvas(height=360, width=480):
    return np.full((height, width, 3), GROUND, np.uint8)


def film(person, count, place, height=360, width=480):
    """Frames with the person where ``place(n)`` says (centre, scale, roll), and the true landmarks."""
    frames = [canvas(height, width) for _ in range(count)]
    truth = [placed(f, person, n % len(person[0]), *place(n)) for n, f in enumerate(frames)]
    return frames, np.array(truth)


def in_crop(arrays, truth, config):
    """Where the true landmarks lie in the crops, px [n,5,2]; the found ones define the crop."""
    points = arrays["landmarks"].astype(np.float64)
    flat = points[..., 0] + 1j * points[..., 1]
    transforms = align.crop_transforms(flat, config.size, config.margin, config.align)
    return np.einsum("nij,nkj->nki", transforms[..., :2], truth) + transforms[:, None, :, 2]


@pytest.mark.parametrize("roll", [-0.2, 0.0, 0.2])
@pytest.mark.parametrize("scale", [0.6, 1.8])
def test_position_size_and_roll(detector, people, tmp_path, scale, roll):
    """A drifting face. A detector's landmarks are off by an amount that is its own; what alignment
    adds, the wander about that, must be small, and the crop must show the face at its place and size.
    """
    frames, truth = film(people[0], 12, lambda n: ((240 + 2 * n, 170 + n), scale, roll))
    result = run(detector, write(tmp_path / "a.mp4", frames), smooth=0.04)
    assert result.outcome.status is Status.OK
    per_px = 112 / 1.5 / result.arrays["box"][:, 2].mean()
    error = (result.arrays["landmarks"] - truth) * per_px
    assert np.sqrt((error**2).sum(axis=-1).mean()) < 5.5
    wander = error - error.mean(axis=0)
    assert np.sqrt((wander**2).sum(axis=-1).mean()) < 0.2
    where = in_crop(result.arrays, truth, FacesConfig())
    goal = (align.TEMPLATE + 0.25) / 1.5 * 112 - 0.5
    assert np.abs(where.mean(axis=(0, 1)) - goal.mean(axis=0)).max() < 4
    eyes = np.linalg.norm(where[:, 1] - where[:, 0], axis=-1)
    assert np.abs(eyes / np.linalg.norm(goal[1] - goal[0]) - 1).max() < 0.15


def test_changing_roll_and_size(detector, people, tmp_path):
    """The head rolls by 17 degrees and grows by 40 %: the crop shows little of either."""
    frames, truth = film(people[0], 20, lambda n: ((240, 180), 1 + 0.02 * n, 0.015 * n - 0.15))
    arrays = run(detector, write(tmp_path / "a.mp4", frames), smooth=0.04).arrays
    where = in_crop(arrays, truth, FacesConfig())
    across = where[:, 1] - where[:, 0]
    roll = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    assert np.ptp(roll) < 3 and np.ptp(np.linalg.norm(across, axis=-1)) < 1.0
    assert np.abs(where - where.mean(axis=0)).max() < 1.5


def test_pick(detector, people, tmp_path):
    """One large at the left edge all the time, one small in the middle that comes later."""
    frames, truths = [], []
    for n in range(16):
        frames.append(canvas())
        left = placed(frames[-1], people[0], n, (110, 190), 1.1)
        middle = placed(frames[-1], people[1], n, (330, 180), 0.7) if n >= 4 else None
        truths.append((left, middle))
    path = write(tmp_path / "two.mp4", frames)
    for pick, who in {"speaker": 0, "largest": 0, "first": 0, "central": 1}.items():
        arrays = run(detector, path, pick=pick).arrays
        valid = arrays["valid"]
        assert valid.tolist() == [True] * 16 if who == 0 else [False] * 4 + [True] * 12
        off = [np.abs(arrays["landmarks"][n] - truths[n][who]).max() for n in np.flatnonzero(valid)]
        assert max(off) < 20  # the people stand 220 px apart


def test_no_other_face_is_cropped_when_the_speaker_leaves(detector, people, tmp_path):
    frames = []
    for n in range(30):
        frames.append(canvas())
        if n < 20:
            placed(frames[-1], people[0], n % 20, (130, 180), 1.1)
        placed(frames[-1], people[1], n % 20, (370, 180), 0.8)
    arrays = run(detector, write(tmp_path / "two.mp4", frames)).arrays
    assert arrays["valid"].tolist() == [True] * 20 + [False] * 10
    assert (arrays["box"][:20, 0] < 240).all()


def test_a_cut_restarts_the_track(detector, people, tmp_path):
    """Another person at another place after the cut, from the first frame on, nothing blended."""
    frames, truth = film(people[0], 10, lambda n: ((130, 160), 1.0, 0.0))
    for n in range(10):
        frames.append(np.full_like(frames[0], 30))
        frames[-1][:180] = 220
        truth = np.concatenate([truth, placed(frames[-1], people[1], n, (340, 200), 1.2)[None]])
    arrays = run(detector, write(tmp_path / "cut.mp4", frames)).arrays
    assert arrays["valid"].all() and not arrays["interpolated"].any()
    assert np.abs(arrays["landmarks"] - truth).max() < 20


def test_leaving_and_coming_back(detector, people, tmp_path):
    frames, truth = film(people[0], 30, lambda n: ((200, 180), 1.0, 0.0))
    gone = canvas()
    gone[:] = frames[0].mean(axis=(0, 1))
    film_ = [gone if 10 <= n < 22 else f for n, f in enumerate(frames)]
    arrays = run(detector, write(tmp_path / "back.mp4", film_)).arrays
    assert arrays["valid"].tolist() == [True] * 10 + [False] * 12 + [True] * 8
    assert np.abs(arrays["landmarks"][arrays["valid"]] - truth[arrays["valid"]]).max() < 15


def test_portrait_video_with_rotation_metadata(detector, people, tmp_path):
    """Stored lying on its side with a display matrix: the same faces as in the upright file."""
    frames, truth = film(people[0], 10, lambda n: ((150, 200 + n), 1.1, 0.0), height=400, width=304)
    upright = run(detector, write(tmp_path / "up.mp4", frames)).arrays
    lying = [np.ascontiguousarray(np.rot90(f)) for f in frames]  # counter-clockwise
    turned = rotated(write(tmp_path / "side.mp4", lying), [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30])
    arrays = run(detector, turned).arrays
    assert arrays["valid"].all()
    assert np.abs(arrays["landmarks"] - upright["landmarks"]).max() < 1.5
    assert np.abs(arrays["landmarks"] - truth).max() < 15
    assert np.abs(arrays["frames"].astype(int) - upright["frames"]).mean() < 3


def test_non_square_pixels(detector, people, tmp_path):
    """Two thirds of the width with 3:2 pixels: landmarks and crops equal those of the wide frame."""
    frames, truth = film(people[0], 8, lambda n: ((240, 180), 1.1, 0.0))
    narrow = [cv2.resize(f, (320, 360), interpolation=cv2.INTER_AREA) for f in frames]
    arrays = run(detector, write(tmp_path / "sar.mp4", narrow, sar="3/2")).arrays
    assert np.abs(arrays["landmarks"] - truth).max() < 15


@pytest.mark.parametrize("kept", [True, False])
def test_4k(detector, people, tmp_path, monkeypatch, kept):
    """Frames of 3840x2160, kept for their crops or decoded twice; the same crops as from a small video."""
    if not kept:
        monkeypatch.setattr(faces, "KEEP_BYTES", 0)
    small, truth = film(people[0], 4, lambda n: ((240 + 4 * n, 140), 1.0, 0.0), height=270, width=480)
    large = [cv2.resize(f, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC) for f in small]
    fast = {"preset": "ultrafast"}
    arrays = run(detector, write(tmp_path / "4k.mp4", large, options=fast), every=2).arrays
    assert arrays["valid"].all() and np.abs(arrays["landmarks"] / 8 - truth).max() < 15
    plain = run(detector, write(tmp_path / "small.mp4", small), every=2).arrays
    assert np.abs((arrays["landmarks"] + 0.5) / 8 - 0.5 - plain["landmarks"]).max() < 3
    assert np.abs(arrays["frames"].astype(int) - plain["frames"]).mean() < 8


def test_flow_between_crops_of_a_still_face(detector, people, tmp_path):
    rng, still = np.random.default_rng(0), canvas()
    placed(still, people[0], 0, (240, 180), 1.2)
    frames = [np.clip(still + rng.normal(0, 2, still.shape), 0, 255).astype(np.uint8) for _ in range(16)]
    crops = run(detector, write(tmp_path / "still.mp4", frames)).arrays["frames"]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(c, cv2.COLOR_RGB2GRAY) for c in crops]
    flows = [dis.calc(a, b, None) for a, b in zip(greys[:-1], greys[1:], strict=True)]
    assert np.mean([np.hypot(f[..., 0], f[..., 1]).mean() for f in flows]) < 0.1
