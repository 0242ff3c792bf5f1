"""The clock of a stream: stamps that are right stay, wrong ones move no other item."""

import numpy as np
import pytest

from deiii.pipeline.media.clock import Clock, clock_remarks

STEP = 0.04


def times(stamps, video=True, **options):
    """The times of items with these timestamps, and the clock."""
    clock = Clock(STEP, 0.25 * STEP if video else 0.03, reorder=video, **options)
    placed = [one for i, stamp in enumerate(stamps) for one in clock.add(i, stamp)]
    placed += clock.finish()
    assert [i for i, _ in placed] == list(range(len(stamps)))
    return [time for _, time in placed], clock


def regular(n, start=0.0):
    return [start + STEP * i for i in range(n)]


def test_regular_timestamps_are_used_as_they_are():
    stamps = regular(100, start=3.7)
    found, clock = times(stamps)
    assert found == stamps and clock_remarks(clock, "video") == []
    assert clock.end == pytest.approx(3.7 + 100 * STEP)


def test_variable_rates_and_gaps_are_used_as_they_are():
    stamps = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.1, 0.7, 3.0], 300)).tolist()
    found, clock = times(stamps)
    assert found == stamps and clock.outliers == 0 and clock.restarts == []


@pytest.mark.parametrize("video", [True, False])
@pytest.mark.parametrize("wrong", [{0: 2.0}, {30: 2.0}, {30: -1.0}, {30: 2.0, 31: 2.0}, {10: 5.0, 40: -0.5}])
def test_outliers_move_no_other_item(wrong, video):
    right = regular(80)
    found, clock = times([t + wrong.get(i, 0.0) for i, t in enumerate(right)], video)
    np.testing.assert_allclose(found, right, atol=1e-9)
    assert clock.outliers == len(wrong) and "wrong" in clock_remarks(clock, "video")[0]


@pytest.mark.parametrize("length", [3, 8, 14])
def test_a_run_of_outliers_that_returns(length):
    right = regular(90)
    stamps = [t + (2.0 if 40 <= i < 40 + length else 0.0) for i, t in enumerate(right)]
    found, clock = times(stamps)
    np.testing.assert_allclose(found, right, atol=1e-9)
    assert clock.outliers == length


def test_random_outliers_among_variable_rates():
    rng = np.random.default_rng(1)
    right = np.cumsum(rng.choice([0.03, 0.04, 0.05], 400))
    stamps = right.copy()
    wrong = rng.choice(np.arange(5, 395), 20, replace=False)
    stamps[wrong] += rng.choice([-1, 1], 20) * rng.uniform(1.0, 9.0, 20)
    found, _ = times(stamps.tolist())
    assert np.abs(np.array(found) - right).max() < 2 * STEP
    good = np.setdiff1d(np.arange(400), wrong)
    assert (np.array(found)[good] == right[good]).mean() > 0.98


@pytest.mark.parametrize("start", [0.0, 1.0, 500.0])
def test_a_restart_goes_on_behind_what_came_before(start):
    stamps = regular(50, start=600.0) + regular(50, start=start)
    found, clock = times(stamps)
    np.testing.assert_allclose(found, regular(100, start=600.0), atol=1e-6)
    assert len(clock.restarts) == 1 and "start again" in clock_remarks(clock, "video")[0]


@pytest.mark.parametrize("b_frames", [1, 2, 3])
def test_timestamps_in_decoding_order_are_sorted(b_frames):
    """Presentation order I B B P: each P was decoded, and numbered, before the Bs shown before it."""
    stamps, number = [0.0], 1
    while len(stamps) < 60:
        stamps += [STEP * (number + 1 + k) for k in range(b_frames)] + [STEP * number]
        number += b_frames + 1
    for sort in (False, True):
        found, clock = times(stamps, sort=sort)
        np.testing.assert_allclose(found, regular(len(stamps)), atol=1e-9)
        assert clock.outliers == 0 and clock.unordered > 0


def test_missing_timestamps_are_counted():
    assert times([None] * 4)[0] == pytest.approx(regular(4))
    assert times([None, None, 0.08, 0.12, None, 0.2])[0] == pytest.approx(regular(6))


def test_doubled_timestamps_rise():
    found, _ = times([0.0, 0.04, 0.04, 0.12, 0.16, 0.2])
    assert found == pytest.approx(regular(6))


def test_few_items_are_held_back():
    clock = Clock(STEP, 0.01, window=8)
    held = 0
    for i, stamp in enumerate(np.random.default_rng(2).uniform(0, 100, 300)):
        held += 1 - len(clock.add(i, stamp))
        assert held <= 8
    assert len(clock.finish()) == held


def test_a_step_of_no_length_is_refused():
    with pytest.raises(ValueError, match="more than 0"):
        Clock(0.0, 0.01)
