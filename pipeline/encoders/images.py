"""Convert face crops to the size and the range of values of a network's input."""

from __future__ import annotations

import cv2
import numpy as np

# Mean and deviation of ImageNet's images, RGB from 0 to 1; most pretrained image networks expect them.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def resized(crop: np.ndarray, size: int) -> np.ndarray:
    """Return a crop uint8 [S,S,C] at another size; reduction averages areas, enlargement is bilinear."""
    if crop.shape[0] == size:
        return crop
    how = cv2.INTER_AREA if crop.shape[0] > size else cv2.INTER_LINEAR
    return cv2.resize(crop, (size, size), interpolation=how)


def grey(crop: np.ndarray) -> np.ndarray:
    """Return an RGB crop uint8 [S,S,3] in grey, uint8 [S,S,1]."""
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None]


def scaled(image: np.ndarray, pixels: str) -> np.ndarray:
    """Return an image uint8 [S,S,C] as float32 with the values that ``appearance.pixels`` names.

    >>> scaled(np.full((1, 1, 1), 255, np.uint8), "-1..1").item()
    1.0
    """
    values = image.astype(np.float32)
    if pixels == "0..255":
        return values
    if pixels == "-1..1":
        return values / 127.5 - 1
    values /= 255
    if pixels == "0..1":
        return values
    if image.shape[-1] == 1:
        return (values - MEAN.mean()) / DEVIATION.mean()
    return (values - MEAN) / DEVIATION
