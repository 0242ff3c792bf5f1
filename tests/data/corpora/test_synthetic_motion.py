"""The true motion of the synthetic corpus agrees with its landmarks and frames."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import landmarks, render_frames
from deiii.data.corpora.synthetic.motion import true_motion
from deiii.data.corpora.synthetic.plan import plan_clip

STEP = 8


@pytest.fixture(scope="module")
def plan():
    return replace(plan_clip(SyntheticConfig(size=160), 0), noise=0.0)


def test_the_head_moves_as_its_landmarks(plan):
    flow, known = true_motion(plan, STEP)
    points = landmarks(plan)
    moved = points[STEP:] - points[:-STEP]
    for i in (0, 7, len(flow) - 1):
        for x, y in points[i, :2]:  # the eyes
            assert known[i, round(y), round(x)]
            at = flow[i, round(y), round(x)]
            nearest = np.abs(moved[i] - at).max(axis=1).min()
            assert nearest <= 0.1


def test_frames_warped_back_along_the_motion_agree(plan):
    frames = render_frames(plan).astype(np.float32)
    flow, known = true_motion(plan, STEP)
    assert 0.4 < known.mean() < 0.95
    i = int(np.argmax(np.abs(flow).max(axis=(1, 2, 3))))
    y, x = np.mgrid[: plan.size, : plan.size].astype(np.float32)
    warped = cv2.remap(frames[i + STEP], x + flow[i, ..., 0], y + flow[i, ..., 1], cv2.INTER_CUBIC)
    warped_error, unwarped_error = (
        np.abs(frame - frames[i]).mean(axis=2)[known[i]].mean() for frame in (warped, frames[i + STEP])
    )
    assert warped_error < 0.5 * unwarped_error
