"""Count the launches of training steps and flow on the fake GPU of ``tests/gpu``, without a GPU.

    python -m benchmarks.gpu_launches [--runs 3] [--short]

The fake GPU runs PyTorch's real host code and computes nothing (tests/gpu/README.md): launches, waits for the
device, reserved memory and the host's time to start a step are real, kernel times do not exist. Loading and
augmentation are counted with the training steps. ``host_ms`` is the median over the runs; other programs on
the machine make it larger. Needs g++ and PyTorch's CUDA build.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import describe
from tests.gpu.build import FakeGpu, build, missing

GROWTH = ["epochs", "tiny", "train.epochs=20", "loader.batch=16", "loader.residency=stream"]
STEPS = {  # name in the result: preset and settings
    "train_base": ("base", "train.launch=graph"),
    "train_base_eager": ("base", "train.launch=eager"),
    "train_large": ("large", "train.launch=graph"),
    "train_large_eager": ("large", "train.launch=eager"),
}


def step(gpu: FakeGpu, words: tuple[str, ...], runs: int) -> dict[str, Any]:
    """Return launches, waits, graph nodes and host time of a training step, and launches of scoring."""
    found = [gpu.run("training", *words) for _ in range(runs)]
    host = statistics.median(one["host_ms"] for one in found)
    last = found[-1]
    return {
        "launches": last["launches"], "host_ms": round(host, 3), "nodes": sum(last["nodes"]),
        "syncs": len(last["syncs"]), "evaluation": last["evaluation"],
    }  # fmt: skip


def flow_launches(gpu: FakeGpu) -> dict[str, Any]:
    """Return launches and waits of a batch of 512 pairs of raft_large, compiled and eager."""
    found = {}
    for name, launch in (("flow_large_512", "compile"), ("flow_large_512_eager", "eager")):
        seen = gpu.run("flow", "raft_large", "--launch", launch, "--pairs", "512")["128x512"]
        found[name] = seen["launches"]
        found["flow_syncs"] = found.get("flow_syncs", 0) + len(seen["syncs"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one run of base alone, no epochs, no flow")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        sys.exit(f"the fake GPU {reason}")
    runs = 1 if options.short else options.runs
    names = ["train_base", "train_base_eager"] if options.short else list(STEPS)
    with TemporaryDirectory() as folder:
        gpu = FakeGpu(build(Path(folder)))
        result: dict[str, Any] = {"bench": "gpu_launches"}
        for name in names:
            result[name] = step(gpu, STEPS[name], runs)
            print(name, result[name], flush=True)
        result |= {} if options.short else flow_launches(gpu)
        result["syncs"] = sum(result[name]["syncs"] for name in names) + result.pop("flow_syncs", 0)
        if not options.short:
            result["reserved_growth_mb"] = gpu.run(*GROWTH)["growth_mb"]
    print("RESULT " + json.dumps({**result, "runs": runs, **describe("torch")}))


if __name__ == "__main__":
    main()
