"""A detected face, and what every detector returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

MOST_FACES = 8  # the largest ones are followed


@dataclass(frozen=True)
class Face:
    """One detection.

    Attributes:
        box: float64 [4], x, y, width, height in px.
        landmarks: float64 [5,2], px: the eyes, nose tip and mouth corners, the picture's left first.
        score: the detector's confidence, 0 to 1 (1 from Haar).
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


class Detector(Protocol):
    """What `load_detector` returns.

    Attributes:
        oriented: whether landmarks show the face's roll.
        settle_s: time in s over which its single findings are worth averaging.
        second_look: whether to look again at twice the size where nothing was found.
    """

    oriented: bool
    settle_s: float
    second_look: bool

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        """Faces in a picture uint8 [H,W,3], largest first, in its px."""


def shrink(rgb: np.ndarray, longer_side: int) -> tuple[np.ndarray, float]:
    """The picture at most ``longer_side`` px long, averaged over area, and its scale."""
    scale = longer_side / max(rgb.shape[:2])
    if scale >= 1:
        return rgb, 1.0
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), scale


def largest_first(faces: list[Face]) -> list[Face]:
    """At most `MOST_FACES` findings that make sense, the largest first."""
    faces = [f for f in faces if np.isfinite(f.landmarks).all() and f.box[2] > 0 and f.box[3] > 0]
    return sorted(faces, key=lambda f: -f.box[2] * f.box[3])[:MOST_FACES]
