"""A regular grid of times over the frames of a video (``faces.fps``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def resampled(frames: Iterable[tuple[T, float]], fps: float | None) -> Iterator[tuple[T, float, list[float]]]:
    """Resample frames to a regular grid of times without blending.

    The grid starts at the first frame. Each of its times shows the nearest frame, the earlier one of two
    equally near ones. A frame that no time shows is left out; if the video is slower than the grid, a frame
    is shown several times. Without ``fps`` the grid consists of the times of the frames.

    Args:
        frames: frames with their times in s.
        fps: rows per second; ``None`` for the frames' own times.

    Yields:
        each frame that is shown, its own time, and the times of the grid that show it, in s.

    >>> [(f, grid) for f, _, grid in resampled([("a", 0.0), ("b", 0.3), ("c", 0.5)], fps=4)]
    [('a', [0.0]), ('b', [0.25]), ('c', [0.5])]
    """
    if fps is None:
        for frame, time in frames:
            yield frame, time, [time]
        return
    first = 0.0
    count = 0
    before: tuple[T, float] | None = None
    for frame, time in frames:
        if before is None:
            first = time
        else:
            grid, count = _until((before[1] + time) / 2, first, count, fps)
            if grid:
                yield *before, grid
        before = frame, time
    if before is not None:
        grid, _ = _until(before[1], first, count, fps)
        if grid:
            yield *before, grid


def _until(end: float, first: float, count: int, fps: float) -> tuple[list[float], int]:
    """Return the times of the grid from number ``count`` on up to ``end``, and the number of the next one."""
    stop = max(count, int(np.floor((end - first) * fps + 1e-6)) + 1)
    return [first + k / fps for k in range(count, stop)], stop
