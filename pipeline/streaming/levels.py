"""Mean and deviation of the mel bands of a live source, whose floor rises with its loudest sound."""

from __future__ import annotations

import numpy as np

from deiii.pipeline.logmel.stream import Levels

LOWEST_DB, HIGHEST_DB = -130.0, 70.0  # log-mel of digital zeros is -120 dB
STEP_DB = 0.5  # width of a bin


class MelHistory:
    """Count, sum and sum of squares of the values of each band, in bins of 0.5 dB.

    A floor replaces all lower values, also earlier ones, so sums over all values are not enough. The values
    of the bin in which the floor lies are replaced by their mean, if it is higher than the floor.

    Args:
        bands: M.

    >>> history = MelHistory(1)
    >>> history.add(np.array([[-120.0], [-20.0]]))
    >>> [float(x[0]) for x in history.levels(-60.0, 1.0)]
    [-40.0, 20.0]
    """

    def __init__(self, bands: int):
        count = int((HIGHEST_DB - LOWEST_DB) / STEP_DB)
        self._bands = np.arange(bands)
        self._sums = np.zeros((3, count, bands))  # sums of the values to the power of 0, 1 and 2

    def add(self, rows: np.ndarray) -> None:
        """Add rows [m,M] in dB."""
        values = rows.astype(np.float64)
        last = self._sums.shape[1] - 1
        bins = np.clip((values - LOWEST_DB) // STEP_DB, 0, last).astype(np.int64)
        for power in range(3):
            np.add.at(self._sums[power], (bins, self._bands), values**power)

    def levels(self, floor: float, least: float) -> Levels | None:
        """Return mean and deviation of the bands, float64 [M]; ``None`` without rows.

        Args:
            floor: lowest value in dB; lower values are raised to it.
            least: smallest deviation.
        """
        count, total, squares = self._sums
        hops = count[:, 0].sum()
        if not hops:
            return None
        centre = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        low = centre < floor
        mean = np.where(low, count * floor, total).sum(axis=0) / hops
        square = np.where(low, count * floor**2, squares).sum(axis=0) / hops
        return mean, np.maximum(least, np.sqrt(np.maximum(0.0, square - mean**2)))
