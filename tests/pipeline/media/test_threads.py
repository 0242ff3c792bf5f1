"""Frames of one video that several threads convert at once, as the overlay of a live source does."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from av.video.reformatter import VideoReformatter

from deiii.pipeline.media import frame as frame_module
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import numbered, write


def test_no_converter_is_used_by_two_threads_at_once(tmp_path, monkeypatch):
    """FFmpeg's converter keeps state; used by two threads it ends the process by a segmentation fault."""
    overlaps = []

    class Watched:
        """A converter that notes a second call while one is running."""

        def __init__(self):
            self.running = False

        def reformat(self, *args, **more):
            if self.running:
                overlaps.append(args)
            self.running = True
            time.sleep(0.002)
            result = VideoReformatter().reformat(*args, **more)
            self.running = False
            return result

    path = write(tmp_path / "a.mp4", numbered(20))
    expected = [rgb for rgb, _ in read_video(path)]
    monkeypatch.setattr(frame_module, "VideoReformatter", Watched)
    frames = [frame for frame, _ in read_video(path).frames()]
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: [frame.rgb() for frame in frames], range(2)):
            np.testing.assert_array_equal(found, expected)
    assert not overlaps
