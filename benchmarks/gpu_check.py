"""Measure everything that needs a real GPU, in less than nine minutes: `make gpu-check`.

    python -m benchmarks.gpu_check --out FOLDER [--seconds 520] [--only flow train]

Each part (`benchmarks.gpu_parts`) is a process with a limit of its own: one that hangs, ends early or lacks a
package costs that part alone. After every part the dated file is written anew, so that it holds what was
measured when time runs out, and the goals (`benchmarks.gpu_parts.goals`) beside the figures. Real weights and
faces come from DEIII_TEST_DATA. Without it, random weights and drawn pictures of the same shapes are used,
and no drift is given.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu_parts.common import FOUND, HERE, WORK
from benchmarks.gpu_parts.goals import goal_lines

# Seconds at most, by part. The most useful parts come first, because the time may not be enough for all.
PARTS = {
    "machine": 15, "kernels": 30, "flow": 110, "stage": 110, "train": 120,
    "preprocess": 70, "tests": 60, "profile": 20, "ranks": 15, "compile": 60,
}  # fmt: skip
LEAST = 10  # s; a part is not started with less
BAR = re.compile(r"^\s*$|.*it/s\]|.*%\|")  # empty lines and progress bars


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=HERE / "benchmarks/results")
    parser.add_argument("--seconds", type=float, default=520)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--small", action="store_true", help="a tenth of the work, to try the script itself")
    parser.add_argument("--limits", type=float, default=1, help="multiplies the parts' limits")
    options = parser.parse_args()
    if options.small:
        os.environ["DEIII_GPU_SMALL"] = "1"
    began, lines, found = time.monotonic(), [], {}
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"gpu_check-{datetime.date.today()}.txt"
    for name in options.only:
        start = time.monotonic()
        limit = min(options.limits * PARTS[name], options.seconds - (start - began))
        status, text = run(name, limit) if limit >= LEAST else ("no time left", "")
        took = round(time.monotonic() - start, 1)
        rows = [json.loads(t.removeprefix(FOUND)) for t in text.splitlines() if t.startswith(FOUND)]
        found[name] = {"status": status, "seconds": took, "found": rows}
        kept = [t for t in text.splitlines() if not BAR.match(t)]
        lines += [f"== {name}: {status}, {took} s", *kept[-80:], ""]
        result = json.dumps({"bench": "gpu_check", "parts": found})
        goals = ["== goals", *goal_lines(found), ""]
        file.write_text("\n".join([*lines, *goals, f"RESULT {result}", ""]), encoding="utf-8")
        print(f"{name:11s} {status:14s} {took:6.1f} s", flush=True)
    print("\n".join(goal_lines(found)))
    whole = sum(part["status"] == "ok" for part in found.values())
    print(f"{file}: {whole} of {len(found)} parts whole")


def run(name: str, limit: float) -> tuple[str, str]:
    """Run a part in a process group of its own; returns its status and what it printed by its limit."""
    log = WORK / f"{name}.log"
    WORK.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as out:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "benchmarks.gpu_parts", name], cwd=HERE, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(limit)
            status = "ok" if code == 0 else f"exit {code}"
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            child.wait()
            status = f"cut at {limit:.0f} s"
    return status, log.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    main()
