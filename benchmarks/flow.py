"""RAFT for clips against torchvision's RAFT, pair by pair and batched: speed and difference.

    python -m benchmarks.flow [--runs 3] [--threads 2] [--frames 33] [--models raft_small raft_large]

All three use the same weights and compute the same pairs of one clip of 128 px crops in 12 updates,
float32 on the CPU. Repeats are interleaved; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch
import torchvision
from torchvision.models.optical_flow import RAFT

from benchmarks.clips import face_clips
from data.recipes import RAFT_WEIGHTS
from data.weights import resolve
from pipeline.raft import CPU_PAIRS as CPU_BATCH
from pipeline.raft import RaftEngine, load_network, prepare

UPDATES = 12
FILES = {"raft_small": "raft_small_princeton.pth", "raft_large": "raft_large_princeton_sintel.pth"}


def pairwise(network: RAFT, frames: torch.Tensor) -> torch.Tensor:
    """torchvision as its documentation shows it, one pair after the other."""
    images = prepare(frames)
    pairs = zip(images[:-1], images[1:], strict=True)
    return torch.cat([network(a[None], b[None], num_flow_updates=UPDATES)[-1] for a, b in pairs])


def batched(network: RAFT, frames: torch.Tensor) -> torch.Tensor:
    """torchvision on batches of as many pairs as ours."""
    images = prepare(frames)
    pairs = zip(images[:-1].split(CPU_BATCH), images[1:].split(CPU_BATCH), strict=True)
    return torch.cat([network(a, b, num_flow_updates=UPDATES)[-1] for a, b in pairs])


def ours(engine: RaftEngine, frames: torch.Tensor) -> torch.Tensor:
    """The engine on batches as the flow stage makes them."""
    starts = range(0, len(frames) - 1, CPU_BATCH)
    return torch.cat([engine.flow(frames[i : i + CPU_BATCH + 1], continues=i > 0) for i in starts])


def measure(model: str, frames: torch.Tensor, runs: int) -> dict[str, float]:
    """Medians of one model."""
    shared = os.environ.get("DEIII_TEST_DATA")
    own = str(Path(shared) / "weights" / FILES[model]) if shared else None
    network = load_network(model, resolve(own, RAFT_WEIGHTS[model])[0])
    engine = RaftEngine(network, UPDATES)
    ways = {
        "pairwise": lambda: pairwise(network, frames),
        "batched": lambda: batched(network, frames),
        "ours": lambda: ours(engine, frames).permute(0, 3, 1, 2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    flows = {}
    with torch.inference_mode():
        for name in ways:  # warm-up
            network(*prepare(frames[:2]).split(1), num_flow_updates=1) if name != "ours" else engine.flow(
                frames[:2]
            )
        for _ in range(runs):
            for name, way in ways.items():
                start = time.perf_counter()
                flows[name] = way()
                seconds[name].append(time.perf_counter() - start)
    ratio = lambda name: statistics.median(a / b for a, b in zip(seconds[name], seconds["ours"], strict=True))
    return {
        "ratio_pairwise": round(ratio("pairwise"), 2),
        "ratio_batched": round(ratio("batched"), 2),
        "max_abs_px": float(f"{(flows['ours'] - flows['pairwise']).abs().max():.2g}"),
        "pairs_per_s": round((len(frames) - 1) / statistics.median(seconds["ours"]), 2),
        "pairs_per_s_pairwise": round((len(frames) - 1) / statistics.median(seconds["pairwise"]), 2),
        "largest_flow_px": round(float(flows["pairwise"].abs().max()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--models", nargs="+", default=list(FILES), choices=list(FILES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source, clips = face_clips(128, options.frames)
    if not clips:
        parser.error(f"no clip has {options.frames} frames; ask for fewer with --frames")
    frames = torch.from_numpy(clips[0][: options.frames].copy())
    result = {
        "bench": "flow",
        "clip": source,
        "frames": options.frames,
        "updates": UPDATES,
        "runs": options.runs,
    }
    for model in options.models:
        result[model.removeprefix("raft_")] = measure(model, frames, options.runs)
        print(model, result[model.removeprefix("raft_")], flush=True)
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads"
    result["versions"] = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
