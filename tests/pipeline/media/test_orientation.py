"""Orientation: the frame as the display matrix shows it, whole and in windows."""

import numpy as np
import pytest

from deiii.pipeline.media.orientation import Orientation
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import numbered, rotated, write

# a, b, c, d of x' = a x + c y, y' = b x + d y, with y down
EIGHT = [
    *[(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)],
    *[(0, 1, 1, 0), (0, 1, -1, 0), (0, -1, 1, 0), (0, -1, -1, 0)],
]


def matrix(a, b, c, d):
    one = 1 << 16
    return [round(a * one), round(b * one), 0, round(c * one), round(d * one), 0, 0, 0, 1 << 30]


def mapped(image, a, b, c, d):
    """Every pixel moved to where the matrix sends it, one by one."""
    height, width = image.shape[:2]
    ys, xs = np.mgrid[:height, :width]
    x, y = a * xs + c * ys, b * xs + d * ys
    out = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1, 3), image.dtype)
    out[y - y.min(), x - x.min()] = image
    return out


@pytest.mark.parametrize("entries", EIGHT)
def test_orientations_move_pixels_as_the_matrix_says(entries):
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    found, remark = Orientation.of(tuple(matrix(*entries)))
    expected = mapped(image, *entries)
    np.testing.assert_array_equal(found.apply(image), expected)
    assert remark == "" and found.size(6, 4) == expected.shape[1::-1]
    left, top, right, bottom = found.stored((1, 0, 3, 2), 6, 4)
    np.testing.assert_array_equal(found.apply(image[top:bottom, left:right]), expected[0:2, 1:3])


@pytest.mark.parametrize("entries", EIGHT)
def test_videos_come_upright(tmp_path, entries):
    image = np.repeat(
        np.repeat(np.random.default_rng(1).integers(30, 220, (3, 4, 3), np.uint8), 16, 0), 16, 1
    )
    stored = write(tmp_path / "s.mp4", [image] * 2)
    plain, _ = next(iter(read_video(stored)))
    frame, _ = next(read_video(rotated(stored, matrix(*entries))).frames())
    np.testing.assert_array_equal(frame.rgb(), mapped(plain, *entries))
    np.testing.assert_array_equal(frame.part(2, 4, 12, 20), frame.rgb()[4:20, 2:12])


@pytest.mark.parametrize(
    ("degrees", "like", "noted"), [(0.3, 0, False), (10, 0, True), (80, 5, True), (-100, 6, True)]
)
def test_other_angles_are_rounded_and_noted(tmp_path, degrees, like, noted):
    angle = np.radians(degrees)
    entries = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    image = np.random.default_rng(2).integers(0, 255, (4, 6, 3), np.uint8)
    found, remark = Orientation.of(tuple(matrix(*entries)))
    np.testing.assert_array_equal(found.apply(image), mapped(image, *EIGHT[like]))
    assert bool(remark) == noted
    reader = read_video(rotated(write(tmp_path / "a.mp4", numbered(3)), matrix(*entries)))
    assert len(list(reader)) == 3 and bool(reader.remarks) == noted


def test_an_empty_matrix_changes_nothing():
    assert Orientation.of((0,) * 9) == (Orientation(), "")
