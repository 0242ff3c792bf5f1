"""Measure our RAFT engine on a GPU: pairs/s beside torchvision, drift of each precision, and the floor.

    python -m benchmarks.flow_gpu [--models raft_small raft_large] [--batch 256] [--runs 5]
    python -m benchmarks.flow_gpu --arithmetic          # operations and bytes per pair; needs no GPU

In turn, on the same pairs of 128 px crops in 12 updates: torchvision one pair at a time and batched in
float32, our engine in each precision and launch mode, and our engine as the flow stage calls it, with
copies and storage. Drift is the mean end-point error in px against torchvision's float32. The floor is
the shortest time of a pair at the rates measured in the same run: the larger of its operations over the
rate of an 8192^3 matrix product and its bytes over the rate of a large copy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.clips import face_clips
from benchmarks.flow import FILES, SIZE, UPDATES, network_for, torchvision_pairs
from deiii.pipeline.flow.raft import network as raft
from deiii.pipeline.flow.raft.engine import DTYPES, RaftBatches
from deiii.pipeline.flow.raft.network import RaftEngine

LAUNCHES = ("eager", "compile")


def pair_work(model: str) -> dict[str, float]:
    """Return operations (2 a multiply-add) and values of one pair in a long clip, as computed on a GPU.

    The values are those that are read and written: input and output of every convolution and product once,
    and no weights, because a batch shares them. Element-wise operations in between are assumed to be fused.
    """
    pays = raft.winograd_pays
    raft.winograd_pays = lambda device, dtype: False
    try:
        engine = RaftEngine(raft.MODELS[model](weights=None).eval(), UPDATES)
    finally:
        raft.winograd_pays = pays
    values = 0

    def count(_, inputs, output) -> None:
        nonlocal values
        values += sum(x.numel() for x in inputs if torch.is_tensor(x)) + output.numel()

    for part in (engine.features, engine.context, engine.update, engine.mask):
        for module in part.modules() if part is not None else ():
            if hasattr(module, "weight") and not list(module.children()):
                module.register_forward_hook(count)
    images = torch.zeros(1, 3, SIZE, SIZE)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        features = engine.features(images)  # of one frame; the other is known from the pair before
        engine._pairs(images, features, features)
    points = (SIZE // 8) ** 2
    window = engine.levels * (2 * engine.radius + 1) ** 2
    values += points * points * 4 + UPDATES * points * 2 * window  # correlations; lookup and first product
    return {"gflop": counter.get_total_flops() / 1e9, "mvalues": values / 1e6}


def seconds_of(function: Callable[[], object], runs: int) -> float:
    """Return the median time of a call in s, including the work on the GPU."""
    function()
    times = []
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def device_rates() -> dict[str, float]:
    """Return the rates of this GPU: operations/s of matrix products by type, bytes/s of a copy."""
    rates = {}
    for name, dtype in DTYPES.items():
        a, b = (torch.randn(8192, 8192, device="cuda").to(dtype) for _ in range(2))
        rates[name] = 2 * 8192**3 / seconds_of(lambda a=a, b=b: a @ b, 10)
    x = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    return rates | {"bytes": 2 * x.numel() / seconds_of(lambda: y.copy_(x), 10)}


def measure(model: str, frames: torch.Tensor, runs: int, rates: dict[str, float]) -> dict:
    """Return all measurements of one model."""
    pairs, network = len(frames) - 1, network_for(model).cuda()
    there = frames.cuda()
    torch.backends.cudnn.allow_tf32 = False  # float32 in full, for the reference
    reference = torchvision_pairs(network, there, UPDATES, pairs).permute(0, 2, 3, 1)
    few = there[:9]
    result: dict = {
        "pairs": pairs,
        "torchvision_pairwise": 8 / seconds_of(lambda: torchvision_pairs(network, few, UPDATES, 1), runs),
        "torchvision_batched": pairs
        / seconds_of(lambda: torchvision_pairs(network, there, UPDATES, pairs), runs),
    }
    work = pair_work(model)
    for precision, dtype in DTYPES.items():
        size = torch.finfo(dtype).bits // 8
        floor = max(work["gflop"] * 1e9 / rates[precision], work["mvalues"] * 1e6 * size / rates["bytes"])
        for launch in LAUNCHES:
            engine = RaftEngine(network, UPDATES, "cuda", dtype, launch)
            flow = engine.flow(there)
            rate = pairs / seconds_of(lambda engine=engine: engine.flow(there), runs)
            drift = (flow - reference).norm(dim=-1)
            result[f"{precision}_{launch}"] = {
                "pairs_per_s": round(rate, 1),
                "ratio_batched": round(rate / result["torchvision_batched"], 2),
                "drift_mean_px": float(f"{drift.mean():.2g}"),
                "drift_max_px": float(f"{drift.max():.2g}"),
                "floor_us_a_pair": round(1e6 * floor, 2),
                "times_the_floor": round(1 / rate / floor, 2),
            }
            print(model, precision, launch, result[f"{precision}_{launch}"], flush=True)
            engine.forget()
    batches = RaftBatches(RaftEngine(network, UPDATES, "cuda", torch.float16, "compile"), "int8", pairs)
    host, first = frames.numpy(), np.arange(pairs)

    def stage() -> None:
        waiting = batches.submit(host, first, False)
        for _ in range(7):
            following = batches.submit(host, first, False)
            waiting()
            waiting = following
        waiting()

    result["stage_float16_compile"] = round(8 * pairs / seconds_of(stage, runs), 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--batch", type=int, default=256, help="pairs per batch")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--arithmetic", action="store_true", help="only count operations and bytes")
    options = parser.parse_args()
    if options.arithmetic:
        for model in options.models:
            work = pair_work(model)
            print(f"{model}: {work['gflop']:.2f} GFLOP and {work['mvalues']:.1f} million values per pair")
        return
    if not torch.cuda.is_available():
        sys.exit(
            "This benchmark needs a CUDA GPU, and PyTorch finds none here. `make bench-flow` measures CPUs."
        )
    _, clips = face_clips(SIZE, 2)
    crops = np.concatenate(clips)
    frames = torch.from_numpy(np.resize(crops, (options.batch + 1, *crops.shape[1:])))
    rates = device_rates()
    result = {"bench": "flow_gpu", "device": torch.cuda.get_device_name(), "updates": UPDATES}
    result["measured_roof"] = {n: float(f"{r:.4g}") for n, r in rates.items()}
    for model in options.models:
        result[model.removeprefix("raft_")] = measure(model, frames, options.runs, rates)
    result["versions"] = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
