"""Shapley values against the axioms that define them."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.model.network.task import Task
from deiii.model.prediction.result import HeadOutputs
from deiii.model.prediction.shapley import shapley
from deiii.model.prediction.windows.combine import Rows, combine

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


def test_attributes_alone_have_contributions():
    """A network without classes has no class whose probability could be shared out."""
    task = Task((), ("valence",), ((1.0, 5.0),))
    found = HeadOutputs(
        probabilities={}, attributes={"fused": np.array([[2.0], [3.0], [4.0]], np.float32)},
        present={"fused": np.ones(3, bool)}, count=3,
    )  # fmt: skip
    both, audio, frames = (Rows(found, task, slice(i, i + 1)) for i in range(3))
    inputs = {
        frozenset({"audio", "frames"}): both,
        frozenset({"audio"}): audio,
        frozenset({"frames"}): frames,
    }
    whole = combine(inputs, task, ("frames", "audio"))
    assert whole.probabilities == {} and whole.attributes == {"valence": 2.0}
    assert list(whole.contributions) == ["valence"]
    assert sum(whole.contributions["valence"].values()) == pytest.approx(2.0 - 3.0)  # from the middle
