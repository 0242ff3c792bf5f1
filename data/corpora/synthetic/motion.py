"""The true motion of a drawn clip, for measuring optical flow against.

The head moves as one piece, by the plan's position, roll and scale; the background keeps still. Brows, mouth,
noise and the border between head and background are left out.

>>> flow, known = true_motion(plan_clip(SyntheticConfig(), 0))  # doctest: +SKIP
"""

from __future__ import annotations

import cv2
import numpy as np

from deiii.data.corpora.synthetic.face import LEFT, TOP, _head, _placement
from deiii.data.corpora.synthetic.plan import ClipPlan

BORDER = 4  # px to either side of the head's outline that count as neither
BOXES = ((-0.85, -0.85, 0.85, -0.25), (-0.6, 0.3, 0.6, 1.05))  # brows; mouth: x0, y0, x1, y1, face units


def true_motion(plan: ClipPlan, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Where each point of a frame is ``step`` frames later.

    Returns:
        float32 [n-step,size,size,2], u right and v down in px, and bool [n-step,size,size]: where it
        is known.
    """
    n, size = len(plan.roll), plan.size
    unit = size / 3.0
    cover = _head(plan, unit)[1]
    moving = np.zeros(cover.shape, np.uint8)
    for x0, y0, x1, y1 in BOXES:
        left, right = (round((x - LEFT) * unit) for x in (x0, x1))
        top, bottom = (round((y - TOP) * unit) for y in (y0, y1))
        moving[top:bottom, left:right] = 1
    canvas = np.array([[1 / unit, 0, LEFT], [0, 1 / unit, TOP], [0, 0, 1]])
    at = np.stack([*np.meshgrid(np.arange(size), np.arange(size)), np.ones((size, size))], -1).astype(float)
    flow = np.zeros((n - step, size, size, 2), np.float32)
    known = np.zeros((n - step, size, size), bool)
    square = np.ones((2 * BORDER + 1,) * 2, np.uint8)
    for i in range(n - step):
        here, there = (np.vstack([_placement(plan, k), [0, 0, 1]]) for k in (i, i + step))
        warp = lambda picture, i=i: cv2.warpAffine(picture, _placement(plan, i) @ canvas, (size, size))
        head = (warp(cover) > 0.5).astype(np.uint8)
        inside, outside = cv2.erode(head, square), 1 - cv2.dilate(head, square)
        moved = (at @ (there @ np.linalg.inv(here)).T - at)[..., :2]
        flow[i] = moved * inside[..., None]
        known[i] = (inside | outside).astype(bool) & (warp(moving) == 0)
    return flow, known
