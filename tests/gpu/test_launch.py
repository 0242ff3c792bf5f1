"""Training steps that cannot be recorded: auto goes on without a graph, graph refuses."""

import pytest


@pytest.mark.slow
def test_auto_runs_a_step_that_waits_eagerly(fake_gpu):
    found = fake_gpu.run("unrecordable", "auto")
    assert found["steps"] == 8 and not found["refused"]
    assert found["why_eager"] and found["forbidden"]


@pytest.mark.slow
def test_graph_refuses_a_step_that_waits(fake_gpu):
    found = fake_gpu.run("unrecordable", "graph")
    assert found["steps"] == 3
    assert found["refused"].startswith("train.launch=graph: the training step cannot be recorded")


@pytest.mark.slow
def test_auto_goes_on_eagerly_where_a_recording_needs_too_much_memory(fake_gpu):
    found = fake_gpu.run("unrecordable", "auto", "memory")
    assert found["steps"] == 8 and not found["refused"]
    assert "out of memory" in found["why_eager"]


@pytest.mark.slow
def test_graph_says_that_memory_is_too_little(fake_gpu):
    """The error is that of the memory, for which the command names the settings that need less."""
    found = fake_gpu.run("unrecordable", "graph", "memory")
    assert found["steps"] == 3
    assert found["refused"].startswith("CUDA out of memory")
