"""The test clips that a network was most wrong about, with a picture of what it was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import matplotlib
import numpy as np

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.tools.pictures import flow_colours
from deiii.model.training.scoring import Predictions

if TYPE_CHECKING:
    from deiii.data.loader.feature_set import FeatureSet
    from deiii.model.network.task import Task

MOST = 6
COLUMNS, CELL, SOUND = 8, 72, 56  # crops in a strip, their side and the log-mel's height in px
QUALITY = 82  # of the JPEG: a strip takes about 30 kB


@dataclass(frozen=True)
class Mistake:
    """One clip.

    Attributes:
        clip, speaker: who and what.
        what: truth and prediction in words.
        picture: JPEG, or ``None`` where no features are at hand.
    """

    clip: str
    speaker: str
    what: str
    picture: bytes | None = None


def worst_mistakes(found: Predictions, features: FeatureSet, task: Task, most: int = MOST) -> list[Mistake]:
    """The clips whose wrong class is furthest above the right one, worst first.

    Where no classes are predicted: those whose attributes are furthest off, as shares of their ranges.
    """
    if task.classes:
        p, rows = found.probabilities["fused"], np.arange(len(found.label))
        wrong = (p.argmax(axis=1) != found.label) & (found.label >= 0)
        miss = np.where(wrong, p.max(axis=1, initial=0) - p[rows, np.maximum(found.label, 0)], -1.0)
    else:
        span = np.array([high - low for low, high in task.ranges])
        off = np.abs(found.attributes["fused"] - found.target) / span
        miss = np.where(np.isnan(off).all(axis=1), -1.0, np.nan_to_num(off).max(axis=1, initial=0))
    order = [int(n) for n in np.argsort(-miss, kind="stable")[:most] if miss[n] >= 0]
    return [
        Mistake(clip.id, clip.speaker, _words(found, n, task), picture(features.arrays(int(found.index[n]))))
        for n in order
        for clip in [features.clips[found.index[n]]]
    ]


def picture(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> bytes | None:
    """Crops, flow and log-mel of a clip's stored arrays as a JPEG strip."""
    rows = []
    faces, flow, sound = (arrays.get(stage) for stage in ("faces", "flow", "logmel"))
    if faces is not None:
        count = len(faces["time"])
        shown = np.linspace(0, max(0, count - 2), COLUMNS).round().astype(int)
        rows.append(np.hstack([_cell(faces["frames"][i]) for i in shown]))
        if flow is not None:
            field = decode_flow({n: np.asarray(a)[shown] for n, a in flow.items()})
            lengths = np.linalg.norm(field, axis=3)
            largest = max(0.5, float(np.percentile(lengths, 99)))
            rows.append(np.hstack([_cell(flow_colours(f, largest)) for f in field]))
    if sound is not None:
        db = np.asarray(sound["logmel"], np.float32).T[::-1]
        level = (db - db.min()) / max(1e-6, float(db.max() - db.min()))
        colours = (matplotlib.colormaps["magma"](level)[..., :3] * 255).astype(np.uint8)
        rows.append(cv2.resize(colours, (COLUMNS * CELL, SOUND), interpolation=cv2.INTER_AREA))
    if not rows:
        return None
    strip = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _cell(image: np.ndarray) -> np.ndarray:
    return cv2.resize(np.ascontiguousarray(image), (CELL, CELL), interpolation=cv2.INTER_AREA)


def _words(found: Predictions, n: int, task: Task) -> str:
    if task.classes:
        p, label = found.probabilities["fused"][n], int(found.label[n])
        guess = int(p.argmax())
        return (
            f"is {task.classes[label]} ({p[label]:.2f}), was taken for {task.classes[guess]} ({p[guess]:.2f})"
        )
    pairs = zip(task.attributes, found.target[n], found.attributes["fused"][n], strict=True)
    return ", ".join(f"{name} {truth:.2f} predicted as {guess:.2f}" for name, truth, guess in pairs)
