"""The fake GPU counts what is known, and its knobs work."""


def test_counts_are_the_known_ones(fake_gpu):
    found = fake_gpu.run("basics")
    assert (found["sums"], found["sums_syncs"]) == (2, [])  # one kernel, one call of cuBLAS
    assert (found["sends"], found["sends_syncs"]) == (1, [])
    assert found["blocking_syncs"] >= 1  # a pageable copy
    assert found["item_syncs"] >= 1
    # PyTorch 2.11 fills the generator's seed and offset before the capture, later releases inside it.
    assert found["captured_launches"] in (0, 2) and found["captured_forbidden"] == []
    assert found["captured_nodes"][0] in (2, 3)  # two kernels, and that of the generator
    assert found["replay"] == 1
    assert found["refused"]  # .item() inside a capture


def test_waits_are_refused_in_their_block_alone(fake_gpu):
    found = fake_gpu.run("waits")
    assert not found["add"]
    assert found["item"] and found["to_host"] and found["from_list"]
    assert found["mode"] == 0  # PyTorch's default


def test_knobs_describe_another_card(fake_gpu):
    found = fake_gpu.run("basics", FAKE_GPU_GB="16", FAKE_GPU_CAPABILITY="75", FAKE_GPU_COUNT="2")
    assert (found["memory_gb"], found["capability"], found["devices"]) == (16.0, [7, 5], 2)
