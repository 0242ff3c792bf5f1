"""Measure memory and time of one training step whose batch is computed in parts (``train.accumulate``).

    python -m benchmarks.accumulate [--presets base large] [--clips 16] [--parts 1 4 16] [--rounds 3]
                                    [--runs 3]

Each number of parts is measured in a process of its own, on the CPU in float32 with random input of the
preset's size: the losses of the batch, their gradient, and no optimiser. Memory is the largest resident
memory of the process (VmHWM) during the steps, minus its resident memory before the first one, with the
network and the batch in memory. Time is the median of the runs after a first step. Both are medians over the
rounds. Processes of one preset run in turn, with one thread; the alternative is the batch as a whole (one
part).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe
from benchmarks.presets import blank_batch, network_of
from deiii.data.config.load import load_config
from deiii.model.training.losses import total_loss
from deiii.model.training.step.accumulate import DividedBatch


def resident(name: str) -> float:
    """Return a value of /proc/self/status in MiB: ``VmHWM``, the largest, or ``VmRSS``, the present one."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return float(text.split(f"{name}:")[1].split()[0]) / 1024


def measure(preset: str, clips: int, parts: int, runs: int) -> dict[str, float]:
    """Return MiB and seconds of a step of one preset, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = load_config(f"configs/{preset}.yaml")
    network = network_of(config).train()
    batch = blank_batch(config, clips, torch.device("cpu"))
    before = resident("VmRSS")
    seconds = []
    for _ in range(runs + 1):
        network.zero_grad(set_to_none=True)
        started = time.perf_counter()
        if parts == 1:
            total_loss(network(batch), batch)[0].backward()
        else:
            divided = DividedBatch(network, batch, parts, network, network)
            total_loss(divided.outputs(), batch)[0].backward()
            divided.backward()
        seconds.append(time.perf_counter() - started)
    return {"peak_mib": round(resident("VmHWM") - before), "seconds": statistics.median(seconds[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["base", "large"])
    parser.add_argument("--clips", type=int, default=16, help="clips in the batch")
    parser.add_argument("--parts", nargs="+", type=int, default=[1, 4, 16], help="the first is compared with")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each number of parts")
    parser.add_argument("--runs", type=int, default=3, help="steps of each process after the first one")
    parser.add_argument("--one", nargs=2, metavar=("PRESET", "PARTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], args.clips, int(args.one[1]), args.runs)))
        return
    rows: list[dict[str, Any]] = []
    for preset in args.presets:
        found: dict[int, list[dict[str, float]]] = {parts: [] for parts in args.parts}
        for _ in range(args.rounds):
            for parts in args.parts:
                command = [sys.executable, "-m", "benchmarks.accumulate", "--one", preset, str(parts)]
                command += ["--clips", str(args.clips), "--runs", str(args.runs)]
                answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[parts].append(json.loads(answer))
        first = found[args.parts[0]]
        for parts, own in found.items():
            row = {"preset": preset, "parts": parts}
            row |= {"peak_mib": statistics.median(x["peak_mib"] for x in own)}
            row |= {"peak_mib_runs": [x["peak_mib"] for x in own]}
            row |= {"seconds": round(statistics.median(x["seconds"] for x in own), 2)}
            ratios = [x["peak_mib"] / y["peak_mib"] for x, y in zip(own, first, strict=True)]
            row |= {"memory_ratio": round(statistics.median(ratios), 3)}
            ratios = [x["seconds"] / y["seconds"] for x, y in zip(own, first, strict=True)]
            row |= {"time_ratio": round(statistics.median(ratios), 3)}
            rows.append(row)
            print(
                f"{preset}, {parts} parts: {row['peak_mib']:.0f} MiB ({row['memory_ratio']:.2f}), "
                f"{row['seconds']:.2f} s ({row['time_ratio']:.2f})",
                flush=True,
            )
    settings = {"clips": args.clips, "rounds": args.rounds, "runs": args.runs, "threads": 1}
    print("RESULT " + json.dumps({"bench": "accumulate", **describe("torch"), **settings, "rows": rows}))


if __name__ == "__main__":
    main()
