"""Levels of the mel bands of a live source: those of all rows with the floor that there is now."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.pipeline.streaming.levels import STEP_DB, MelHistory


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 60), min_size=1, max_size=4), st.floats(-140, 20))
def test_levels_are_those_of_all_rows_with_the_newest_floor(seed, lengths, floor):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(rng.uniform(-90, 0), 20, (n, 3)).astype(np.float32) for n in lengths]
    history = MelHistory(3)
    for part in parts:
        history.add(part)
    found = history.levels(floor, 1e-3)
    rows = np.maximum(np.concatenate(parts).astype(np.float64), floor)
    assert found is not None
    # Values in the bin of the floor are known by their mean alone.
    assert np.allclose(found[0], rows.mean(axis=0), atol=STEP_DB)
    assert np.allclose(found[1], np.maximum(rows.std(axis=0), 1e-3), atol=STEP_DB)


def test_digital_zeros_count_as_the_floor():
    history = MelHistory(2)
    assert history.levels(-60.0, 1.0) is None
    sound = np.random.default_rng(0).normal(-10, 5, (200, 2))
    history.add(sound[:100])
    history.add(np.full((100, 2), -120.0))
    history.add(sound[100:])
    mean, deviation = history.levels(sound.max() - 80.0, 1.0)
    rows = np.concatenate([sound, np.full((100, 2), sound.max() - 80.0)])
    assert mean == pytest.approx(rows.mean(axis=0), abs=1e-9)
    assert deviation == pytest.approx(rows.std(axis=0), abs=1e-6)


def test_values_outside_the_bins_keep_their_size():
    history = MelHistory(1)
    history.add(np.array([[-500.0], [300.0]]))
    assert history.levels(-1000.0, 1.0)[0] == pytest.approx([-100.0])
