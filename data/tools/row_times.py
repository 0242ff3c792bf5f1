"""Distance and end of the rows of a stage or of video frames, from their times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ONE_ROW_S = 0.04  # s, the distance that is assumed of a single row: a video frame at 25 frames per second


def row_step(time: np.ndarray | Sequence[float]) -> float:
    """Return the median distance of rows in s; `ONE_ROW_S` where there are fewer than two.

    Args:
        time: times of the rows, float [n], s.

    >>> row_step([0.0, 0.5, 1.0]), row_step([3.0])
    (0.5, 0.04)
    """
    return float(np.median(np.diff(time))) if len(time) > 1 else ONE_ROW_S


def end_of_rows(time: np.ndarray | Sequence[float]) -> float:
    """Return the time in s at which the last row ends.

    Args:
        time: times of at least one row, float [n], s.

    Raises:
        IndexError: there is no row.

    >>> end_of_rows([0.0, 0.5, 1.0])
    1.5
    """
    return float(time[-1]) + row_step(time)
