"""Motion of a face between video frames: sparse optical flow of points on it, and a fitted similarity.

Points in the box of the face are tracked (pyramidal Lucas-Kanade with a backward check). A similarity is
fitted to them robustly, so that a moving mouth or brow does not move the face.

Points are complex numbers x + iy, and a similarity maps p to a p + b.

Sources: Bouguet, "Pyramidal implementation of the Lucas Kanade feature tracker", 2000;
Kalal, Mikolajczyk, Matas, "Forward-backward error", ICPR 2010.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np

MOST_POINTS = 40  # points that are tracked
LEAST_POINTS = 8  # least number of points; with fewer, the motion is treated as lost
LEAST_SHARE = 0.4  # least share of points that remain, and of these that fit the transform
SETTLED = 1e-5  # fitting ends when the similarity changes less, as a share of the face's size
BACKWARD_PX = 0.7  # a point whose backward track ends further from its start is dropped

Similarity = tuple[complex, complex]


def follow(greys: list[np.ndarray], box: np.ndarray) -> list[Similarity | None]:
    """Return the motion of a face from the first video frame to each later one.

    Args:
        greys: grey frames uint8 [H,W].
        box: box of the face in the first frame, float64 [4], px.

    Returns:
        one similarity for each later frame; ``None`` from the frame on in which too few points are left.

    >>> follow([np.zeros((64, 64), np.uint8)] * 3, np.array([8.0, 8.0, 40.0, 40.0]))  # nothing to track
    [None, None]
    """
    greys, box, corner = _around(greys, box)
    start = _points(greys[0], box)
    lost: list[Similarity | None] = [None] * (len(greys) - 1)
    if len(start) < LEAST_POINTS:
        return lost
    window = int(np.clip(box[2] / 9, 7, 31)) | 1  # about a ninth of the face, an odd number of px
    kept = np.arange(len(start))
    now = start
    path: list[Similarity | None] = []
    for before, grey in pairwise(greys):
        there, found = _track(before, grey, now, window)
        back, returned = _track(grey, before, there, window)
        error = np.abs(back - now).max(axis=(1, 2))
        good = (found[:, 0] > 0) & (returned[:, 0] > 0) & (error < BACKWARD_PX)
        kept, now = kept[good], there[good]
        if len(kept) < max(LEAST_POINTS, LEAST_SHARE * len(start)):
            break
        motion, agreeing = fit_similarity(_complex(start[kept]), _complex(now))
        if agreeing < LEAST_SHARE or not 0.5 < abs(motion[0]) < 2:
            break
        path.append((motion[0], motion[1] + (1 - motion[0]) * corner))
    return path + lost[len(path) :]


def _track(before: np.ndarray, after: np.ndarray, points: np.ndarray, window: int) -> tuple:
    """Return points float32 [p,1,2] of one frame in the next one, and whether each was found, uint8 [p,1]."""
    # OpenCV's stub does not state that None makes it return a new array.
    unknown: Any = None
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, unknown, winSize=(window, window), maxLevel=2, criteria=(3, 12, 0.03)
    )
    return there, found


def fit_similarity(source: np.ndarray, target: np.ndarray) -> tuple[Similarity, float]:
    """Fit a similarity to pairs of complex points robustly.

    Least squares are reweighted with Geman-McClure weights. Their width follows the median residual, so
    points that move on their own have little weight.

    Args:
        source, target: complex128 [p], at least one point.

    Returns:
        the similarity, and the share of points within three widths of it.

    >>> (a, b), share = fit_similarity(np.array([0, 1, 1j]), np.array([2, 4, 2 + 2j]))
    >>> round(abs(a), 6), round(abs(b), 6), share
    (2.0, 2.0, 1.0)
    """
    weight = np.ones(len(source))
    half = len(source) // 2
    a = shift = 0j
    for number in range(8):
        before = a, shift
        weight /= weight.sum()
        s, t = weight @ source, weight @ target
        ds, dt = source - s, target - t
        spread = float(weight @ (ds.real**2 + ds.imag**2))
        a = ((weight * ds.conj()) @ dt) / spread if spread > 1e-9 else 1.0 + 0j
        shift = t - a * s
        change = abs(a - before[0]), abs((a - before[0]) * s + shift - before[1])
        if number and change[0] < SETTLED and change[1] < 100 * SETTLED:  # the first pass has none before it
            break
        residual = np.abs(a * ds - dt)
        width = max(1.5 * float(np.partition(residual, half)[half]), 0.1)
        weight = 1.0 / (1.0 + (residual / width) ** 2) ** 2
    return (complex(a), complex(shift)), float((residual < 3 * width).mean())


def moved_box(box: np.ndarray, motion: Similarity) -> np.ndarray:
    """Return an upright box float64 [4] after a similarity: its centre is moved, its sides are scaled.

    >>> moved_box(np.array([0.0, 0.0, 2.0, 2.0]), (2 + 0j, 1 + 0j)).tolist()
    [1.0, 0.0, 4.0, 4.0]
    """
    a, b = motion
    centre = a * complex(box[0] + box[2] / 2, box[1] + box[3] / 2) + b
    size = box[2:] * abs(a)
    return np.concatenate([[centre.real, centre.imag] - size / 2, size])


def _around(greys: list[np.ndarray], box: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, complex]:
    """Cut frames to the box plus half its size on each side, where the points are tracked.

    Returns:
        the cut frames, the box in them, and the corner of the cut as x + iy.
    """
    room = box[2:].max() / 2
    height, width = greys[0].shape
    left, top = (int(np.clip(v - room, 0, m - 1)) for v, m in zip(box[:2], (width, height), strict=True))
    right = int(np.clip(box[0] + box[2] + room, left + 1, width))
    bottom = int(np.clip(box[1] + box[3] + room, top + 1, height))
    shifted = np.concatenate([box[:2] - [left, top], box[2:]])
    return [np.ascontiguousarray(g[top:bottom, left:right]) for g in greys], shifted, complex(left, top)


def _points(grey: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return corners in the middle of the box, float32 [p,1,2]; a margin keeps the background out."""
    x, y, w, h = box
    left, right = int(max(x + 0.1 * w, 0)), int(min(x + 0.9 * w, grey.shape[1]))
    top, bottom = int(max(y + 0.05 * h, 0)), int(min(y + 0.95 * h, grey.shape[0]))
    if right - left < 6 or bottom - top < 6:
        return np.zeros((0, 1, 2), np.float32)
    near = max(1.0, min(w, h) / 16)
    corners = cv2.goodFeaturesToTrack(grey[top:bottom, left:right], MOST_POINTS, 0.01, near)
    if corners is None:
        return np.zeros((0, 1, 2), np.float32)
    return corners + np.array([left, top], np.float32)


def _complex(points: np.ndarray) -> np.ndarray:
    """Return points float32 [p,1,2] as complex128 [p]."""
    flat = points.reshape(-1, 2).astype(np.float64)
    return flat[:, 0] + 1j * flat[:, 1]
