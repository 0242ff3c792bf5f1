"""Shapley values against the axioms that define them."""

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.model.prediction.shapley import shapley

NAMES = ("frames", "flow", "audio")
worths = st.lists(st.floats(-1, 1), min_size=8, max_size=8)


def lookup(values):
    subsets = [frozenset(n for i, n in enumerate(NAMES) if k >> i & 1) for k in range(8)]
    return dict(zip(subsets, values, strict=True))


@settings(deadline=None)  # a busy machine must not fail the test
@given(worths)
def test_contributions_are_the_mean_over_all_orders(values):
    worth = lookup(values)
    found = shapley(NAMES, lambda s: np.array([worth[s]]), np.array([worth[frozenset()]]))
    for name in NAMES:
        gains = []
        for order in permutations(NAMES):
            before = frozenset(order[: order.index(name)])
            gains.append(worth[before | {name}] - worth[before])
        assert np.isclose(found[name][0], np.mean(gains))


@settings(deadline=None)  # a busy machine must not fail the test
@given(worths)
def test_contributions_and_chance_sum_to_all(values):
    worth = lookup(values)
    found = shapley(NAMES, lambda s: np.array([worth[s]]), np.array([worth[frozenset()]]))
    assert np.isclose(sum(v[0] for v in found.values()) + worth[frozenset()], worth[frozenset(NAMES)])


def test_an_input_that_changes_nothing_has_no_contribution():
    found = shapley(NAMES, lambda s: np.array([float("audio" in s)]), np.zeros(1))
    assert found["frames"][0] == found["flow"][0] == 0 and found["audio"][0] == 1
