"""The interval of a recall, written anew: it solves Wilson's equation with the jackknife's variance."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.metrics import recall_score


def recall_interval(rows, clips=None):
    """95 % interval of the unweighted average recall of rows (speaker, truth, predicted)."""

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
