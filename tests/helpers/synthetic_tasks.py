"""Clips of the synthetic tasks order, binding and told, and what simple models read from them."""

from __future__ import annotations

import av
import cv2
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import landmarks
from deiii.data.corpora.synthetic.plan import clip_count, plan_clip
from deiii.data.corpora.synthetic.skin import LUMA, WITHOUT_LUMA

TASKS = ("order", "binding", "told")
FILES = {  # small corpora of 96 clips: 12 speakers, 4 clips of each class
    "order": {"seconds": 1.6, "size": 64, "fps": 10.0},
    "binding": {"seconds": 0.8, "size": 144, "fps": 12.5},
    "told": {"seconds": 0.8, "size": 128, "fps": 10.0},
}
CHANCE = 0.67  # 96 fair coins exceed it with a chance below 0.001


def settings(task, **changes):
    return SyntheticConfig(**{"task": task, "speakers": 12, "clips_per_class": 4, **FILES[task], **changes})


def plans_of(config):
    return [plan_clip(config, n) for n in range(clip_count(config))]


def decode(path):
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(str(path)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    return frames, sound


def answers(clips):
    return np.array([clip[0].label for clip in clips])


def unseen(clips, rows, target, components=0):
    """Return the accuracy of a logistic regression on speakers that it was not fitted on."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    if components:
        model = make_pipeline(PCA(components, random_state=0), model)
    groups = [clip[0].speaker.name for clip in clips]
    rows = np.array([np.ravel(row) for row in rows], float)
    return cross_val_score(model, rows, target, groups=groups, cv=GroupKFold(4)).mean()


def upright(plan, frames, size=64, half=1.0):
    """Return crops of the face from the true landmarks, ``2 * half`` units wide, float32 [n,size,size,3]."""
    out = []
    for frame, points in zip(frames, landmarks(plan), strict=True):
        middle, across = points[:2].mean(0), (points[1] - points[0]) / (2 * plan.speaker.eye_distance)
        c, s = across / (across @ across) * size / (2 * half)
        turn = np.array([[c, s], [-s, c]])
        shift = np.array([size / 2, 0.455 * size]) - turn @ middle
        out.append(cv2.warpAffine(frame, np.column_stack([turn, shift]), (size, size)))
    return np.stack(out).astype(np.float32)


def redness(rgb):
    """Return red against green, without luminance, as a share of the luminance."""
    return (rgb @ (WITHOUT_LUMA / np.square(WITHOUT_LUMA).sum())) / np.maximum(rgb @ LUMA, 20)


def check_equal_luminance(one, two):
    """Check that grey levels differ by the rounding of single pixels, and by at most 0.1 over a region."""
    gap = one.astype(np.float32) @ LUMA - two.astype(np.float32) @ LUMA
    assert np.abs(gap).max() < 2.5
    regions = gap.reshape(len(gap), 8, one.shape[1] // 8, 8, one.shape[2] // 8).mean((0, 2, 4))
    assert np.abs(regions).max() < 0.1
