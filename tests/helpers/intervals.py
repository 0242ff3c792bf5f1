"""The interval of a recall, computed independently: Wilson's equation with the jackknife's variance.

Over several seeds the variance is that of a two-way table of pseudo-values without replication.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.metrics import recall_score


def recall_interval(rows, clips=None):
    """Return the 95 % interval of the unweighted average recall of rows (speaker, truth, predicted)."""

    def recall(some):
        return recall_score([r[1] for r in some], [r[2] for r in some], average="macro")

    people = sorted({r[0] for r in rows})
    n, p = len(people), recall(rows)
    without = [recall([r for r in rows if r[0] != name]) for name in people]
    variance = (n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2)
    t2 = stats.t.ppf(0.975, n - 1) ** 2
    each = max(variance / (p * (1 - p)), 1 / (clips or len(rows))) if 0 < p < 1 else 1 / (clips or len(rows))
    # (p - b)^2 = t^2 b (1 - b) each, as b^2 (1 + t^2 each) - b (2 p + t^2 each) + p^2 = 0
    return sorted(np.roots([1 + t2 * each, -(2 * p + t2 * each), p**2]).real)


def recall_interval_over_seeds(rows_of_seeds):
    """Return the 95 % interval of the mean recall of seeds, each with rows (speaker, truth, predicted)."""

    def recall(some):
        return recall_score([r[1] for r in some], [r[2] for r in some], average="macro")

    people = sorted({r[0] for r in rows_of_seeds[0]})
    table = np.array(
        [
            [
                len(people) * recall(rows) - (len(people) - 1) * recall([r for r in rows if r[0] != name])
                for name in people
            ]
            for rows in rows_of_seeds
        ]
    )
    a, b = table.shape
    grand, p = table.mean(), np.mean([recall(rows) for rows in rows_of_seeds])
    square_a = b * np.sum((table.mean(1) - grand) ** 2) / (a - 1)
    square_b = a * np.sum((table.mean(0) - grand) ** 2) / (b - 1)
    rest = np.sum((table - table.mean(1)[:, None] - table.mean(0)[None] + grand) ** 2) / ((a - 1) * (b - 1))
    total = square_a + square_b - rest if min(square_a, square_b) > rest else max(square_a, square_b)
    spread = square_a**2 / (a - 1) + square_b**2 / (b - 1)
    freedom = min(total**2 / spread, a * b - 1) if spread else b - 1
    t2 = stats.t.ppf(0.975, max(1, freedom)) ** 2
    each = max(total / (a * b) / (p * (1 - p)), 1 / len(rows_of_seeds[0]))
    return sorted(np.roots([1 + t2 * each, -(2 * p + t2 * each), p**2]).real)
