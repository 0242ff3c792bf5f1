"""Encode long audio in overlapping windows, and join their rows.

Windows start at multiples of the step, counted from the first sample. If a part of a file is cut out at such
a multiple, only the rows near its ends differ from those of the whole file. Neighbouring windows are blended
over a short part in the middle of their overlap, where a row is equally far from the ends of both windows.
"""

from __future__ import annotations

import numpy as np

BLEND_ROWS = 25  # rows, at most half of the overlap, over which two neighbouring windows are blended


def window_starts(n: int, window: int, step: int) -> list[int]:
    """Return the first samples of the windows that cover ``n`` samples; the last window may be shorter.

    >>> window_starts(100, 40, 20), window_starts(30, 40, 20)
    ([0, 20, 40, 60], [0])
    """
    count = 1 + max(0, -(-(n - window) // step))
    return [i * step for i in range(count)]


class JoinedRows:
    """Joins the rows of the windows of one clip; each row is returned once, in order.

    Memory holds the rows that a later window may still change.

    Args:
        n: samples of the clip.
        window, step: samples, multiples of ``hop``.
        hop: samples between two rows.

    >>> joined = JoinedRows(30, 20, 10, 10)  # two windows; their overlap, one row, is too short to be blended
    >>> [rows.ravel().tolist() for rows in joined.add(np.zeros((2, 1, 1), np.float32))]
    []
    >>> [rows.ravel().tolist() for rows in joined.add(np.ones((2, 1, 1), np.float32))]
    [[0.0], [0.0, 1.0]]
    """

    def __init__(self, n: int, window: int, step: int, hop: int):
        self._starts = window_starts(n, window, step)
        self._hop = hop
        self._rows_of_step = step / hop
        self._half = min(BLEND_ROWS, (window - step) // hop // 2) / 2
        # Rows from the start of a window to the middle of the overlap.
        self._middle = (window - step) / hop / 2
        self._pending = np.zeros((0, 0, 0), np.float32)  # weighted rows that a later window may add to
        self._weight = np.zeros(0, np.float32)
        self._first = 0  # row number of the first pending row
        self._number = 0  # of the next window

    def add(self, rows: np.ndarray) -> list[np.ndarray]:
        """Take the rows float32 [r_i,L,D] of the next window; returns finished parts float32 [r,L,D].

        After the last window these are all that are left.
        """
        found = []
        start = self._starts[self._number]
        begin = start // self._hop
        ready = begin - self._first
        if ready > 0 and len(self._pending):
            found.append(self._pending[:ready] / self._weight[:ready, None, None])
            self._pending, self._weight = self._pending[ready:], self._weight[ready:]
            self._first = begin
        share = np.ones(len(rows), np.float32)
        position = np.arange(len(rows), dtype=np.float32)
        if start != self._starts[0]:
            share *= _rise(position - self._middle, self._half)
        if start != self._starts[-1]:
            share *= _rise(self._rows_of_step + self._middle - position, self._half)
        lacking = len(rows) - len(self._pending)
        if lacking > 0:
            more = np.zeros((lacking, *rows.shape[1:]), np.float32)
            self._pending = np.concatenate([self._pending.reshape(-1, *rows.shape[1:]), more])
            self._weight = np.concatenate([self._weight, np.zeros(lacking, np.float32)])
        self._pending[: len(rows)] += rows * share[:, None, None]
        self._weight[: len(rows)] += share
        self._number += 1
        if self._number == len(self._starts):
            weight = self._weight
            kept = len(weight) - int(np.argmax(weight[::-1] > 0)) if len(weight) else 0
            found.append(self._pending[:kept] / weight[:kept, None, None])
        return found


def _rise(distance: np.ndarray, half: float) -> np.ndarray:
    """Return the weight of a window at a distance in rows from the middle of an overlap: from 0 to 1."""
    if half <= 0:
        return (distance >= 0).astype(np.float32)
    return np.clip((distance + half) / (2 * half), 0, 1).astype(np.float32)


class Means:
    """Means of each ``pool`` neighbouring rows; the last mean may have fewer.

    >>> means = Means(2)
    >>> means.add(np.arange(3.0)[:, None]).ravel().tolist(), means.rest().ravel().tolist()
    ([0.5], [2.0])
    """

    def __init__(self, pool: int):
        self._pool = pool
        self._left: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> np.ndarray:
        """Take the next rows [r,...]; returns the means that are complete, maybe none."""
        joined = rows if self._left is None else np.concatenate([self._left, rows])
        whole = len(joined) // self._pool * self._pool
        self._left = joined[whole:]
        return joined[:whole].reshape(-1, self._pool, *joined.shape[1:]).mean(axis=1)

    def rest(self) -> np.ndarray:
        """Return the mean of the rows that are left, or no row. Raises ValueError if no rows were added."""
        if self._left is None:
            raise ValueError("no rows were added")
        return self._left.mean(axis=0, keepdims=True) if len(self._left) else self._left
