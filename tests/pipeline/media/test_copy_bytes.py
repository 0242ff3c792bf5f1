"""The same frames give the same bytes of a copy."""

from __future__ import annotations

import io

import av
import cv2
import numpy as np
import pytest

from deiii.pipeline.media.writing.copies import add_video, video_frame
from tests.helpers.clipmaker import numbered


def copy(frames, preset):
    """Return the bytes of a copy."""
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as out:
        height, width = frames[0].shape[:2]
        video = add_video(out, width, height, 12, preset)
        for number, rgb in enumerate(frames):
            out.mux(video.encode(video_frame(video, rgb, 0.06 + 0.08 * number)))
        out.mux(video.encode())
    return file.getvalue()


@pytest.mark.parametrize("preset", ["veryfast", "medium"])
def test_a_copy_has_the_same_bytes_each_time(preset):
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 3)
    frames = [np.roll(noise, 3 * n, axis=1) for n in range(10)]
    first = copy(frames, preset)
    assert b"mbtree=0" in first, "with the macroblock tree a few of many copies differ"
    for _ in range(10):
        copy(numbered(5), preset)  # leaves other values in memory
        assert copy(frames, preset) == first
