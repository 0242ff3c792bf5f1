"""Landmark paths and crops against known transforms."""

import numpy as np
import pytest

from deiii.pipeline.faces import align
from deiii.pipeline.faces.detectors import TEMPLATE
from deiii.pipeline.faces.face import Face
from deiii.pipeline.faces.tracking import Track

TIMES = np.arange(50) / 25


def moving_points():
    """A face of 100 px that drifts, rolls and grows: complex [n,5]."""
    flat = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1] - (0.5 + 0.5j)
    a = 100 * (1 + 0.1 * TIMES) * np.exp(0.2j * TIMES)
    return a[:, None] * flat + (150 + 20 * TIMES + 1j * (120 + 5 * TIMES))[:, None]


def track_of(points, noise, every):
    track, rng = Track(0, 0), np.random.default_rng(0)
    for i, time in enumerate(TIMES):
        step = None
        if i:
            a = (points[i, 1] - points[i, 0]) / (points[i - 1, 1] - points[i - 1, 0])
            step = (a, points[i, 0] - a * points[i - 1, 0])
        seen = np.stack([points[i].real, points[i].imag], -1) + rng.normal(0, noise, (5, 2))
        box = np.array([*seen.mean(axis=0) - 50, 100, 100])
        track.add(time, Face(box, seen, 1.0) if i % every == 0 else None, step, True)
    return track


def test_path_keeps_motion_and_averages_noise():
    points = moving_points()
    exact = align.landmark_path(track_of(points, 0.0, 5), True, 0.5, 0.12)
    assert np.abs(exact - points).max() < 0.1
    noisy = align.landmark_path(track_of(points, 2.0, 5), True, 0.5, 0.12)
    assert np.abs(noisy - points).mean() < 1.5
    assert np.abs(np.diff(noisy - points, 2, axis=0)).mean() < 0.05  # detections alone: about 6 px


def test_local_line_has_no_lag():
    uneven = np.sort(np.random.default_rng(1).uniform(0, 2, 40))
    line = 3 + 2 * uneven
    np.testing.assert_allclose(align.local_line(line, uneven, 0.12), line, atol=1e-9)


@pytest.mark.parametrize("shrink", [0.3, 0.7, 2.0])
@pytest.mark.parametrize("method", ["similarity", "box", "static"])
def test_crops_have_the_landmarks_in_their_places(method, shrink):
    size, margin = 112, 0.25
    points = moving_points()[:1] / (0.66 * shrink)
    if method != "similarity":  # a face without roll
        points = (TEMPLATE @ [1, 1j])[None] * 100 / shrink + 90 + 80j
    transform = align.crop_transforms(points, size, margin, method)[0]
    ys, xs = np.mgrid[:400, :600]
    ramp = np.stack([xs / 3, ys / 2, np.full_like(xs, 7)], -1)
    crop = align.crop(np.round(ramp).astype(np.uint8), transform, size)
    goal = (TEMPLATE + margin) / (1 + 2 * margin) * size - 0.5
    for (x, y), point in zip(goal, points[0], strict=True):
        if not (5 < point.real < 590 and 5 < point.imag < 390):
            continue
        got = crop[round(y), round(x)]
        ahead = np.linalg.inv(transform[:, :2]) @ (np.array([round(x), round(y)]) - transform[:, 2])
        assert got[0] == pytest.approx(ahead[0] / 3, abs=1.2) and got[1] == pytest.approx(
            ahead[1] / 2, abs=1.2
        )
        assert np.hypot(*(ahead - [point.real, point.imag])) < 1.0 / np.hypot(*transform[0, :2])


def test_shrinking_averages():
    fine = np.zeros((400, 400, 3), np.uint8)
    fine[:, ::2] = 200  # bilinear sampling would alias this into stripes
    points = (TEMPLATE @ [1, 1j])[None] * 220 + 60 + 60j
    for size in (48, 64, 80):
        crop = align.crop(fine, align.crop_transforms(points, size, 0.25, "box")[0], size)
        assert crop[4:-4, 4:-4].std() < 12 and crop[4:-4, 4:-4].mean() == pytest.approx(100, abs=4)


@pytest.mark.parametrize("method", ["similarity", "box", "static"])
def test_landmarks_that_are_all_one_point_have_no_crop(method):
    """Dividing by their size was a warning, and the crop was said to lie outside the frame."""
    points = np.stack([TEMPLATE @ [1, 1j] * 100 + 50 + 50j, np.full(5, 90 + 70j)])
    for n in (1, 2):
        transforms = align.crop_transforms(points[-n:], 112, 0.25, method)
        whole = method == "static" and n == 2  # the median size of both
        assert np.isnan(transforms).any(axis=(1, 2)).tolist() == [False, not whole][-n:]


def test_share_inside():
    points = (TEMPLATE @ [1, 1j])[None] * 100 + 50 + 50j
    transform = align.crop_transforms(points, 112, 0.25, "box")[0]
    assert align.share_inside(transform, 112, 400, 400) == pytest.approx(1, abs=1e-3)
    assert align.share_inside(transform, 112, 100, 400) == pytest.approx(0.5, abs=0.03)
    assert align.share_inside(transform, 112, 10, 10) == 0
