"""Budgets of training on the fake GPU: launches, waits, allocations, memory.

A change that needs more launches fails here. One that needs fewer lowers the number. Loading and augmentation
are counted with the steps.
"""

import pytest

pytestmark = pytest.mark.slow

AUGMENTED = ["loader.zoom=0.2", "loader.rotate=15", "loader.erase=0.5", "loader.grey=0.2"]
PLAIN = "model.audio_channels=[]"  # the audio encoder of two convolutions
SPEECH = ["stages=[faces,flow,logmel,speech]", "model.extra=[speech]"]
# Settings; most nodes of the graph of a step, with a margin for other versions; most launches of scoring one.
NETWORKS = {
    "base": (["base"], 1_760, 830),
    "large": (["large"], 2_200, 1_100),
    "base with two convolutions": (["base", PLAIN], 1_760, 800),
    "large with two convolutions": (["large", PLAIN], 2_200, 1_080),
    "without flow": (["base", PLAIN, "model.flow=false"], 1_490, 700),
    "video alone": (["base", PLAIN, "model.audio=false"], 990, 440),
    "deep audio and matching": (
        ["base", "model.time_match=true", "model.audio_channels=[16,24,48]"], 2_000, 850,
    ),
    "extra stream": (["base", PLAIN, *SPEECH], 2_170, 1_010),
    "all augmentation": (["base", PLAIN, *AUGMENTED], 1_850, 800),
}  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_a_recorded_training_step_is_a_few_launches(fake_gpu, network):
    words, nodes, scoring = NETWORKS[network]
    found = fake_gpu.run("training", *words, "train.launch=auto")
    assert found["launch"] == "graph" and found["forbidden"] == []
    assert found["launches"] <= 8
    assert len(found["nodes"]) == 1 and found["nodes"][0] <= nodes
    assert found["syncs"] == [] and found["allocations"] == []
    # Frames, flow and audio are encoded on separate CUDA streams, forward and backward.
    encoders = {"without flow": 2, "video alone": 2}.get(network, 3)
    assert len(found["beside"]) == encoders and found["beside"][0] >= 100
    assert found["evaluation"] <= scoring and found["evaluation_syncs"] == []


def test_eager_training_steps_never_wait(fake_gpu):
    found = fake_gpu.run("training", "base", "train.launch=eager")
    assert found["launches"] <= 1_760
    assert found["syncs"] == []


@pytest.mark.parametrize("launch", ["eager", "graph"])
def test_a_batch_in_parts_is_one_recorded_step_and_never_waits(fake_gpu, launch):
    """All parts are in one graph, in which PyTorch repeats the random numbers of the first computation."""
    found = fake_gpu.run("training", "base", f"train.launch={launch}", "train.accumulate=2", "loader.batch=4")
    assert found["syncs"] == [] and found["forbidden"] == []
    assert len(found["nodes"]) == (1 if launch == "graph" else 0)
    assert found["launches"] <= (8 if launch == "graph" else 3_800)


@pytest.mark.parametrize("launch", ["eager", "graph"])
def test_memory_does_not_grow_over_the_epochs(fake_gpu, launch):
    words = ["train.epochs=20", "loader.batch=16", "loader.residency=stream"]
    found = fake_gpu.run("epochs", "tiny", f"train.launch={launch}", *words)
    assert found["growth_mb"] <= 64
    # Steps, copies to the GPU, PyTorch's default stream; in a recording those of flow and sound, too.
    assert found["streams"] <= (5 if launch == "graph" else 3)
    assert found["forbidden"] == []


@pytest.mark.parametrize(("capability", "half"), [("75", False), ("80", True), ("90", True)])
def test_auto_precision_never_takes_emulated_bfloat16(fake_gpu, capability, half):
    found = fake_gpu.run("precision", FAKE_GPU_CAPABILITY=capability)
    assert found["auto"] == ("torch.bfloat16" if half else "torch.float32")
    assert found["off"] == "torch.float32" and found["bfloat16"] == "torch.bfloat16"
    assert found["fill"] is False  # deterministic, but new tensors are not filled with NaN
    assert found["fills"] == 0


def test_scoring_in_float32_rounds_nothing_to_tf32(fake_gpu):
    """Evaluation and prediction agree with the CPU and with the exported network."""
    found = fake_gpu.run("scoring")
    assert found["dtypes"] == ["torch.float32"] and found["tf32"] == [False]
    assert found["afterwards"] is True  # PyTorch's default
