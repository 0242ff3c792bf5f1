"""UAR, WAR, macro-F1 and CCC, with intervals over speakers.

Counts come from scikit-learn; CCC is `ccc`. All figures are Python floats or ``None`` where undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, recall_score


def figure_names(figures: Mapping[str, Any]) -> dict[str, str]:
    """Keys of the figures that are there, with the names people know.

    >>> figure_names({"uar": 0.5, "ccc_valence": 0.1, "ccc_valence_ci": [0, 0.2]})
    {'uar': 'UAR', 'ccc_valence': 'CCC valence'}
    """
    names = {"uar": "UAR", "war": "WAR", "macro_f1": "macro-F1"}
    names = {key: label for key, label in names.items() if key in figures}
    return names | {k: f"CCC {k[4:]}" for k in figures if k.startswith("ccc_") and not k.endswith("_ci")}


def ccc(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """Concordance correlation coefficient (Lin 1989, Biometrics 45:255) over known values.

    Args:
        truth, predicted: float [N]; entries where ``truth`` is NaN are left out.

    Returns:
        -1 to 1; ``None`` for fewer than two known values or where both sides are one same constant.

    >>> round(ccc(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0])), 6)
    1.0
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    known = ~np.isnan(truth)
    x, y = truth[known], predicted[known]
    if len(x) < 2:
        return None
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    if spread == 0:
        return None
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / spread)


def class_figures(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """UAR, WAR and macro-F1 of class numbers [N], over the classes that occur in ``truth``."""
    if not len(truth):
        return {}
    present = np.unique(truth)
    return {
        "uar": float(recall_score(truth, predicted, labels=present, average="macro", zero_division=0)),
        "war": float(np.mean(truth == predicted)),
        "macro_f1": float(f1_score(truth, predicted, labels=present, average="macro", zero_division=0)),
    }


def matrix_figures(confusion: np.ndarray) -> dict[str, float]:
    """`class_figures` from a confusion matrix (rows are truth): quick enough for a thousand rounds."""
    hits, support, guesses = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = support > 0
    return {
        "uar": float(np.mean(hits[present] / support[present])),
        "war": float(hits.sum() / support.sum()),
        "macro_f1": float(np.mean(2 * hits[present] / (support + guesses)[present])),
    }


def class_intervals(
    truth: np.ndarray, predicted: np.ndarray, speakers: Sequence[str], n_classes: int
) -> dict[str, list[float] | None]:
    """`bootstrap` of every one of the `class_figures`, by ``<name>_ci``."""

    def matrix(rows: np.ndarray) -> np.ndarray:
        pairs = np.bincount(truth[rows] * n_classes + predicted[rows], minlength=n_classes**2)
        return pairs.reshape(n_classes, n_classes)

    again = lambda name: lambda rows: matrix_figures(matrix(rows))[name]
    return {f"{name}_ci": bootstrap(speakers, again(name)) for name in ("uar", "war", "macro_f1")}


def class_report(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> dict:
    """`class_figures` with recall, F1 and support per class and the confusion matrix (rows are truth)."""
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


def bootstrap(
    speakers: Sequence[str],
    figure: Callable[[np.ndarray], float | None],
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[float] | None:
    """Percentile interval of a figure when *speakers*, not clips, are drawn again.

    Clips of one speaker are not independent; drawing clips would make intervals too narrow.

    Args:
        speakers: the speaker of each of N clips.
        figure: maps row numbers [n] to a figure, or ``None`` where it is undefined.

    Returns:
        ``[low, high]``, or ``None`` with fewer than two speakers.
    """
    names, owner = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) < 2:
        return None
    rows = [np.flatnonzero(owner == i) for i in range(len(names))]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        drawn = rng.integers(len(names), size=len(names))
        value = figure(np.concatenate([rows[i] for i in drawn]))
        if value is not None:
            values.append(value)
    if not values:
        return None
    tail = (1 - level) / 2
    return [float(v) for v in np.quantile(values, [tail, 1 - tail])]
