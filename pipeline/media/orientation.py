"""The orientation of a video: how its stored frames are turned and mirrored to stand upright.

A file's display matrix maps the stored frame to the displayed one. The eight orientations with horizontal and
vertical edges are applied; another angle is rounded to the nearest of them.

>>> Orientation.of((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))[0]  # a quarter turn clockwise
Orientation(transpose=True, flip_x=True, flip_y=False)
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.02  # tolerance of the matrix's entries; about one degree


class Orientation(NamedTuple):
    """How a stored frame becomes upright: transposed, then mirrored left to right, then top to bottom."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, matrix: tuple[int, ...]) -> tuple[Orientation, str]:
        """Return the orientation nearest to a display matrix (nine integers by rows); remark "" if exact."""
        # FFmpeg: x' = a x + c y, y' = b x + d y, with x to the right and y down.
        a, b, _, c, d = matrix[:5]
        m = np.array([[a, c], [b, d]], float)
        scale = np.sqrt((m**2).sum() / 2)
        if not scale:
            return cls(), ""
        m /= scale
        if abs(m[0, 0]) + abs(m[1, 1]) >= abs(m[0, 1]) + abs(m[1, 0]):
            found = cls(False, bool(m[0, 0] < 0), bool(m[1, 1] < 0))
            rest = max(abs(m[0, 1]), abs(m[1, 0]))
        else:
            found = cls(True, bool(m[0, 1] < 0), bool(m[1, 0] < 0))
            rest = max(abs(m[0, 0]), abs(m[1, 1]))
        if rest <= TOLERANCE:
            return found, ""
        angle = float(np.degrees(np.arctan2(m[1, 0], m[0, 0])))
        return found, (
            f"the display matrix turns the video by {angle:.0f} degrees; it was turned to the nearest "
            "multiple of 90"
        )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return the upright image [H',W',3] of a stored one [H,W,3]."""
        if not any(self):
            return image
        image = image.transpose(1, 0, 2) if self.transpose else image
        image = image[:, ::-1] if self.flip_x else image
        image = image[::-1] if self.flip_y else image
        return np.ascontiguousarray(image)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return upright width and height of a stored size, and the other way round."""
        return (height, width) if self.transpose else (width, height)

    def stored(self, window: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom of an upright window in a stored frame of this size."""
        left, top, right, bottom = window
        width, height = self.size(width, height)
        if self.flip_y:
            top, bottom = height - bottom, height - top
        if self.flip_x:
            left, right = width - right, width - left
        return (top, left, bottom, right) if self.transpose else (left, top, right, bottom)


@lru_cache(maxsize=16)
def orientation(matrix: bytes | None) -> tuple[Orientation, str]:
    """Return the orientation of a display matrix in FFmpeg's form (9 native int32), and a remark."""
    if matrix is None or len(matrix) != 36:
        return Orientation(), ""
    return Orientation.of(struct.unpack("=9i", matrix))
