"""Encode long audio in overlapping windows, and join their rows.

Windows start at multiples of the step, counted from the first sample. If a part of a file is cut out at such
a multiple, only the rows near its ends differ from those of the whole file. Neighbouring windows are blended
over a short part in the middle of their overlap, where a row is equally far from the ends of both windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

BLEND_ROWS = 25  # rows, at most half of the overlap, over which two neighbouring windows are blended


def window_starts(n: int, window: int, step: int) -> list[int]:
    """Return the first samples of the windows that cover ``n`` samples; the last window may be shorter.

    >>> window_starts(100, 40, 20), window_starts(30, 40, 20)
    ([0, 20, 40, 60], [0])
    """
    count = 1 + max(0, -(-(n - window) // step))
    return [i * step for i in range(count)]


def join_windows(
    samples: np.ndarray,
    window: int,
    step: int,
    hop: int,
    encode: Callable[[list[np.ndarray]], list[np.ndarray]],
    batch: int = 1,
) -> Iterator[np.ndarray]:
    """Encode audio window by window; yields its rows in order, each row once.

    Memory holds the rows of ``batch`` windows and of those that overlap with them.

    Args:
        samples: float32 [n].
        window, step: samples, multiples of ``hop``.
        hop: samples between two rows.
        encode: function from windows, float32 [n_i], to their rows, float32 [r_i,L,D].
        batch: windows in one call.

    Yields:
        float32 [r,L,D].
    """
    starts = window_starts(len(samples), window, step)
    half = min(BLEND_ROWS, (window - step) // hop // 2) / 2
    middle = (window - step) / hop / 2  # rows from the start of a window to the middle of the overlap
    pending = np.zeros((0, 0, 0), np.float32)  # weighted rows that a later window may add to
    weight = np.zeros(0, np.float32)
    first = 0  # row number of the first pending row
    for at in range(0, len(starts), batch):
        group = starts[at : at + batch]
        encoded = encode([samples[start : start + window] for start in group])
        for start, rows in zip(group, encoded, strict=True):
            begin = start // hop
            ready = begin - first
            if ready > 0 and len(pending):
                yield pending[:ready] / weight[:ready, None, None]
                pending, weight, first = pending[ready:], weight[ready:], begin
            share = np.ones(len(rows), np.float32)
            position = np.arange(len(rows), dtype=np.float32)
            if start != starts[0]:
                share *= _rise(position - middle, half)
            if start != starts[-1]:
                share *= _rise(step / hop + middle - position, half)
            lacking = len(rows) - len(pending)
            if lacking > 0:
                shape = (lacking, *rows.shape[1:])
                pending = np.concatenate([pending.reshape(-1, *rows.shape[1:]), np.zeros(shape, np.float32)])
                weight = np.concatenate([weight, np.zeros(lacking, np.float32)])
            pending[: len(rows)] += rows * share[:, None, None]
            weight[: len(rows)] += share
    kept = len(weight) - int(np.argmax(weight[::-1] > 0)) if len(weight) else 0
    yield pending[:kept] / weight[:kept, None, None]


def _rise(distance: np.ndarray, half: float) -> np.ndarray:
    """Return the weight of a window at a distance in rows from the middle of an overlap: from 0 to 1."""
    if half <= 0:
        return (distance >= 0).astype(np.float32)
    return np.clip((distance + half) / (2 * half), 0, 1).astype(np.float32)


def averaged(rows: Iterator[np.ndarray], pool: int) -> Iterator[np.ndarray]:
    """Yield means of each ``pool`` neighbouring rows; the last mean may have fewer.

    >>> list(averaged(iter([np.arange(3.0)[:, None], np.arange(3.0, 5.0)[:, None]]), 2))[0].ravel().tolist()
    [0.5]
    """
    left: np.ndarray | None = None
    for block in rows:
        joined = block if left is None else np.concatenate([left, block])
        whole = len(joined) // pool * pool
        if whole:
            yield joined[:whole].reshape(-1, pool, *joined.shape[1:]).mean(axis=1)
        left = joined[whole:]
    if left is not None and len(left):
        yield left.mean(axis=0, keepdims=True)
