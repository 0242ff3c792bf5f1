"""Scene cuts: where a picture has nothing to do with the one before."""

from __future__ import annotations

import cv2
import numpy as np

# A new shot begins where a 32x32 picture changes by this many grey levels on average and is no
# longer correlated with the one before; a fade changes levels alone.
CUT_LEVELS = 20.0
CUT_CORRELATION = 0.8


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a new shot begins between two small grey pictures, float32 [h,w]."""
    if np.abs(after - before).mean() <= CUT_LEVELS:
        return False
    one, other = before - before.mean(), after - after.mean()
    power = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) < CUT_CORRELATION * power or power < before.size


def thumbnail(frame: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
