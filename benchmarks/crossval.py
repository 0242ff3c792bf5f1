"""Measure how long a cross-validation takes whose features are cached.

    python -m benchmarks.crossval configs/ravdess_speech.yaml corpus.root=/clips [--seeds 0,1,2] [--runs 1]

First `deiii preprocess` computes the features that are missing; this time is not a part of the result. Then
`deiii crossval` trains every fold with every seed, scores each network on its test speakers and writes the
report, in a new folder for each run. The time is that of the whole command. The bound that the project states
is 30 minutes for six folds and five seeds on two cores; no other program is the alternative.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import describe
from deiii.data.config.load import result_settings
from deiii.data.config.words import read_settings


def deiii(*words: str) -> None:
    """Run a command of deiii; ends this program with its status if it fails."""
    if status := subprocess.run([sys.executable, "-m", "deiii", *words], check=False).returncode:
        sys.exit(status)  # the command has printed the reason


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="CONFIG or KEY=VALUE")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument(
        "--jobs", default="0", help="trainings at a time; 0: one on a CPU, as many as fit on GPUs"
    )
    parser.add_argument("--runs", type=int, default=1)
    args = parser.parse_args()
    deiii("preprocess", *args.settings)
    seconds = []
    for _ in range(args.runs):
        with TemporaryDirectory() as folder:
            run = Path(folder) / "crossval"
            words = [*args.settings, f"train.run={run}"]
            started = time.perf_counter()
            deiii("crossval", *words, "--seeds", args.seeds, "--jobs", args.jobs)
            seconds.append(round(time.perf_counter() - started, 1))
            found = json.loads((run / "crossval.json").read_text(encoding="utf-8"))
    config = read_settings(args.settings)
    result = {
        "bench": "crossval", **describe("torch"), "settings": result_settings(config),
        "folds": found["folds"], "seeds": found["seeds"], "jobs": args.jobs,
        "uar": round(found["figures"]["uar"]["mean"], 4), "crossval_s": statistics.median(seconds),
        "crossval_s_runs": seconds,
    }  # fmt: skip
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
