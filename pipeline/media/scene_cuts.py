"""Scene cuts: places where a video frame does not continue the frame before."""

from __future__ import annotations

import cv2
import numpy as np

THUMBNAIL = 32  # px; side of the thumbnails that are compared
# A new shot begins where the thumbnail changes by this many grey levels on average and does not
# correlate with the one before. A fade changes the levels but keeps the correlation.
CUT_LEVELS = 20.0
CUT_CORRELATION = 0.8


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a new shot begins between two consecutive thumbnails, float32 [h,w].

    >>> is_cut(np.zeros((32, 32), np.float32), np.full((32, 32), 200, np.float32))
    True
    """
    if np.abs(after - before).mean() <= CUT_LEVELS:
        return False
    one = before - before.mean()
    other = after - after.mean()
    power = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) < CUT_CORRELATION * power or power < before.size


def thumbnail(image: np.ndarray) -> np.ndarray:
    """The thumbnail for `is_cut`, float32 [32,32], of an image uint8 [H,W,3] (RGB) or [H,W] (grey).

    >>> thumbnail(np.zeros((48, 64, 3), np.uint8)).shape
    (32, 32)
    """
    if image.ndim == 3:
        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)
