"""Permutations, ranks and the clips' random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.loader.sampling import batch_count, epoch_order, rank_share, uniforms


@given(st.integers(0, 300), st.integers(0, 2**31), st.integers(0, 1000))
def test_an_epoch_holds_every_clip_once(count, seed, epoch):
    order = epoch_order(count, seed, epoch)
    assert sorted(order) == list(range(count))
    assert np.array_equal(order, epoch_order(count, seed, epoch))


def test_epochs_and_seeds_differ():
    orders = [epoch_order(50, s, e).tolist() for s in range(3) for e in range(3)]
    assert len({tuple(o) for o in orders}) == 9


def test_every_place_is_equally_likely():
    places = np.stack([epoch_order(6, 7, e) for e in range(6000)])
    counts = np.stack([(places == i).sum(0) for i in range(6)])
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000 * 5 / 6)


@given(st.integers(0, 100), st.integers(1, 7), st.integers(1, 9))
def test_ranks_are_disjoint_complete_and_equally_long(count, world, batch):
    order = epoch_order(count, 0, 0)
    shares = [rank_share(order, r, world, batch) for r in range(world)]
    assert {s.shape for s in shares} == {(batch_count(count, world, batch), batch)}
    seen = np.concatenate([s.ravel() for s in shares])
    assert sorted(seen[seen >= 0]) == list(range(count))


def test_a_rank_outside_its_world_is_refused():
    with pytest.raises(ValueError, match="rank 2"):
        rank_share(np.arange(4), 2, 2, 2)


def test_a_clips_numbers_do_not_depend_on_its_batch():
    together = uniforms(3, 5, np.array([4, 9, 2]), 6)
    assert np.array_equal(together[1:2], uniforms(3, 5, np.array([9]), 6))
    assert not np.array_equal(together, uniforms(3, 6, np.array([4, 9, 2]), 6))
    assert not np.array_equal(together, uniforms(4, 5, np.array([4, 9, 2]), 6))


def test_the_numbers_are_uniform_and_unrelated():
    u = uniforms(0, 0, np.arange(20_000), 4)
    assert u.min() >= 0 and u.max() < 1
    for column in u.T:
        counts = np.histogram(column, 20, (0, 1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-squared, 19 degrees: p < 2e-4
    related = np.corrcoef(np.concatenate([u, uniforms(0, 1, np.arange(20_000), 4)], 1).T)
    assert np.abs(related - np.eye(8)).max() < 0.04
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.04


def test_negative_seeds_work():
    assert uniforms(-1, 0, np.arange(3), 2).shape == (3, 2)
