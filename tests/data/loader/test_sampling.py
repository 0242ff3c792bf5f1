"""Sampled instants against rules stated clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.loader.sampling import audio_window, choose_rows, video_steps

SHAPES = {
    "lengths": st.lists(st.integers(0, 90), min_size=1, max_size=6),
    "steps": st.integers(1, 12),
    "stride": st.integers(1, 5),
    "how": st.sampled_from(["segments", "contiguous"]),
    "seed": st.none() | st.integers(0, 1000),
}


@given(**SHAPES)
def test_steps_rise_on_one_grid_within_the_clip(lengths, steps, stride, how, seed):
    draws = None if seed is None else np.random.default_rng(seed).random((len(lengths), 1 + steps))
    at, mask = video_steps(np.array(lengths), steps, stride, how, draws)
    assert at.shape == mask.shape == (len(lengths), steps)
    for n, row, valid in zip(lengths, at, mask, strict=True):
        chosen = row[valid]
        assert not row[~valid].any() and not np.any(np.diff(valid.astype(int)) > 0)
        if n == 0:
            assert not valid.any()
            continue
        assert 0 <= chosen[0] and chosen[-1] < n
        assert np.all(np.diff(chosen) > 0) and len(set(chosen % stride)) == 1
        grid = list(range(chosen[0] % stride, n, stride))
        assert len(chosen) == min(steps, len(grid))
        places = [grid.index(c) for c in chosen]
        if how == "contiguous" or len(grid) <= steps:
            assert np.all(np.diff(places) == 1)
        else:
            for k, p in enumerate(places):
                assert k * len(grid) // steps <= p < (k + 1) * len(grid) // steps


def test_training_reaches_every_frame_evaluation_stays():
    draws = np.random.default_rng(0).random((4000, 5))
    at, _ = video_steps(np.full(4000, 23), 4, 2, "segments", draws)
    assert set(at.ravel()) == set(range(23))
    starts = video_steps(np.full(4000, 23), 4, 2, "contiguous", draws)[0][:, 0]
    assert set(starts) == set(range(0, 17))
    fixed = [video_steps(np.array([23]), 4, 2, how)[0].tolist() for how in ("segments", "contiguous")]
    assert fixed == [[[2, 8, 14, 20]], [[8, 10, 12, 14]]]


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="segments or contiguous"):
        video_steps(np.array([4]), 2, 1, "random")


@given(st.integers(0, 300), st.integers(1, 100), st.floats(0, 3), st.floats(0, 3))
def test_the_audio_window_covers_the_frames_where_it_can(hops, steps, a, b):
    begin, end, period, first = min(a, b), max(a, b), 0.01, 0.0125
    start, count = audio_window(
        np.array([hops]), np.array([first]), np.array([period]), np.array([begin]), np.array([end]), steps
    )
    assert count[0] == min(hops, steps) and 0 <= start[0] <= hops - count[0]
    if hops <= steps:
        assert start[0] == 0
        return
    time = first + np.arange(hops) * period
    inside = time[start[0] : start[0] + count[0]]
    within = (time >= begin) & (time <= end)
    if (end - begin) / period <= count[0] - 2:
        assert np.all(np.isin(time[within], inside))  # the audio of all frames is inside
    middle = (begin + end) / 2
    if time[0] + steps * period < middle < time[-1] - steps * period:
        assert abs(inside.mean() - middle) <= period


def test_a_window_holds_the_instants_within_half_a_row_of_it():
    """A clip with a single log-mel hop held no instant, so all rows of other audio stages were hidden."""
    time = np.concatenate([[0.3], 0.01 * np.arange(20)])  # clips of 1, 20 and no hops
    begin, hops = np.array([0, 1, 0]), np.array([1, 20, 0])
    window = choose_rows(time, begin, hops, np.full((3, 2), np.nan), np.zeros(3), steps=4)
    assert window.count.tolist() == [1, 4, 0]
    instants = np.array([[0.3, 0.305], [window.time[1, 3], window.time[1, 3] + 0.006], [0.0, 7.0]])
    assert window.holds(instants).tolist() == [[True, True], [True, False], [True, True]]
