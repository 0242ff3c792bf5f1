"""Overlapping windows: every row once, no seam, and the same rows wherever the windows are the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.pipeline.encoders.windows import JoinedRows, Means, window_starts

HOP = 10


def itself(windows):
    """An encoder without context: a row is the mean of its samples, the last one of fewer."""
    return [
        np.stack([w[i : i + HOP].mean(dtype=np.float64) for i in range(0, len(w), HOP)])
        .astype(np.float32)[:, None, None] for w in windows
    ]  # fmt: skip


def of_position(windows):
    """An encoder whose rows tell which sample the window starts with, and their place in the window."""
    return [
        np.stack([np.full(-(-len(w) // HOP), w[0]), np.arange(-(-len(w) // HOP))], 1)[:, None]
        .astype(np.float32) for w in windows
    ]  # fmt: skip


def join_windows(samples, window, step, hop, encode, batch=1):
    """The joined rows of a clip whose windows are encoded in batches."""
    joined = JoinedRows(len(samples), window, step, hop)
    windows = [samples[start : start + window] for start in window_starts(len(samples), window, step)]
    for at in range(0, len(windows), batch):
        for rows in encode(windows[at : at + batch]):
            yield from joined.add(rows)


@settings(max_examples=25)
@given(st.integers(1, 1500), st.integers(1, 30), st.data())
def test_rows_of_an_encoder_without_context_are_those_of_the_whole_file(n, window, data):
    step = data.draw(st.integers(1, window))
    samples = np.random.default_rng(n).normal(size=n).astype(np.float32)
    found = np.concatenate(list(join_windows(samples, window * HOP, step * HOP, HOP, itself, batch=3)))
    np.testing.assert_allclose(found, itself([samples])[0], atol=1e-5)


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_the_file_and_none_is_needless(n, window, step):
    starts = window_starts(n, window, min(step, window))
    assert starts[0] == 0 and starts[-1] + window >= n
    assert len(starts) == 1 or starts[-2] + window < n


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_middle_of_a_file_is_what_the_middle_alone_gives(batch):
    samples = np.arange(6000, dtype=np.float32)
    whole = np.concatenate(list(join_windows(samples, 800, 500, HOP, of_position, batch)))
    middle = np.concatenate(list(join_windows(samples[2000:4000], 800, 500, HOP, of_position, batch)))
    np.testing.assert_array_equal(whole[200:400][50:150], middle[50:150])


def test_one_window_takes_over_from_the_other_where_both_have_the_same_context():
    found = np.concatenate(list(join_windows(np.arange(1300.0), 800, 500, HOP, of_position)))
    share = found[:, 0, 0] / 500  # 0 in the first window, 1 in the second
    assert (np.diff(share) >= 0).all() and share[64] < 0.5 < share[66]
    np.testing.assert_array_equal(share[[0, 50, 57, 73, 80, 129]], [0, 0, 0, 1, 1, 1])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 6))
def test_means_do_not_depend_on_the_blocks(sizes, pool):
    rows = np.random.default_rng(0).normal(size=(sum(sizes), 2)).astype(np.float32)
    blocks = np.split(rows, np.cumsum(sizes)[:-1])
    expected = [rows[i : i + pool].mean(axis=0) for i in range(0, len(rows), pool)]
    means = Means(pool)
    found = [*(means.add(block) for block in blocks), means.rest()]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-6)
