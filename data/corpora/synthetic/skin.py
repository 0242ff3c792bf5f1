"""Freckles and flushed cheeks: colours on the skin that leave its luminance as it is.

Methods that read grey frames, such as DIS flow, can distinguish neither the two colours of freckles nor
flushed and pale cheeks: the skin's colour is moved by the same amount in two opposite directions that do not
change its luminance (ITU-R BT.601).
"""

from __future__ import annotations

import numpy as np

from deiii.data.corpora.synthetic.tasks import Freckles

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
WITHOUT_LUMA = np.array([1.0, -0.299 / 0.587, 0.0], np.float32)  # red against green; LUMA @ this = 0
TINT = 0.25  # change of a freckle's red, as a share of its luminance
FRECKLE = 0.72  # brightness of a freckle, as a share of the skin's
EDGE = 0.02  # face units over which a freckle fades
BLUSH = 0.05  # change of the red of a cheek's middle, as a share of its luminance


def tinted(rgb: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Move colours towards red (positive) or green (negative) without a change of luminance.

    Args:
        rgb: float32 [...,3].
        amount: float32 [...], as a share of the luminance.
    """
    return rgb + ((rgb @ LUMA) * amount)[..., None] * WITHOUT_LUMA


def freckled(
    face: np.ndarray, freckles: Freckles, frame: int, xs: np.ndarray, ys: np.ndarray, cover: np.ndarray
) -> np.ndarray:
    """Return a face with the freckles of one frame.

    Args:
        face: uint8 [h,w,3], RGB.
        freckles: freckles of the clip.
        frame: number of the frame.
        xs, ys: float32 [1,w] and [h,1], face units of the columns and rows.
        cover: float32 [h,w], share of a freckle's colour that shows; 0 where there is none.

    Returns:
        uint8 [h,w,3].
    """
    spots = np.zeros((2, *face.shape[:2]), np.float32)  # first axis: colour
    for cell, colour in enumerate(freckles.colour):
        middles = freckles.middle[cell] + freckles.shift[frame, cell]
        for (x, y), radius in zip(middles, freckles.radius[cell], strict=True):
            left, right = np.searchsorted(xs[0], (x - radius - EDGE, x + radius + EDGE))
            top, bottom = np.searchsorted(ys[:, 0], (y - radius - EDGE, y + radius + EDGE))
            distance = np.hypot(xs[:, left:right] - x, ys[top:bottom] - y)
            part = spots[colour, top:bottom, left:right]
            np.maximum(part, np.clip((radius - distance) / EDGE + 0.5, 0, 1), out=part)
    red, green = spots * cover
    rgb = face * (1 - (1 - FRECKLE) * np.maximum(red, green))[..., None]
    return np.clip(np.rint(tinted(rgb, TINT * (red - green))), 0, 255).astype(np.uint8)


def cheeks(x: float, y: float, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Return the strength of the flush at each point of a face, 0 to 1, float32 [h,w].

    Args:
        x, y: the middle of the cheek on the right of the frame, face units; the other one mirrors it.
        xs, ys: float32 [1,w] and [h,1], face units of the columns and rows.
    """
    return np.exp(-(((np.abs(xs) - x) / 0.26) ** 2) - ((ys - y) / 0.20) ** 2).astype(np.float32)
