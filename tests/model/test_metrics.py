"""Figures against known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from deiii.model.metrics import ccc, class_figures, class_intervals, class_report, matrix_figures
from tests.model.training.test_losses import formula

TRUTH = np.array([0, 0, 0, 1, 1, 2])
GUESS = np.array([0, 0, 1, 1, 0, 2])


def test_figures_by_hand():
    found = class_figures(TRUTH, GUESS)
    assert found["uar"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["war"] == pytest.approx(4 / 6)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert class_figures(TRUTH[:0], GUESS[:0]) == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_ccc_of_predictions_that_are_no_numbers_is_refused(bad):
    with pytest.raises(ValueError, match="1 of 2 predictions are NaN or infinite"):
        ccc(np.array([0.0, 1.0, np.nan]), np.array([bad, 1.0, bad]))
    assert ccc(np.array([0.0, 1.0, np.nan]), np.array([0.0, 1.0, bad])) == pytest.approx(1)


def test_uar_is_over_classes_that_occur():
    truth, guess = np.array([0, 0, 3]), np.array([0, 1, 3])
    assert class_figures(truth, guess)["uar"] == pytest.approx(0.75)
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        assert balanced_accuracy_score(truth, guess) == pytest.approx(0.75)


def test_report_counts_every_class():
    found = class_report(TRUTH, GUESS, ["a", "b", "c", "never"])
    assert found["confusion"] == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert found["per_class"]["a"] == {"recall": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3), "clips": 3}
    assert found["per_class"]["never"] == {"recall": None, "f1": None, "clips": 0}


def test_a_report_without_clips_has_no_figures():
    found = class_report(TRUTH[:0], GUESS[:0], ["a", "b"])
    assert found["confusion"] == [[0, 0], [0, 0]] and "uar" not in found
    assert found["per_class"]["b"] == {"recall": None, "f1": None, "clips": 0}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-5, 5, width=32)] * 2), min_size=3, max_size=30))
def test_ccc_equals_the_formula(pairs):
    truth, guess = np.array(pairs).T
    if truth.std() > 1e-3 and guess.std() > 1e-3:
        assert ccc(truth, guess) == pytest.approx(formula(truth, guess), abs=1e-6)


def test_ccc_leaves_out_missing_values_and_is_none_where_undefined():
    truth = np.array([0.0, 1.0, np.nan, 2.0])
    assert ccc(truth, np.array([0.0, 1.0, 99.0, 2.0])) == pytest.approx(1)
    assert ccc(truth[:1], truth[:1]) is None
    assert ccc(np.ones(4), np.ones(4)) is None
    assert ccc(np.arange(4.0), np.ones(4)) == 0


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.integers(2, 9))
def test_ccc_of_constants_does_not_depend_on_the_rounding_of_their_mean(one, other, clips):
    """The mean of 0.1, 0.1, 0.1 is 0.10000000000000002: the CCC was 1."""
    expected = None if one == other else 0
    assert ccc(np.full(clips, one), np.full(clips, other)) == expected
    assert ccc(np.full(3, 0.1), np.full(3, 0.1)) is None
    assert ccc(np.full(3, 0.1), np.array([0.1, 0.2, 0.3])) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_the_quick_figures_equal_scikit_learns(pairs):
    truth, guess = np.array(pairs).T
    matrix = np.zeros((4, 4), int)
    np.add.at(matrix, (truth, guess), 1)
    assert matrix_figures(matrix) == pytest.approx(class_figures(truth, guess))


def test_class_intervals_surround_the_figures():
    rng = np.random.default_rng(0)
    truth = np.tile([0, 1, 2], 40)
    guess = np.where(rng.random(120) < 0.7, truth, 0)
    found = class_intervals(truth, guess, np.repeat(list("abcdefgh"), 15), 3)
    for name, value in class_figures(truth, guess).items():
        low, high = found[f"{name}_ci"]
        assert low < value < high
