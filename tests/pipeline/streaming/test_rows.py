"""Rows that are kept for the whole of a recording are those that were given, in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deiii.pipeline.streaming.rows import AllRows


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_all_rows_are_those_of_one_array(lengths):
    rng = np.random.default_rng(sum(lengths))
    blocks = [{"time": rng.random(n), "box": rng.random((n, 4), np.float32)} for n in lengths]
    expected = {name: np.concatenate([block[name] for block in blocks]) for name in ("time", "box")}
    rows = AllRows()
    for block in blocks:
        rows.append(block)
        for values in block.values():
            values[:] = -1  # what was given is copied
    for name, values in expected.items():
        assert name in rows and rows[name].dtype == values.dtype
        assert np.array_equal(rows[name], values)
