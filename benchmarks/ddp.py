"""Compare training in one process and in two on the CPU: speed, and equality of the losses.

    python -m benchmarks.ddp

Runs `deiii train` on a synthetic corpus: one process of one thread, one of two threads, two processes of
one thread each (Gloo). Seconds are the trainer's own, the median over epochs after the first. Losses are
compared for several learning rates; the effect of another order of sums in one process is the reference.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.machine import describe

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WAYS = {"one": ([], 1), "threads": ([], 2), "two": (TWO, 1)}  # words before -m deiii, threads
LOSSES = ("train_loss", "val_loss")


def settings(folder: Path) -> list[str]:
    """Return the settings of a synthetic corpus of 96 short clips with the tiny preset."""
    sizes = ["speakers=12", "clips_per_class=1", "seconds=0.8", "size=96"]
    return ["configs/synthetic.yaml", "configs/tiny.yaml", *(f"corpus.synthetic.{word}" for word in sizes),
            f"corpus.root={folder / 'raw'}", f"cache={folder / 'cache'}"]  # fmt: skip


def train(
    folder: Path, way: str, *more: str, variables: dict[str, str] | None = None
) -> list[dict[str, float]]:
    """Train in one of the ways, with environment variables; returns the rows of ``metrics.csv``."""
    before, threads = WAYS[way]
    run = tempfile.mkdtemp(prefix=f"{way}-", dir=folder)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **(variables or {})}
    words = [*settings(folder), "train.device=cpu", "train.patience=99", f"train.run={run}/run", *more]
    subprocess.run(
        [sys.executable, *before, "-m", "deiii", "train", *words, "--quiet"],
        check=True, capture_output=True, env=environment,
    )  # fmt: skip
    with open(Path(run) / "run/metrics.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def difference(rows: list[dict[str, float]], others: list[dict[str, float]]) -> dict[str, float]:
    """Return the largest difference of each loss over the epochs."""
    pairs = list(zip(rows, others, strict=True))
    return {k: float(f"{max(abs(a[k] - b[k]) for a, b in pairs):.1e}") for k in LOSSES}


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m benchmarks.ddp", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--epochs", type=int, default=6, help="of a timed run (default: %(default)s)")
    args = parser.parse_args()
    found: dict[str, dict] = {"seconds": {}, "speedup": {}, "loss_difference": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare = [sys.executable, "-m", "deiii", "preprocess", *settings(folder)]
        subprocess.run(prepare, check=True, capture_output=True)
        for batch in (16, 32):
            more = (f"train.epochs={args.epochs}", "train.lr=1e-5", f"loader.batch={batch}")
            times = {way: median(r["train_seconds"] for r in train(folder, way, *more)[1:]) for way in WAYS}
            found["seconds"][batch] = {way: round(s, 3) for way, s in times.items()}
            found["speedup"][batch] = round(times["one"] / times["two"], 2)
            print(f"batch {batch}: {found['seconds'][batch]} s per epoch, {found['speedup'][batch]} times")
        for rate in ("1e-5", "1e-4", "1e-3"):
            rows = {way: train(folder, way, "train.epochs=2", f"train.lr={rate}") for way in WAYS}
            off = {way: difference(rows["one"], rows[way]) for way in ("threads", "two")}
            found["loss_difference"][rate] = off
            print(f"lr {rate}: {found['loss_difference'][rate]}")
    print(
        "RESULT " + json.dumps({"bench": "ddp", "preset": "tiny", "clips": 96, **found, **describe("torch")})
    )


if __name__ == "__main__":
    main()
