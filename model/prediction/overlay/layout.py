"""The place of the source's video frame in an overlay video, and the boxes of faces in it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw

from deiii.model.prediction.overlay.panel import BACK, font

NARROWEST, WIDEST = 640, 1280  # px, width of the overlay video; larger sources are reduced
BOX = (120, 220, 140)  # RGB of the face's box


class Layout:
    """The place of the source's video frame in the overlay video.

    Args:
        width, height: size of the source's video frames in px.
    """

    def __init__(self, width: int, height: int):
        self.scale = min(1.0, WIDEST / width)
        self.inner = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        self.width = max(NARROWEST, _even(self.inner[0]))
        self.height = _even(self.inner[1])
        self.left = max(0, (self.width - self.inner[0]) // 2)
        self._empty = np.full((self.height, self.width, 3), BACK, np.uint8)

    def place(self, rgb: np.ndarray) -> np.ndarray:
        """Return the video frame on the canvas, uint8 [height,width,3]."""
        if rgb.shape[1::-1] != self.inner:
            rgb = cv2.resize(rgb, self.inner, interpolation=cv2.INTER_AREA)
        canvas = self._empty.copy()  # filling with a colour takes several times as long
        rgb = rgb[: self.height, : self.width]  # the last column or row of an odd size
        canvas[: len(rgb), self.left : self.left + rgb.shape[1]] = rgb
        return canvas

    def draw_box(self, canvas: np.ndarray, box: np.ndarray, words: str) -> None:
        """Draw the face's box, float [4] in source px, with a label."""
        x, y, w, h = box * self.scale + np.array([self.left, 0, 0, 0])
        low, high = (round(float(x)), round(float(y))), (round(float(x + w)), round(float(y + h)))
        cv2.rectangle(canvas, low, high, BOX, 2)
        label = _label(words)
        top = max(0, low[1] - label.shape[0])
        left = min(max(0, low[0]), canvas.shape[1] - label.shape[1])
        if left >= 0:
            canvas[top : top + label.shape[0], left : left + label.shape[1]] = label[: self.height - top]


@lru_cache(maxsize=64)
def _label(words: str) -> np.ndarray:
    """Return text on the colour of the box, uint8 [h,w,3]; 2 x 2 px for no text."""
    small = font(14)
    width = int(small.getlength(words)) + 10 if words else 2
    image = Image.new("RGB", (width, 20 if words else 2), BOX)
    ImageDraw.Draw(image).text((5, 10), words, (15, 30, 18), small, anchor="lm")
    return np.asarray(image)


def _even(n: int) -> int:
    return max(2, n - n % 2)
