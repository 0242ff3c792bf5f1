"""Which card a process uses, and the exchange of one process with itself."""

import pytest

from tests.helpers.ports import free_port


@pytest.mark.slow
def test_a_training_on_the_second_card_leaves_the_first_alone(fake_gpu):
    found = fake_gpu.run("second_card", FAKE_GPU_COUNT="2")
    for kind, cards in found.items():
        assert cards in ([1], []), f"{kind} on the cards {cards}"
    assert found["kernel"] and found["hostalloc"] and found["graph-launch"]


@pytest.mark.slow
def test_one_process_under_torchrun_exchanges_through_nccl(fake_gpu):
    started = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    found = fake_gpu.run("one_rank", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), **started)
    assert "nccl" in found["backend"] and found["launch"] == "eager"
    assert found["steps"] == 6 and found["exchanges"] > found["steps"]
    # Weights are copied once. Batch statistics are over all ranks, so that no step copies them; DDP exchanges
    # the order of its gradients once, after the first step, in two calls.
    assert found["broadcasts"]["made"] >= 1 and found["broadcasts"]["trained"] <= 2


@pytest.mark.slow
def test_a_graph_under_torchrun_is_refused_before_the_first_step(fake_gpu):
    started = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    found = fake_gpu.run("one_rank", "train.launch=graph", **where, **started)
    assert "use train.launch=auto under torchrun" in found["refused"] and "steps" not in found


@pytest.mark.slow
def test_one_process_without_torchrun_exchanges_nothing(fake_gpu):
    found = fake_gpu.run("one_rank")
    assert found["backend"] == "" and found["exchanges"] == 0 and found["launch"] == "graph"


@pytest.mark.slow
def test_other_threads_compute_on_the_card_on_which_a_network_was_loaded(fake_gpu):
    """Also the trial of Triton's kernels, which on another card would read memory of a foreign card."""
    found = fake_gpu.run("other_threads", FAKE_GPU_COUNT="2")
    assert found["loaded"] == [1] and found["triton"]
    assert found["failed"] == [] and found["computed"] == [1]
