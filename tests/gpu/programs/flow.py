"""Batches of the flow engine on the fake GPU: launches, waits and memory, at several sizes of crops."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from deiii.pipeline.flow.raft.engine import DTYPES, RaftBatches
from deiii.pipeline.flow.raft.network import MODELS, RaftEngine
from tests.gpu.fake_gpu import recorded

WARM_UP = 3  # batches before the one that is counted: blocks of memory, lazy loading, compilation


def batch(batches: RaftBatches, pairs: int, size: int, most: bool) -> dict[str, Any]:
    """What the host did for one batch that continues the one before."""
    frames = np.zeros((pairs + 1, size, size, 3), np.uint8)
    first = np.arange(pairs)
    for number in range(WARM_UP):
        batches.submit(frames, first, number > 0)()
    with recorded() as log:
        began = time.perf_counter()
        collect = batches.submit(frames, first, True)
        host = time.perf_counter() - began
    collect()
    if most:
        for line in log.most(60):
            print(*line)
    return {
        "launches": log.launches,
        "syncs": log.syncs,
        "allocations": [call.name for call in log.of("malloc", "hostalloc", "free")],
        "refused": [call.name for call in log.of("BAD-LAUNCH", "OOM")],
        "samplers": [call.name for call in log.of("lib") if "SpatialTf" in call.name],
        "unfolds": sum("im2col" in call.name for call in log.of("kernel")),
        "host_ms": round(1e3 * host, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--precision", default="float16")
    parser.add_argument("--launch", default="eager")
    parser.add_argument("--no-triton", action="store_true")
    parser.add_argument("--pairs", type=int, nargs="+", default=[512])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--storage", default="int8")
    parser.add_argument("--most", action="store_true", help="print the most frequent launches")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = MODELS[options.model](weights=None).eval()
    found: dict[str, Any] = {}
    for size in options.sizes:
        for pairs in options.pairs:
            engine = RaftEngine(
                network, 12, "cuda", DTYPES[options.precision], options.launch,
                fused=False if options.no_triton else None,
            )  # fmt: skip
            found["triton"] = engine.kernels is not None
            batches = RaftBatches(engine, options.storage, pairs)
            found[f"{size}x{pairs}"] = batch(batches, pairs, size, options.most)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
