"""RAFT on a GPU against the CPU: precisions, ways of launching, memory errors, overlapping copies."""

import numpy as np
import pytest
import torch

from deiii.pipeline.flow.raft.engine import RaftBatches
from deiii.pipeline.flow.raft.network import RaftEngine
from tests.pipeline.flow.test_raft import LARGE, SMALL, drifting, torchvision_flow
from tests.pipeline.flow.test_stage import run, sliding

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("network", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("launch", ["eager", "compile"])
@pytest.mark.parametrize("fused", [True, False], ids=["triton", "pytorch"])
def test_float32_is_torchvisions(network, launch, fused):
    clip = drifting(6, 128)
    expected = torchvision_flow(network, clip, 3)
    engine = RaftEngine(network, 3, "cuda", launch=launch, fused=None if fused else False)
    assert (engine.kernels is not None) == fused
    for _ in range(2):
        assert (engine.flow(clip).cpu() - expected).abs().max() <= 1e-3 * max(1, float(expected.abs().max()))
    some = engine.flow(clip[:3]).cpu()  # another size of batch
    assert (some - expected[:2]).abs().max() <= 1e-3 * max(1, float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(test_data, dtype):
    from deiii.pipeline.flow.raft.network import load_network

    network = load_network("raft_small", str(test_data / "weights" / "raft_small_princeton.pth"))
    clip = drifting(9, 128)
    exact = torchvision_flow(network, clip, 12)
    rough = RaftEngine(network, 12, "cuda", dtype).flow(clip).cpu()
    assert (rough - exact).norm(dim=-1).mean() <= 0.02


@pytest.mark.parametrize("launch", ["eager", "compile"])
def test_the_stage_gives_the_result_of_the_cpu(launch):
    clips = [sliding(n, 128, seed=n) for n in (5, 9, 3)]
    cpu = run(clips, RaftBatches(RaftEngine(SMALL, 2), "float16", 4), storage="float16")
    gpu = run(
        clips, RaftBatches(RaftEngine(SMALL, 2, "cuda", launch=launch), "float16", 4), storage="float16"
    )
    for a, b in zip(cpu, gpu, strict=True):
        np.testing.assert_allclose(a.arrays["flow"], b.arrays["flow"], atol=1e-2, rtol=2e-3)
        np.testing.assert_array_equal(a.arrays["valid"], b.arrays["valid"])


def test_a_gpu_out_of_memory_halves_the_batch():
    engine = RaftEngine(SMALL, 1, "cuda")
    whole = torch.cuda.get_device_properties(0).total_memory
    batches = RaftBatches(engine, "float16", 64)
    torch.cuda.empty_cache()  # of other tests; what is still held counts, so the limit comes on top of it
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 0.3e9) / whole))
    try:
        (result,) = run([sliding(65, 128)], batches, storage="float16")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert batches.batch < 64 and result.arrays["valid"][:-1].all()
