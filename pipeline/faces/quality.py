"""The sharpest crop of a person, as a thumbnail."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

CANDIDATES = 32  # crops of one block that are compared


class Portrait:
    """Keeps the sharpest valid crop of those that it is shown.

    Sharpness is the variance of the Laplacian (Pech-Pacheco and others, "Diatom autofocusing in brightfield
    microscopy", ICPR 2000).

    >>> portrait = Portrait()
    >>> portrait.add({"frames": np.zeros((1, 8, 8, 3), np.uint8), "valid": np.array([False])})
    >>> portrait.image is None
    True
    """

    def __init__(self) -> None:
        self.image: np.ndarray | None = None  # uint8 [S,S,3]
        self._sharpness = -1.0

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Compare some rows of the faces stage: ``frames`` and ``valid``; a few of many, evenly spaced."""
        valid = np.flatnonzero(rows["valid"])
        for row in valid[:: max(1, len(valid) // CANDIDATES)]:
            sharpness = laplacian_variance(rows["frames"][row])
            if sharpness > self._sharpness:
                self.image, self._sharpness = rows["frames"][row].copy(), sharpness


def laplacian_variance(rgb: np.ndarray) -> float:
    """The variance of the Laplacian (4 neighbours) of the grey values of an image uint8 [H,W,3]."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
