"""Measure what changes of the crops cost the loader, augmentation on the CPU included.

    python -m benchmarks.loader_changes [--rounds 7] [--clips 320] [--cache bench-cache/loader]

Uses the cache of `benchmarks.loader`, and makes it if it is missing. Each variant delivers whole epochs of
training batches (8 frames and their flow, crops of 64 px, batches of 16, one loader thread and one PyTorch
thread). The variants run in turn; the ratio is the median over rounds of the variant's speed divided by
that of the settings without changes in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from benchmarks.feature_cache import open_cache
from benchmarks.machine import describe
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.loader import Loader

VARIANTS: dict[str, dict[str, float]] = {
    "none": {},
    "zoom 0.15": {"zoom": 0.15},
    "rotation 10 degrees": {"rotate": 10.0},
    "zoom and rotation": {"zoom": 0.15, "rotate": 10.0},
    "erasing 0.3": {"erase": 0.3},
    "grey 0.2": {"grey": 0.2},
    "all": {"zoom": 0.15, "rotate": 10.0, "erase": 0.3, "grey": 0.2},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--cache", type=Path, default=Path("bench-cache/loader"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    features = open_cache(args.cache, args.clips, 50, 112)
    hops = int(features.streams["logmel"].length.max())
    loaders = {
        name: Loader(
            features,
            range(len(features)),
            LoaderConfig(
                steps=8, stride=2, audio_steps=hops, crop=64, batch=16, residency="ram", threads=1, **change
            ),
            training=True,
        )
        for name, change in VARIANTS.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(args.rounds + 1):
        for name, loader in loaders.items():
            started = time.perf_counter()
            clips = sum(int(batch.real.sum()) for batch in loader.epoch(number))
            if number:  # the first epoch fills the buffers
                rates[name].append(clips / (time.perf_counter() - started))
    rows = []
    for name, own in rates.items():
        ratio = statistics.median(x / y for x, y in zip(own, rates["none"], strict=True))
        rows.append({"change": name, "clips_per_s": round(statistics.median(own)), "ratio": round(ratio, 3)})
        print(f"{name}: {rows[-1]['clips_per_s']} clips/s, {ratio:.2f} of the speed without changes")
    settings = {"rounds": args.rounds, "clips": args.clips}
    result = {"bench": "loader_changes", **describe("torch", "numpy", "numba"), **settings, "rows": rows}
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
