"""Time training beside other programs, with threads of OpenMP that wait by spinning or by sleeping.

    python -m benchmarks.busy_train [--runs 3] [--epochs 4]

Runs `deiii train` on a synthetic corpus with four environments: ``spin`` is the default of GNU's OpenMP
(``GOMP_SPINCOUNT=300000``), ``middle`` spins a tenth of that, ``short`` a hundredth, which the command sets
where the user set nothing, and ``sleep`` does not spin (``OMP_WAIT_POLICY=passive``). Each runs on an idle
machine (``idle``) and beside one program for each core that computes without end (``busy``). The ways run in
turn. Seconds are the trainer's own, the median over the epochs after the first and over the runs.
``ratio_busy`` and ``ratio_idle`` are the time with ``spin`` over the time with ``short``. ``losses_equal``
is true if the losses of all runs are equal to the last bit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.ddp import LOSSES, settings, train
from benchmarks.machine import describe
from deiii.data.tools.machine import usable_cores

WAYS = {
    "spin": {"GOMP_SPINCOUNT": "300000"},
    "middle": {"GOMP_SPINCOUNT": "30000"},
    "short": {"GOMP_SPINCOUNT": "3000"},
    "sleep": {"OMP_WAIT_POLICY": "passive"},
}
LOADS = ("idle", "busy")
COMPUTES = "while True: pass"


@contextmanager
def other_programs(load: str) -> Iterator[None]:
    """With the load ``busy``, run one program that computes for each core that may be used."""
    with ExitStack() as stack:
        for _ in range(usable_cores() if load == "busy" else 0):
            program = stack.enter_context(subprocess.Popen([sys.executable, "-c", COMPUTES]))
            stack.callback(program.kill)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m benchmarks.busy_train", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=3, help="of each way and load (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of a run (default: %(default)s)")
    args = parser.parse_args()
    times: dict[str, list[float]] = {}
    losses = set()
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare = [sys.executable, "-m", "deiii", "preprocess", *settings(folder)]
        subprocess.run(prepare, check=True, capture_output=True)
        for _ in range(args.runs):
            for load in LOADS:
                for way, variables in WAYS.items():
                    with other_programs(load):
                        rows = train(folder, "threads", f"train.epochs={args.epochs}", variables=variables)
                    seconds = median(row["train_seconds"] for row in rows[1:])
                    times.setdefault(f"{load}_{way}", []).append(seconds)
                    losses.add(tuple(row[loss] for row in rows for loss in LOSSES))
                    print(f"{load}, {way}: {seconds:.2f} s per epoch", flush=True)
    found = {name: round(median(seconds), 3) for name, seconds in times.items()}
    ratios = {f"ratio_{load}": round(found[f"{load}_spin"] / found[f"{load}_short"], 2) for load in LOADS}
    words = {"bench": "busy_train", "preset": "tiny", "clips": 96, "seconds_per_epoch": found, **ratios,
             "runs": args.runs, "losses_equal": len(losses) == 1, **describe("torch")}  # fmt: skip
    print("RESULT " + json.dumps(words))


if __name__ == "__main__":
    main()
