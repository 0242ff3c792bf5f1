"""Find the test clips with the largest errors, and show the network's input for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deiii.data.pages.strips import strip
from deiii.model.training.scoring import Predictions

if TYPE_CHECKING:
    from deiii.data.loader.feature_set import FeatureSet
    from deiii.model.network.task import Task

MOST = 6  # clips


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


def _describe(found: Predictions, n: int, task: Task) -> str:
    if task.classes:
        p, label = found.probabilities["fused"][n], int(found.label[n])
        predicted = int(p.argmax())
        return (
            f"true: {task.classes[label]} ({p[label]:.2f}), "
            f"predicted: {task.classes[predicted]} ({p[predicted]:.2f})"
        )
    pairs = zip(task.attributes, found.target[n], found.attributes["fused"][n], strict=True)
    return "; ".join(
        f"{name}: true {'unknown' if np.isnan(truth) else f'{truth:.2f}'}, predicted {guess:.2f}"
        for name, truth, guess in pairs
    )
