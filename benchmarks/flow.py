"""Compare our RAFT engine with torchvision's RAFT, one pair at a time and batched: speed, difference.

    python -m benchmarks.flow [--runs 3] [--threads 2] [--frames 33] [--models raft_small raft_large]

All three use the same weights and compute the same pairs of one clip of 128 px crops in 12 updates,
float32 on the CPU. The ways run in turn; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch
import torchvision
from torchvision.models.optical_flow import RAFT

from benchmarks.clips import face_clips
from deiii.data.cache.stages import RAFT_WEIGHTS
from deiii.data.tools.machine import machine
from deiii.data.tools.weights import resolve
from deiii.pipeline.flow.raft.network import RaftEngine, cpu_pairs, load_network, prepare

UPDATES, SIZE = 12, 128
FILES = {"raft_small": "raft_small_princeton.pth", "raft_large": "raft_large_princeton_sintel.pth"}


def network_for(model: str) -> RAFT:
    """Return torchvision's RAFT with the weights of DEIII_TEST_DATA, else torchvision's own."""
    shared = os.environ.get("DEIII_TEST_DATA")
    own = str(Path(shared) / "weights" / FILES[model]) if shared else None
    return load_network(model, resolve(own, RAFT_WEIGHTS[model])[0])


@torch.inference_mode()
def torchvision_pairs(network: RAFT, frames: torch.Tensor, updates: int, batch: int) -> torch.Tensor:
    """Return the flow of torchvision, used as documented, ``batch`` pairs at a time: float32 [m-1,2,H,W]."""
    images = prepare(frames).contiguous()
    pairs = zip(images[:-1].split(batch), images[1:].split(batch), strict=True)
    return torch.cat([network(a, b, num_flow_updates=updates)[-1] for a, b in pairs])


def ours(engine: RaftEngine, frames: torch.Tensor) -> torch.Tensor:
    """Return the flow of our engine, in the batches of the flow stage."""
    batch = cpu_pairs(SIZE, SIZE) * torch.get_num_threads()
    starts = range(0, len(frames) - 1, batch)
    return torch.cat([engine.flow(frames[i : i + batch + 1], continues=i > 0) for i in starts])


def measure(model: str, frames: torch.Tensor, runs: int) -> dict[str, float]:
    """Return the medians of the three ways for one model."""
    network = network_for(model)
    engine = RaftEngine(network, UPDATES)
    ways = {
        "pairwise": lambda: torchvision_pairs(network, frames, UPDATES, 1),
        "batched": lambda: torchvision_pairs(network, frames, UPDATES, cpu_pairs(SIZE, SIZE)),
        "ours": lambda: ours(engine, frames).permute(0, 3, 1, 2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    flows = {}
    torchvision_pairs(network, frames[:3], 1, 2)  # warm-up
    ours(engine, frames)
    for _ in range(runs):
        for name, way in ways.items():
            start = time.perf_counter()
            flows[name] = way()
            seconds[name].append(time.perf_counter() - start)

    def ratio(name):
        return statistics.median(a / b for a, b in zip(seconds[name], seconds["ours"], strict=True))

    pairs = len(frames) - 1
    return {
        "ratio_pairwise": round(ratio("pairwise"), 2),
        "ratio_batched": round(ratio("batched"), 2),
        "max_abs_px": float(f"{(flows['ours'] - flows['pairwise']).abs().max():.2g}"),
        **{
            f"pairs_per_s{end}": round(pairs / statistics.median(seconds[name]), 2)
            for name, end in (("ours", ""), ("pairwise", "_pairwise"), ("batched", "_batched"))
        },
        "largest_flow_px": round(float(flows["pairwise"].abs().max()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--models", nargs="+", default=list(FILES), choices=list(FILES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source, clips = face_clips(SIZE, options.frames)
    if not clips:
        parser.error(f"no clip has {options.frames} frames; ask for fewer with --frames")
    frames = torch.from_numpy(clips[0][: options.frames].copy())
    result: dict = {"bench": "flow"}
    for model in options.models:
        result[model.removeprefix("raft_")] = measure(model, frames, options.runs)
        print(model, result[model.removeprefix("raft_")], flush=True)
    result |= {"clip": source, "frames": options.frames, "updates": UPDATES, "runs": options.runs}
    result["machine"] = f"{machine()}, {torch.backends.cpu.get_cpu_capability()}, {options.threads} threads"
    result["versions"] = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
