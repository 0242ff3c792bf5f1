"""What a batch of flow costs on a GPU: launches, waits, allocations, and the limits of its libraries."""

import pytest

SIZES = [112, 128, 224]  # enlarged to 128 px; as it is; 28x28 points
MODELS = ["raft_small", "raft_large"]
LAUNCHES = {"raft_small": 780, "raft_large": 860}


# The storage is independent of the lookup: one case of float16 is enough.
@pytest.mark.parametrize(
    ("triton", "storage"),
    [(True, "int8"), (False, "int8"), pytest.param(True, "float16", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("model", MODELS)
def test_no_batch_waits_or_allocates(fake_gpu, model, triton, storage):
    more = [] if triton else ["--no-triton"]
    sizes = [str(size) for size in SIZES]
    found = fake_gpu.run("flow", model, "--pairs", "65", "--sizes", *sizes, "--storage", storage, *more)
    assert found.pop("triton") == triton
    assert len(found) == len(SIZES)
    for seen in found.values():
        assert seen["syncs"] == [] and seen["allocations"] == [] and seen["refused"] == []
        assert seen["unfolds"] == 0  # PyTorch's unfold starts a kernel a pair
        if triton:
            assert seen["launches"] <= LAUNCHES[model]


@pytest.mark.slow
@pytest.mark.parametrize("model,pairs,size", [
    ("raft_small", 1024, 128), ("raft_large", 768, 128), ("raft_large", 492, 160), ("raft_small", 496, 184),
    ("raft_large", 372, 184), ("raft_small", 335, 224), ("raft_large", 251, 224),
])  # fmt: skip
def test_no_batch_is_too_large_for_the_lookup(fake_gpu, model, pairs, size):
    """cuDNN's sampler refuses one pair more than these batches have; it must not be used at any size."""
    found = fake_gpu.run(
        "flow", model, "--no-triton", "--pairs", str(pairs), "--sizes", str(size), FAKE_GPU_GB="400"
    )
    (seen,) = (value for key, value in found.items() if key != "triton")
    assert seen["samplers"] == [] and seen["refused"] == [] and seen["syncs"] == []


@pytest.mark.slow
def test_launches_of_a_compiled_batch(fake_gpu):
    found = fake_gpu.run("flow", "raft_large", "--launch", "compile", "--pairs", "512", "65")
    assert found.pop("triton")
    for seen in found.values():  # the second size is not compiled again, so it is as lean
        assert seen["launches"] <= 400
        assert seen["syncs"] == [] and seen["refused"] == []
