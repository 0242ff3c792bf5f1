"""A regular grid of times over the frames of a video (``faces.fps``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

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
    grid: Grid[T] = Grid(fps)
    for frame, time in frames:
        yield from grid.push(frame, time)
    yield from grid.finish()


class Grid(Generic[T]):
    """Resamples frames that arrive one at a time, as `resampled` does.

    Args:
        fps: rows per second; ``None`` for the frames' own times.

    >>> grid = Grid(fps=4)
    >>> [grid.push("a", 0.0), grid.push("b", 0.3), grid.finish()]
    [[], [('a', 0.0, [0.0])], [('b', 0.3, [0.25])]]
    """

    def __init__(self, fps: float | None):
        self._fps = fps
        self._first = 0.0
        self._count = 0
        self._before: tuple[T, float] | None = None

    def push(self, frame: T, time: float) -> list[tuple[T, float, list[float]]]:
        """Add a frame and its time in s; returns the frames that are complete, as `resampled` yields them."""
        if self._fps is None:
            return [(frame, time, [time])]
        before, self._before = self._before, (frame, time)
        if before is None:
            self._first = time
            return []
        return self._shown(before, (before[1] + time) / 2, self._fps)

    def finish(self) -> list[tuple[T, float, list[float]]]:
        """End the video; returns the last frame where the grid shows it."""
        if self._fps is None or self._before is None:
            return []
        return self._shown(self._before, self._before[1], self._fps)

    def _shown(self, frame: tuple[T, float], end: float, fps: float) -> list[tuple[T, float, list[float]]]:
        """Return the frame with the times of the grid up to ``end``; empty where there are none."""
        times, self._count = _until(end, self._first, self._count, fps)
        return [(*frame, times)] if times else []


def _until(end: float, first: float, count: int, fps: float) -> tuple[list[float], int]:
    """Return the times of the grid from number ``count`` on up to ``end``, and the number of the next one."""
    stop = max(count, int(np.floor((end - first) * fps + 1e-6)) + 1)
    return [first + k / fps for k in range(count, stop)], stop
