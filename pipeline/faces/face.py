"""A detected face, and the interface of detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

LEAST_SPREAD = 1e-3  # distance of landmarks as a share of the box's side; closer ones are one point
MOST_FACES = 8  # largest number of tracked faces; the largest faces are tracked


@dataclass(frozen=True)
class Face:
    """One detection.

    Attributes:
        box: float64 [4], x, y, width, height in px.
        landmarks: float64 [5,2], px: eyes, nose tip and mouth corners; of a pair, the one further left in
            the image comes first.
        score: the detector's confidence, 0 to 1 (always 1 from Haar).
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @property
    def is_sized(self) -> bool:
        """Whether the landmarks have a size: not where all of them are one point.

        >>> Face(np.array([0.0, 0.0, 40.0, 40.0]), np.full((5, 2), 20.0), 0.9).is_sized
        False
        """
        spread = np.ptp(self.landmarks, axis=0).max()
        return bool(spread > LEAST_SPREAD * max(self.box[2], self.box[3]))


class Detector(Protocol):
    """Finds faces in an image; `deiii.pipeline.faces.detectors.load_detector` returns one.

    Attributes:
        oriented: whether landmarks follow the roll of the face.
        settle_s: detections are averaged over about this time, in s.
        second_look: whether an image without a detection is searched again at twice the size.
    """

    oriented: bool
    settle_s: float
    second_look: bool

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        """Return detections in an image uint8 [H,W,3], largest first, in px of the image."""


def shrink(rgb: np.ndarray, longer_side: int) -> tuple[np.ndarray, float]:
    """Shrink an image uint8 [H,W,3] to a longer side of at most ``longer_side`` px by area means.

    Returns:
        the image and its scale, at most 1.

    >>> shrink(np.zeros((100, 200, 3), np.uint8), 50)[0].shape
    (25, 50, 3)
    """
    scale = longer_side / max(rgb.shape[:2])
    if scale >= 1:
        return rgb, 1.0
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), scale


def largest_first(faces: list[Face]) -> list[Face]:
    """Return at most `MOST_FACES` detections with finite place and size, the largest first."""
    known = [f for f in faces if np.isfinite(f.landmarks).all() and np.isfinite(f.box).all()]
    faces = [f for f in known if f.box[2] > 0 and f.box[3] > 0]
    return sorted(faces, key=lambda f: -f.box[2] * f.box[3])[:MOST_FACES]
