"""Figures of merit: UAR, WAR, macro-F1 and CCC, with intervals over speakers.

UAR (unweighted average recall) is the mean of the classes' recalls, WAR (weighted average recall) is the
accuracy. Both are 0 to 1 over the classes that occur in the truth. CCC is -1 to 1. Every figure is a Python
float, or ``None`` where it is undefined. Recall, F1 and confusion come from scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deiii.model.intervals import speaker_interval

CLASS_FIGURES = {"uar": "UAR", "war": "WAR", "macro_f1": "macro-F1"}  # key in metrics.json: usual name


def figure_names(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of the figures that are there, with their usual names.

    >>> figure_names({"uar": 0.5, "ccc_valence": 0.1, "ccc_valence_ci": [0, 0.2]})
    {'uar': 'UAR', 'ccc_valence': 'CCC valence'}
    """
    names = {key: label for key, label in CLASS_FIGURES.items() if key in figures}
    return names | {k: f"CCC {k[4:]}" for k in figures if k.startswith("ccc_") and not k.endswith("_ci")}


def ccc(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """Return the concordance correlation coefficient (Lin 1989, Biometrics 45:255) over known values.

    Args:
        truth, predicted: float [N]; entries where ``truth`` is NaN are left out.

    Returns:
        -1 to 1; ``None`` for fewer than two known values, or where both arrays hold the same constant. An
        array of equal numbers counts as a constant, also if rounding makes its computed variance positive.

    Raises:
        ValueError: a prediction for a known value is NaN or infinite.

    >>> round(ccc(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0])), 6)
    1.0
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    known = ~np.isnan(truth)
    x, y = truth[known], predicted[known]
    if wrong := int((~np.isfinite(y)).sum()):
        raise ValueError(f"{wrong} of {len(y)} predictions are NaN or infinite, so there is no CCC")
    if len(x) < 2:
        return None
    if np.ptp(x) == 0 or np.ptp(y) == 0:  # the mean of 0.1, 0.1, 0.1 is not 0.1, so the variance is not 0
        return None if np.array_equal(x, y) else 0.0
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / spread)


def class_figures(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return UAR, WAR and macro-F1 of class numbers, int [N], over the classes that occur in ``truth``.

    The result is empty if there are no clips.
    """
    if not len(truth):
        return {}
    from sklearn.metrics import f1_score, recall_score  # slow to import, and prediction does not need it

    present = np.unique(truth)
    return {
        "uar": float(recall_score(truth, predicted, labels=present, average="macro", zero_division=0)),
        "war": float(np.mean(truth == predicted)),
        "macro_f1": float(f1_score(truth, predicted, labels=present, average="macro", zero_division=0)),
    }


def matrix_figures(confusion: np.ndarray) -> dict[str, float]:
    """Return `class_figures` from a confusion matrix, int [C,C] (rows are truth).

    It is fast enough to be computed once for each speaker that is left out.
    """
    hits = np.diag(confusion)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    present = support > 0
    return {
        "uar": float(np.mean(hits[present] / support[present])),
        "war": float(hits.sum() / support.sum()),
        "macro_f1": float(np.mean(2 * hits[present] / (support + predicted)[present])),
    }


def uar(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """Return the UAR over the classes that occur in ``truth``; ``None`` where no class is known.

    Args:
        truth: class numbers, int [N]; negative where unknown, which leaves the entry out.
        predicted: class numbers, int [N]; negative for no prediction, which counts as wrong.

    >>> uar(np.array([0, 0, 1, -1]), np.array([0, 1, -1, 0]))
    0.25
    """
    known = truth >= 0
    truth, right = truth[known], truth[known] == predicted[known]
    recalls = [right[truth == label].mean() for label in np.unique(truth)]
    return float(np.mean(recalls)) if recalls else None


def class_intervals(
    truth: np.ndarray,
    predicted: np.ndarray,
    speakers: Sequence[str] | np.ndarray,
    n_classes: int,
) -> dict[str, list[float] | None]:
    """Return the `speaker_interval` of each of the `class_figures`, keyed by ``<name>_ci``.

    Args:
        truth, predicted: class numbers, int [N].
        speakers: the speaker of each prediction.
        n_classes: number of classes.
    """
    return {
        f"{name}_ci": speaker_interval(speakers, figure_of_rows(name, truth, predicted, n_classes))
        for name in CLASS_FIGURES
    }


def figure_of_rows(
    name: str, truth: np.ndarray, predicted: np.ndarray, n_classes: int
) -> Callable[[np.ndarray], float | None]:
    """Return one of the `class_figures` as a function of row numbers, int [n]; of no rows it is ``None``.

    Args:
        name: key in `CLASS_FIGURES`.
        truth: class numbers, int [N]; negative where unknown, which leaves the row out.
        predicted: class numbers, int [N], none of them negative.
        n_classes: number of classes.
    """

    def figure(rows: np.ndarray) -> float | None:
        known = rows[truth[rows] >= 0]
        if not len(known):
            return None
        pairs = np.bincount(truth[known] * n_classes + predicted[known], minlength=n_classes**2)
        return matrix_figures(pairs.reshape(n_classes, n_classes))[name]

    return figure


def guessing(classes: Sequence[str]) -> float:
    """Return the UAR that guessing gives, whatever the shares of the classes are.

    >>> guessing(["angry", "happy", "sad", "neutral"])
    0.25
    """
    return 1 / len(classes)


def class_report(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Return `class_figures`, the recall, F1 and clips of each class, and the confusion matrix.

    Without clips there are no `class_figures`, each recall and F1 is ``None``, and the matrix is zero.
    """
    if not len(truth):
        nothing = {name: {"recall": None, "f1": None, "clips": 0} for name in classes}
        return {"per_class": nothing, "confusion": np.zeros((len(classes),) * 2, int).tolist()}
    from sklearn.metrics import confusion_matrix, f1_score, recall_score  # imported here because it is slow

    numbers = np.arange(len(classes))
    support = np.bincount(truth, minlength=len(classes))
    recall = recall_score(truth, predicted, labels=numbers, average=None, zero_division=0)
    f1 = f1_score(truth, predicted, labels=numbers, average=None, zero_division=0)
    return {
        **class_figures(truth, predicted),
        "per_class": {
            name: {
                "recall": float(recall[i]) if support[i] else None,
                "f1": float(f1[i]) if support[i] else None,
                "clips": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion_matrix(truth, predicted, labels=numbers).tolist(),
    }
