"""The true motion of a synthetic clip, the reference for optical flow.

The head moves rigidly, by the plan's position, roll and scale; the background does not move. The motion of
brows, mouth, freckles and noise, and along the border of the head, is not known.

>>> flow, known = true_motion(plan_clip(SyntheticConfig(), 0))  # doctest: +SKIP
"""

from __future__ import annotations

import cv2
import numpy as np

from deiii.data.corpora.synthetic.face import LEFT, TOP, placement, render_head
from deiii.data.corpora.synthetic.plan import ClipPlan

BORDER = 4  # px on each side of the head's outline where the motion is not known
BOXES = ((-0.85, -0.85, 0.85, -0.25), (-0.6, 0.3, 0.6, 1.05))  # brows, mouth: x0, y0, x1, y1 in face units


def true_motion(plan: ClipPlan, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the motion of each point from a frame to the frame ``step`` later.

    Returns:
        float32 [n-step,size,size,2], u right and v down in px; and bool [n-step,size,size], true if the
        motion of the pixel is known.
    """
    n = len(plan.roll)
    size = plan.size
    unit = size / 3.0
    cover = render_head(plan, unit)[1]
    moving = np.zeros(cover.shape, np.uint8)
    for x0, y0, x1, y1 in BOXES:
        left, right = (round((x - LEFT) * unit) for x in (x0, x1))
        top, bottom = (round((y - TOP) * unit) for y in (y0, y1))
        moving[top:bottom, left:right] = 1
    if plan.freckles is not None:
        moving[:] = 1  # they lie all over the face
    canvas = np.array([[1 / unit, 0, LEFT], [0, 1 / unit, TOP], [0, 0, 1]])
    at = np.stack([*np.meshgrid(np.arange(size), np.arange(size)), np.ones((size, size))], -1).astype(float)
    flow = np.zeros((n - step, size, size, 2), np.float32)
    known = np.zeros((n - step, size, size), bool)
    square = np.ones((2 * BORDER + 1,) * 2, np.uint8)
    for i in range(n - step):
        here, there = (np.vstack([placement(plan, k), [0, 0, 1]]) for k in (i, i + step))
        to_frame = placement(plan, i) @ canvas
        head = (cv2.warpAffine(cover, to_frame, (size, size)) > 0.5).astype(np.uint8)
        inside = cv2.erode(head, square) > 0
        outside = cv2.dilate(head, square) == 0
        moved = (at @ (there @ np.linalg.inv(here)).T - at)[..., :2]
        flow[i] = moved * inside[..., None]
        known[i] = (inside | outside) & (cv2.warpAffine(moving, to_frame, (size, size)) == 0)
    return flow, known
