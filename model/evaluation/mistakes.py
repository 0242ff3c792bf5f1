"""Find the test clips with the largest errors, and show what the network was given for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.stages import FACES, FLOW, LOGMEL
from deiii.data.tools.pictures import flow_colours, flow_saturation, mel_picture, resized
from deiii.model.training.scoring import Predictions

if TYPE_CHECKING:
    from deiii.data.loader.feature_set import FeatureSet
    from deiii.model.network.task import Task

MOST = 6  # clips
COLUMNS = 8  # crops in a strip
TILE, MEL_HEIGHT = 72, 56  # px: side of a crop, height of the log-mel
QUALITY = 82  # of the JPEG: a strip takes about 30 kB


@dataclass(frozen=True)
class Mistake:
    """One clip with a large error.

    Attributes:
        clip, speaker: ids.
        what: truth and prediction as text.
        picture: a JPEG file, or ``None`` where no features are stored.
    """

    clip: str
    speaker: str
    what: str
    picture: bytes | None = None


def worst_mistakes(found: Predictions, features: FeatureSet, task: Task, most: int = MOST) -> list[Mistake]:
    """Return the clips with the largest errors, largest first.

    The error of a clip is the probability of the wrong predicted class minus that of the true class. Where no
    classes are predicted, it is the largest error of its attributes as a share of their ranges.
    """
    error = _class_errors(found) if task.classes else _attribute_errors(found, task)
    order = [int(n) for n in np.argsort(-error, kind="stable")[:most] if error[n] >= 0]
    mistakes = []
    for n in order:
        row = int(found.index[n])
        clip = features.clips[row]
        mistakes.append(
            Mistake(clip.id, clip.speaker, _describe(found, n, task), strip(features.arrays(row)))
        )
    return mistakes


def _class_errors(found: Predictions) -> np.ndarray:
    """Return float [N]; -1 where the prediction is right or the label unknown."""
    p, rows = found.probabilities["fused"], np.arange(len(found.label))
    wrong = (p.argmax(axis=1) != found.label) & (found.label >= 0)
    return np.where(wrong, p.max(axis=1, initial=0) - p[rows, np.maximum(found.label, 0)], -1.0)


def _attribute_errors(found: Predictions, task: Task) -> np.ndarray:
    """Return float [N]; -1 where no attribute is known."""
    width = np.array([high - low for low, high in task.ranges])
    share = np.abs(found.attributes["fused"] - found.target) / width
    return np.where(np.isnan(share).all(axis=1), -1.0, np.nan_to_num(share).max(axis=1, initial=0))


def strip(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> bytes | None:
    """Return crops, flow and log-mel of a clip as one JPEG file, or ``None`` where there are none.

    Args:
        arrays: by stage, what the caches hold of the clip.
    """
    rows = []
    faces, flow, audio = (arrays.get(stage) for stage in (FACES.name, FLOW.name, LOGMEL.name))
    if faces is not None:
        last = max(0, len(faces["time"]) - 2)  # the last video frame has no flow
        shown = np.linspace(0, last, COLUMNS).round().astype(int)
        rows.append(np.hstack([resized(faces["frames"][i], TILE, TILE) for i in shown]))
        if flow is not None:
            field = decode_flow({name: np.asarray(values)[shown] for name, values in flow.items()})
            largest = flow_saturation(field)
            rows.append(np.hstack([resized(flow_colours(f, largest), TILE, TILE) for f in field]))
    if audio is not None:
        rows.append(resized(mel_picture(audio[LOGMEL.large]), COLUMNS * TILE, MEL_HEIGHT))
    if not rows:
        return None
    image = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _describe(found: Predictions, n: int, task: Task) -> str:
    if task.classes:
        p, label = found.probabilities["fused"][n], int(found.label[n])
        predicted = int(p.argmax())
        return (
            f"true: {task.classes[label]} ({p[label]:.2f}), "
            f"predicted: {task.classes[predicted]} ({p[predicted]:.2f})"
        )
    pairs = zip(task.attributes, found.target[n], found.attributes["fused"][n], strict=True)
    return "; ".join(f"{name}: true {truth:.2f}, predicted {guess:.2f}" for name, truth, guess in pairs)
