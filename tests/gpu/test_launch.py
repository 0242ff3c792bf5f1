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
