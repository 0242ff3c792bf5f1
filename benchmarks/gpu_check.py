"""Measure everything that needs a real GPU, in less than nine minutes: `make gpu-check`.

    python -m benchmarks.gpu_check --out FOLDER [--seconds 520] [--only flow train]

Each part (`benchmarks.gpu_parts`) is a process with a limit of its own: one that hangs, ends early or lacks a
package costs that part alone. After every part the dated file is written anew, so that it holds what was
measured when time runs out, and the targets (`benchmarks.gpu_parts.targets`) beside the figures. A second run
of one day writes a file with a number after the date; no file of an earlier run is changed. Real weights and
faces come from DEIII_TEST_DATA. Without it, random weights and drawn pictures of the same shapes are used,
and no drift is given. Ctrl-C ends the part that runs and keeps the file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.common import FOUND, HERE, WORK, is_fake
from benchmarks.gpu_parts.targets import target_lines
from deiii.data.tools.atomic_files import writable_folder, write_text

# Seconds at most, by part. The most useful parts come first, because the time may not be enough for all.
PARTS = {
    "machine": 20, "train": 150, "steps": 60, "tests": 120, "preprocess": 100, "flow": 110, "kernels": 30,
    "decode": 25, "ranks": 20, "stage": 110, "profile": 20, "compile": 60,
}  # fmt: skip
LEAST = 10  # s; a part is not started with less
BAR = re.compile(r"^\s*$|.*it/s\]|.*%\|")  # empty lines and progress bars
LAST = 170  # lines of a part that are kept, beside its results
FAKE = "the fake GPU of tests/gpu: kernels compute nothing, so no figure and no target below means anything"


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
    require_gpu()
    file = new_file(writable_folder(options.out))
    began = time.monotonic()
    head = [FAKE, ""] if is_fake() else []
    lines: list[str] = []
    found: dict[str, Any] = {}
    for name in options.only:
        start = time.monotonic()
        limit = min(options.limits * PARTS[name], options.seconds - (start - began))
        status, text = run(name, limit) if limit >= LEAST else ("no time left", "")
        took = round(time.monotonic() - start, 1)
        found[name] = {"status": status, "seconds": took, "found": results(text)}
        lines += [f"== {name}: {status}, {took} s", *kept_lines(text), ""]
        result = json.dumps({"bench": "gpu_check", "fake": is_fake(), "parts": found})
        targets = ["== targets", *target_lines(found), ""]
        write_text(file, "\n".join([*head, *lines, *targets, f"RESULT {result}", ""]))
        print(f"{name:11s} {status:14s} {took:6.1f} s", flush=True)
    print("\n".join([*head[:1], *target_lines(found)]))
    whole = sum(part["status"] == "ok" for part in found.values())
    print(f"{file}: {whole} of {len(found)} parts whole")


def require_gpu() -> None:
    """End the program with a message where PyTorch has no GPU, before anything is written."""
    import torch

    if not torch.cuda.is_available():
        sys.exit(
            f"gpu-check needs a GPU that PyTorch {torch.__version__} can use, and finds none; "
            "`deiii doctor` says what is missing"
        )


def new_file(folder: Path) -> Path:
    """Return a dated name that no file in the folder has.

    >>> new_file(Path("results")).name  # doctest: +SKIP
    'gpu_check-2026-11-26.txt'
    """
    stem = f"gpu_check-{datetime.date.today()}"
    file, number = folder / f"{stem}.txt", 1
    while file.exists():
        number += 1
        file = folder / f"{stem}-{number}.txt"
    return file


def results(text: str) -> list[dict[str, Any]]:
    """Return the results among the lines of a part; a line that was cut off with the part is left out."""
    rows = []
    for line in text.splitlines():
        if line.startswith(FOUND):
            with suppress(json.JSONDecodeError):
                rows.append(json.loads(line.removeprefix(FOUND)))
    return rows


def kept_lines(text: str) -> list[str]:
    """Return all results of a part and the last of its other lines, in their order, without progress bars."""
    lines = [line for line in text.splitlines() if not BAR.match(line) or line.startswith(FOUND)]
    others = [number for number, line in enumerate(lines) if not line.startswith(FOUND)]
    dropped = set(others[:-LAST])
    return [line for number, line in enumerate(lines) if number not in dropped]


def run(name: str, limit: float) -> tuple[str, str]:
    """Run a part in a process group of its own; returns its status and what it printed by its limit.

    No process of the part is left when this returns or is interrupted.
    """
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
            status = f"cut at {limit:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return status, log.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the part that runs ends too
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the file holds the parts that had ended")
