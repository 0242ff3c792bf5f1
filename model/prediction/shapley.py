"""How much each input contributes to a prediction.

Shapley values (Shapley 1953; for networks Lundberg and Lee, arXiv 1705.07874): an input's part is what
hiding it takes away, averaged over all orders in which the inputs could be hidden. With at most three
inputs every combination is tried, so the values are exact. The network was trained with one input, or
the whole picture, hidden at times; flow alone it has not met, so read small differences with care.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial

import numpy as np


def shapley(
    inputs: Sequence[str], value: Callable[[frozenset[str]], np.ndarray], nothing: np.ndarray
) -> dict[str, np.ndarray]:
    """Each input's part of ``value`` of all of them.

    Args:
        inputs: names of the inputs that are there.
        value: what is predicted from some of them, float [K]; never asked for none.
        nothing: what is predicted from none, float [K].

    Returns:
        float64 [K] by input; with ``nothing`` they sum to the value of all inputs.

    >>> parts = shapley(("a", "b"), lambda s: np.array([0.25 * len(s) ** 2]), np.zeros(1))
    >>> [float(p[0]) for p in parts.values()]
    [0.5, 0.5]
    """
    n = len(inputs)
    worth = {frozenset(): np.asarray(nothing, np.float64)}
    for size in range(1, n + 1):
        for some in combinations(inputs, size):
            worth[frozenset(some)] = np.asarray(value(frozenset(some)), np.float64)
    parts = {}
    for name in inputs:
        without = [s for s in worth if name not in s]
        weight = [factorial(len(s)) * factorial(n - len(s) - 1) / factorial(n) for s in without]
        parts[name] = sum(w * (worth[s | {name}] - worth[s]) for w, s in zip(weight, without, strict=True))
    return parts
