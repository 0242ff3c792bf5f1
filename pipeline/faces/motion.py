"""Motion of a face between pictures: sparse flow of points on it, and a similarity fitted to them.

Points in the face's box are followed (pyramidal Lucas-Kanade, checked backwards) and a similarity
is fitted to them robustly, so a mouth or brow that moves on its own does not move the face.

Points are complex numbers x + iy here, and a similarity is p -> a p + b.

Sources: Bouguet, "Pyramidal implementation of the Lucas Kanade feature tracker", 2000;
Kalal, Mikolajczyk, Matas, "Forward-backward error", ICPR 2010.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

MOST_POINTS, LEAST_POINTS, LEAST_SHARE = 40, 8, 0.4
SETTLED = 1e-5  # change of the similarity, as a share of the face's size, that ends its fitting
BACKWARD_PX = 0.7  # a point that does not find its way back this closely is not trusted

Similarity = tuple[complex, complex]


def follow(greys: list[np.ndarray], box: np.ndarray) -> list[Similarity | None]:
    """Motion of a face from the first picture to each later one.

    Args:
        greys: pictures uint8 [H,W].
        box: the face in the first one, [4] in px.

    Returns:
        One similarity for each later picture; ``None`` from where too few points are left.
    """
    greys, box, corner = _around(greys, box)
    start = _points(greys[0], box)
    lost: list[Similarity | None] = [None] * (len(greys) - 1)
    if len(start) < LEAST_POINTS:
        return lost
    # A window that spans about a ninth of the face, whatever its size.
    window = int(np.clip(box[2] / 9, 7, 31)) | 1
    kept, now, path = np.arange(len(start)), start, []
    options = {"winSize": (window, window), "maxLevel": 2, "criteria": (3, 12, 0.03)}
    for before, grey in pairwise(greys):
        there, found, _ = cv2.calcOpticalFlowPyrLK(before, grey, now, None, **options)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(grey, before, there, None, **options)
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


def fit_similarity(source: np.ndarray, target: np.ndarray) -> tuple[Similarity, float]:
    """Robust similarity from complex points to complex points.

    Least squares, reweighted with Geman-McClure weights whose width follows the median
    residual, so points that move on their own count for little.

    Returns:
        The similarity and the share of points within three widths of it.
    """
    weight, half, a, shift = np.ones(len(source)), len(source) // 2, 0j, 0j
    for _ in range(8):
        before = a, shift
        weight /= weight.sum()
        s, t = weight @ source, weight @ target
        ds, dt = source - s, target - t
        spread = float(weight @ (ds.real**2 + ds.imag**2))
        a = ((weight * ds.conj()) @ dt) / spread if spread > 1e-9 else 1.0 + 0j
        shift = t - a * s
        if abs(a - before[0]) < SETTLED and abs((a - before[0]) * s + shift - before[1]) < 100 * SETTLED:
            break
        residual = np.abs(a * ds - dt)
        width = max(1.5 * float(np.partition(residual, half)[half]), 0.1)
        weight = 1.0 / (1.0 + (residual / width) ** 2) ** 2
    return (complex(a), complex(shift)), float((residual < 3 * width).mean())


def moved_box(box: np.ndarray, motion: Similarity) -> np.ndarray:
    """An upright box after a similarity: its centre moved, its sides scaled."""
    a, b = motion
    centre = a * complex(box[0] + box[2] / 2, box[1] + box[3] / 2) + b
    size = box[2:] * abs(a)
    return np.concatenate([[centre.real, centre.imag] - size / 2, size])


def _around(greys: list[np.ndarray], box: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, complex]:
    """The pictures cut to the box and half its size around it, where flow has to look; the box and
    the cut's corner in them."""
    room = box[2:].max() / 2
    height, width = greys[0].shape
    left, top = (int(np.clip(v - room, 0, m - 1)) for v, m in zip(box[:2], (width, height), strict=True))
    right = int(np.clip(box[0] + box[2] + room, left + 1, width))
    bottom = int(np.clip(box[1] + box[3] + room, top + 1, height))
    shifted = np.concatenate([box[:2] - [left, top], box[2:]])
    return [np.ascontiguousarray(g[top:bottom, left:right]) for g in greys], shifted, complex(left, top)


def _points(grey: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Corners in the middle of the box, float32 [p,1,2]; background stays out."""
    x, y, w, h = box
    left, right = int(max(x + 0.1 * w, 0)), int(min(x + 0.9 * w, grey.shape[1]))
    top, bottom = int(max(y + 0.05 * h, 0)), int(min(y + 0.95 * h, grey.shape[0]))
    if right - left < 6 or bottom - top < 6:
        return np.zeros((0, 1, 2), np.float32)
    near = max(1.0, min(w, h) / 16)
    corners = cv2.goodFeaturesToTrack(grey[top:bottom, left:right], MOST_POINTS, 0.01, near)
    if corners is None:
        return np.zeros((0, 1, 2), np.float32)
    return corners + np.float32([left, top])


def _complex(points: np.ndarray) -> np.ndarray:
    flat = points.reshape(-1, 2).astype(np.float64)
    return flat[:, 0] + 1j * flat[:, 1]
