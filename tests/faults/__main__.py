"""Inject faults into the real programs and print a table of the results.

python -m tests.faults                 # all faults (under 25 minutes on two cores)
python -m tests.faults --short         # the short form; `make test` runs most of it
python -m tests.faults --group 5 9     # some groups
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.faults.catalogue import FAULTS
from tests.faults.harness import inject_fault
from tests.faults.workspace import open_workspace


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m tests.faults", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--short", action="store_true", help="only the short form, most of which `make test` runs"
    )
    parser.add_argument("--group", nargs="+", type=int, help="numbers of groups, 1 to 19")
    parser.add_argument("--only", help="faults whose name contains this text")
    parser.add_argument("--list", action="store_true", help="list the faults without injecting them")
    args = parser.parse_args()
    chosen = [
        f
        for f in FAULTS
        if (f.short or not args.short)
        and (not args.group or int(f.group.split()[0]) in args.group)
        and (not args.only or args.only in f.name)
    ]
    if args.list:
        for fault in chosen:
            print(f"{fault.group:14} {'short' if fault.short else '':6} {fault.name}: {fault.expect}")
        return 0
    verdicts = []
    with open_workspace(strict=True) as work:
        for fault in chosen:
            verdict = inject_fault(fault, work)
            verdicts.append(verdict)
            seen = f": {verdict.seen}" if verdict.seen else ""
            print(
                f"{fault.group:13} {verdict.result:7} {verdict.seconds:6.1f} s  {fault.name}"
                f" -> {fault.expect}{seen}",
                flush=True,
            )
    for verdict in verdicts:
        if verdict.trace:
            print(f"\n{verdict.fault.group}, {verdict.fault.name}\n{verdict.trace}")
    return report(verdicts)


def report(verdicts) -> int:
    """Print the counts per group and the RESULT line; returns the exit status."""
    results = Counter((v.fault.group, v.result) for v in verdicts)
    print(f"\n{'group':16} {'ok':>5} {'lost':>5} {'wrong':>5} {'skipped':>8} {'seconds':>8}")
    for group in dict.fromkeys(v.fault.group for v in verdicts):
        counts = [results[group, r] for r in ("ok", "LOST", "WRONG", "skipped")]
        seconds = sum(v.seconds for v in verdicts if v.fault.group == group)
        print(f"{group:16} {counts[0]:5} {counts[1]:5} {counts[2]:5} {counts[3]:8} {seconds:8.1f}")
    totals = Counter(v.result for v in verdicts)
    figures = {
        "bench": "faults",
        "injected": len(verdicts) - totals["skipped"],
        "lost": totals["LOST"],
        "wrong": totals["WRONG"],
        "skipped": totals["skipped"],
        "seconds": round(sum(v.seconds for v in verdicts)),
    }
    print("RESULT " + json.dumps(figures, separators=(",", ":")))
    return 1 if totals["LOST"] or totals["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
