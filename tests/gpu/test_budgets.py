"""Budgets of the hot paths on the fake GPU: launches, waits, allocations.

A change that needs more launches fails here. One that needs fewer lowers the number. Loading and augmentation
are counted with the steps.
"""

import pytest


@pytest.mark.slow
def test_a_recorded_training_step_is_a_few_launches(fake_gpu):
    found = fake_gpu.run("training", "base", "train.launch=auto")
    assert found["launch"] == "graph" and len(found["nodes"]) == 1
    assert found["launches"] <= 10
    assert found["syncs"] == [] and found["allocations"] == [] and found["forbidden"] == []


@pytest.mark.slow
def test_eager_training_steps_never_wait(fake_gpu):
    found = fake_gpu.run("training", "base", "train.launch=eager")
    assert found["launches"] <= 3_100
    assert found["syncs"] == []


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["eager", "graph"])
def test_memory_does_not_grow_over_the_epochs(fake_gpu, launch):
    words = ["train.epochs=20", "loader.batch=16", "loader.residency=stream"]
    found = fake_gpu.run("epochs", "tiny", f"train.launch={launch}", *words)
    assert found["growth_mb"] <= 64
    assert found["streams"] <= 3  # steps, copies to the GPU, and PyTorch's default stream
    assert found["forbidden"] == []
