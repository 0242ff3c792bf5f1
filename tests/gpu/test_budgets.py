"""Budgets of the hot paths on the fake GPU: launches, waits, allocations.

A change that needs more launches fails here. One that needs fewer lowers the number.
"""

import pytest


@pytest.mark.slow
def test_eager_training_step(fake_gpu):
    found = fake_gpu.run("training", "base")
    assert found["launches"] <= 4_950
    assert found["syncs"] == []
    assert found["allocations"] == []
