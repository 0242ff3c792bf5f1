"""A live source is scored once a hop, and what no later window needs is freed meanwhile."""

from __future__ import annotations

import time

import numpy as np
import pytest

from deiii.data.config.load import load_config
from deiii.model.network.task import Task
from deiii.model.prediction.result import HeadOutputs
from deiii.model.prediction.windows.newest import newest_moments


class Camera:
    """A source of ten minutes with 10 rows per second, which counts the rows that it keeps."""

    def __init__(self):
        self.config = load_config("tiny", ["loader.normalise=clip"])
        self.ready_s, self.kept, self.most = 0.0, [], 0

    def advance(self):
        self.ready_s += 0.1
        self.kept.append(self.ready_s)
        self.most = max(self.most, len(self.kept))
        return self.ready_s < 600

    def arrays(self, begin_s, end_s):
        return {"logmel": {"time": np.array(self.kept)}}

    def forget(self, before_s):
        self.kept = [time_s for time_s in self.kept if time_s >= before_s]

    def arrived(self, time_s):
        return time.monotonic()


@pytest.mark.parametrize(("window_s", "hop_s"), [(2.0, 60.0), (2.0, 0.01), (5.0, 7.0), (5.0, 0.5)])
def test_rows_before_the_next_window_are_not_kept(window_s, hop_s):
    """Between two predictions an hour apart, all features of the hour were in memory."""
    camera = Camera()
    windows = []

    def score(arrays, intervals, hidden, levels):
        (begin, end), rows = intervals[0], arrays["logmel"]["time"]
        windows.append(np.count_nonzero((rows >= begin - 1e-6) & (rows < end)))
        return HeadOutputs(1, {}, {}, {})

    task = Task(("a", "b"), (), ())
    found = list(newest_moments(camera, score, task, window_s, hop_s))
    assert len(found) == pytest.approx(min(6000, 600 / hop_s), abs=1)
    assert camera.most < 10 * (window_s + 2)
    late = windows[int(window_s / hop_s) + 1 :]
    assert set(late) <= {round(10 * window_s), round(10 * window_s) + 1}
