"""Choose the video steps of a clip and the log-mel window around them, for a whole batch at once.

Steps lie on a grid of every ``stride``-th frame, while flow is computed between neighbouring native frames;
so flow shows motion that the sampled frames do not. Axes: B clips, T video steps, L log-mel hops.
"""

from __future__ import annotations

import numpy as np


def video_steps(
    lengths: np.ndarray, steps: int, stride: int, how: str = "segments", draws: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers of the sampled steps.

    Args:
        lengths: int [B], number of frames of each clip; 0 if it has none.
        steps: T.
        stride: the grid is every ``stride``-th frame from an offset below ``stride``.
        how: ``segments`` takes one grid frame from each of T equal segments, ``contiguous`` T
            neighbours on the grid.
        draws: float [B,1+T] in [0,1), random numbers in training; ``None`` takes offset 0 and the centres.

    Returns:
        Frame numbers, int64 [B,T], rising within a clip, and a mask, bool [B,T]. A clip with fewer than T
        frames on the grid gives all of them in order; the other steps are masked and have frame number 0.

    Raises:
        ValueError: for another ``how``.

    >>> video_steps(np.array([8, 3]), steps=4, stride=2)[0].tolist()
    [[0, 2, 4, 6], [0, 2, 0, 0]]
    """
    if how not in ("segments", "contiguous"):
        raise ValueError(f"sampling is segments or contiguous, not {how!r}")
    n = np.asarray(lengths, np.int64)[:, None]
    offset = np.zeros_like(n)
    if draws is not None:
        offset = (draws[:, :1] * np.minimum(stride, n)).astype(np.int64)
    grid = np.maximum(0, -(-(n - offset) // stride))
    k = np.arange(steps, dtype=np.int64)[None]
    if how == "segments":
        low, high = k * grid // steps, (k + 1) * grid // steps
        if draws is None:
            chosen = (low + np.maximum(low, high - 1) + 1) // 2
        else:
            chosen = low + (draws[:, 1:] * np.maximum(1, high - low)).astype(np.int64)
    else:
        slack = np.maximum(0, grid - steps)
        start = slack // 2 if draws is None else (draws[:, 1:2] * (slack + 1)).astype(np.int64)
        chosen = start + k
    mask = k < grid
    chosen = np.where(grid < steps, k, chosen)
    return np.where(mask, offset + chosen * stride, 0), mask


def audio_window(
    hops: np.ndarray,
    first: np.ndarray,
    period: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the log-mel hops that belong to the sampled frames.

    The window is centred on the middle of the time that the frames cover, and moved to lie within the clip. A
    clip of at most L hops is taken whole.

    Args:
        hops: int [B], number of hops of each clip; 0 if it has no audio.
        first: float [B], time of the first hop in s.
        period: float [B], distance between hops in s.
        begin, end: float [B], times of the first and the last sampled frame in s.
        steps: L.

    Returns:
        The first hop, int64 [B], and the number of hops, int64 [B], at most L.
    """
    hops = np.asarray(hops, np.int64)
    count = np.minimum(hops, steps)
    middle = ((begin + end) / 2 - first) / np.where(period > 0, period, 1.0)
    start = np.rint(middle - (count - 1) / 2).astype(np.int64)
    return np.clip(start, 0, hops - count), count
