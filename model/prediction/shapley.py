"""Contributions of the inputs to a prediction, as Shapley values.

Sources: Shapley 1953; for networks Lundberg and Lee, arXiv 1705.07874. The contribution of an input is the
change of the prediction when it is hidden, averaged over all orders in which the inputs could be hidden.
Every combination of the inputs is computed, so the values are exact. Modality dropout hides one input, or all
inputs of one modality, from a training clip (`deiii.model.network.hide_streams`); other combinations, such as
flow alone, occur in training only for clips that lack inputs: interpret small differences with care.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial

import numpy as np


def shapley(
    inputs: Sequence[str], value: Callable[[frozenset[str]], np.ndarray], chance: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the contribution of each input to the prediction from all of them.

    Args:
        inputs: names of the available inputs.
        value: the prediction from some of the inputs, float [K]; is never called without any input.
        chance: the prediction without any input, float [K].

    Returns:
        float64 [K] by input; their sum with ``chance`` is the prediction from all inputs.

    >>> contributions = shapley(("a", "b"), lambda some: np.array([0.25 * len(some) ** 2]), np.zeros(1))
    >>> [float(values[0]) for values in contributions.values()]
    [0.5, 0.5]
    """
    n = len(inputs)
    worth: dict[frozenset[str], np.ndarray] = {frozenset(): np.asarray(chance, np.float64)}
    for size in range(1, n + 1):
        for some in combinations(inputs, size):
            worth[frozenset(some)] = np.asarray(value(frozenset(some)), np.float64)
    contributions = {}
    for name in inputs:
        contribution = np.zeros(np.shape(chance))
        for shown in [s for s in worth if name not in s]:
            weight = factorial(len(shown)) * factorial(n - len(shown) - 1) / factorial(n)
            contribution += weight * (worth[shown | {name}] - worth[shown])
        contributions[name] = contribution
    return contributions
