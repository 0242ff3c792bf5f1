"""Video frames are upright, have square pixels, are deinterlaced and keep their times."""

import cv2
import numpy as np
import pytest

from deiii.pipeline.media.lengths import expected_bytes
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import level, numbered, rotated, write


def test_frames_and_times(tmp_path):
    path = write(tmp_path / "a.mp4", numbered(10))
    reader = read_video(path)
    got = list(reader)
    assert [level(rgb) for rgb, _ in got] == list(range(10))
    np.testing.assert_allclose([t for _, t in got], np.arange(10) / 25, atol=1e-6)
    assert reader.notes == [] and reader.share == 1.0
    again = list(read_video(path))
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(got, again, strict=True))


def test_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0.0, 0.04, 0.2, 0.24, 0.5, 1.0]
    path = write(tmp_path / "vfr.mp4", numbered(6), times=times)
    np.testing.assert_allclose([t for _, t in read_video(path)], times, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_very_short(tmp_path, count):
    path = write(tmp_path / "s.mp4", numbered(count))
    assert [level(rgb) for rgb, _ in read_video(path)] == list(range(count))


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((0, 1, 0, -1, 0, 0), (0, -1)),  # 90 degrees clockwise: top left goes to top right
        ((-1, 0, 0, 0, -1, 0), (-1, -1)),
        ((0, -1, 0, 1, 0, 0), (-1, 0)),
    ],
)
def test_rotation_metadata(tmp_path, matrix, corner):
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:16, :16] = 255
    path = tmp_path / "r.mp4"
    write(path, [frame] * 3)
    one = 1 << 16
    full = [matrix[0] * one, matrix[1] * one, 0, matrix[3] * one, matrix[4] * one, 0, 0, 0, 1 << 30]
    rgb, _ = next(iter(read_video(rotated(path, full))))
    assert rgb.shape[:2] == ((64, 48) if matrix[0] == 0 else (48, 64))
    blocks = rgb[:: rgb.shape[0] - 1, :: rgb.shape[1] - 1].mean(axis=-1)
    assert np.unravel_index(blocks.argmax(), (2, 2)) == tuple(c % 2 for c in corner)


def test_non_square_pixels(tmp_path):
    path = write(tmp_path / "sar.mp4", numbered(2, 48, 64), sar="3/2")
    assert next(iter(read_video(path)))[0].shape == (48, 96, 3)


def scene(height, width, seed=0):
    """A smooth colourful image that compresses well, uint8 [height,width,3]."""
    small = np.random.default_rng(seed).uniform(30, 220, (6, 8, 3)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def test_colour_stays_rgb(tmp_path):
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:] = (200, 90, 30)
    rgb, _ = next(iter(read_video(write(tmp_path / "c.mp4", [frame] * 2))))
    np.testing.assert_allclose(rgb.mean(axis=(0, 1)), (200, 90, 30), atol=3)


@pytest.mark.parametrize(
    ("codec", "pixels"), [("libx264", "yuv420p"), ("libx264", "yuv444p"), ("mjpeg", "yuvj420p")]
)
def test_bounded_frames_are_averages(tmp_path, codec, pixels):
    """Frames of 640x480 px read at 160x120 px equal means of 4x4 blocks; MJPEG decodes at low resolution."""
    fine = scene(480, 640)
    if codec != "mjpeg":  # its coarse quantisation would remove the stripes
        fine[::2] = fine[::2] // 2  # stripes that subsampling would keep and averaging removes
    path = write(tmp_path / "b.mkv", [fine] * 2, codec=codec, pixels=pixels)
    whole, _ = next(iter(read_video(path)))
    small, _ = next(iter(read_video(path, longest=160)))
    assert whole.shape == (480, 640, 3) and small.shape == (120, 160, 3)
    means = whole.reshape(120, 4, 160, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - means).mean() < 3
    times = [[t for _, t in read_video(path, longest=bound)] for bound in (None, 160)]
    assert times[0] == times[1]


def test_bounded_frames_keep_rotation_and_square_pixels(tmp_path):
    path = write(tmp_path / "s.mp4", [scene(90, 160)] * 2, sar="2/1")
    assert next(iter(read_video(path, longest=160)))[0].shape == (44, 160, 3)
    turned = rotated(path, [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30])
    assert next(iter(read_video(turned, longest=160)))[0].shape == (160, 44, 3)


MATRICES = {0: (1, 0, 0, 1), 1: (0, -1, 1, 0), 2: (-1, 0, 0, -1), 3: (0, 1, -1, 0)}  # by quarter turns


@pytest.mark.parametrize("turns", MATRICES)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_a_window_equals_that_part_of_the_frame(tmp_path, pixels, turns):
    a, b, c, d = (v << 16 for v in MATRICES[turns])
    path = write(tmp_path / "p.mp4", [scene(240, 320)], pixels=pixels)
    frame, _ = next(read_video(rotated(path, [a, b, 0, c, d, 0, 0, 0, 1 << 30])).frames())
    whole, (height, width) = frame.rgb(), frame.shape
    assert whole.shape[:2] == (height, width)
    windows = [(0, 0, 40, 40), (100, 60, 150, 118), (101, 60, 151, 119)]
    for left, top, right, bottom in [
        *windows,
        (width - 40, height - 60, width, height),
        (0, 0, width, height),
    ]:
        part = frame.part(left, top, right, bottom)
        np.testing.assert_array_equal(part, whole[top:bottom, left:right])


def test_a_window_at_an_odd_edge(tmp_path):
    path = write(tmp_path / "o.mkv", [scene(241, 321)], codec="ffv1")
    frame, _ = next(read_video(path).frames())
    np.testing.assert_array_equal(frame.part(280, 200, 321, 241), frame.rgb()[200:241, 280:321])


def combs(rgb):
    """Mean difference in grey levels between a line and the mean of the lines above and below."""
    grey = rgb.astype(float).mean(axis=-1)
    return np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean()


def test_interlaced_frames_are_deinterlaced(tmp_path):
    """A bar moves 4 px between the two fields of a frame; each result equals one of the fields."""
    frames, fields, others = [], [], []
    for i in range(16):
        upper, lower = (np.full((96, 160, 3), 30, np.uint8) for _ in range(2))
        upper[:, 10 + 8 * i : 30 + 8 * i] = lower[:, 14 + 8 * i : 34 + 8 * i] = 220
        fields.append(upper.copy())
        others.append(lower)
        upper[1::2] = lower[1::2]
        frames.append(upper)
    path = write(tmp_path / "i.mp4", frames, options={"x264-params": "tff=1"})
    reader = read_video(path)
    got = list(reader)
    assert len(got) == 16 and reader.notes == []
    assert "16 of 16 frames are interlaced" in reader.remarks[0]
    np.testing.assert_allclose([t for _, t in got], np.arange(16) / 25, atol=1e-6)
    for i in range(2, 14):
        assert combs(got[i][0]) < combs(frames[i]) / 5
        off = [np.abs(got[i][0].astype(int) - field).mean() for field in (fields[i], others[i])]
        assert min(off) < 3 < max(off)  # equal to one of the two fields
    whole = write(tmp_path / "p.mp4", fields)
    reader = read_video(whole)
    assert combs(list(reader)[5][0]) < 1 and reader.remarks == []


def test_expected_bytes(tmp_path):
    path = write(tmp_path / "e.mp4", numbered(50, 48, 64))
    assert expected_bytes(path) == pytest.approx(50 * 48 * 64 * 1.5, rel=0.05)
