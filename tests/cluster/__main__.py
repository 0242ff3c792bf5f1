"""Preprocessing and training on several simulated machines, some of which fail.

python -m tests.cluster              # a few minutes on two cores
python -m tests.cluster --short      # the short form, as in `make test`: one worker without the shared files
python -m tests.cluster --loopback   # processes on loopback, even if network namespaces are available
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.machines import Loopback, Namespaces, enter_namespace, why_unavailable
from tests.cluster.scenarios import ScenarioFailed, Scenarios

os.environ.setdefault("OMP_NUM_THREADS", "1")
INSIDE = "DEIII_TEST_CLUSTER"  # set when this process has a network of its own


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m tests.cluster", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--short", action="store_true", help="only the scenario of a worker without the shared files"
    )
    parser.add_argument("--loopback", action="store_true", help="no network namespaces")
    parser.add_argument("--copies", type=int, help="how many times each of the 24 clips is used")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of the training (default: %(default)s)")
    args = parser.parse_args()
    reason = "as asked" if args.loopback else "" if os.environ.get(INSIDE) else why_unavailable()
    if not reason and not os.environ.get(INSIDE):
        os.environ[INSIDE] = "1"
        enter_namespace(sys.argv[1:])
    if reason:
        print(f"network namespaces: {reason}; using separate processes on loopback")
    base = Path(tempfile.mkdtemp(prefix="deiii-cluster-"))
    machines = (Loopback if reason else Namespaces)(base / "logs")
    scenarios = Scenarios(base / "shared", machines, args.copies or (1 if args.short else 8))
    scenarios.base.mkdir()
    found = {"bench": "cluster", "machines": machines.kind, "clips": scenarios.clips}
    failed = 0
    try:
        steps = [("one without the shared files", scenarios.worker_without_files)]
        if not args.short:
            steps = [
                ("undisturbed, two local workers", scenarios.first_run),
                ("one reconnected, workers join and leave", scenarios.reconnected_worker),
                *steps,
                ("one killed", scenarios.killed_worker),
            ]
        for name, scenario in steps:
            failed += not _run_scenario(name, scenario)
        if not args.short:
            same = {"clips_lost": _lost(scenarios), "cache_identical": _identical(scenarios)}
            found |= {"workers_cut_off": scenarios.disconnected, **same}
            measured: list = []
            failed += not _run_scenario(
                "training on two machines", lambda: _train(scenarios, args.epochs, measured)
            )
            if measured:
                found |= {"ddp_loss_diff": float(f"{measured[0]:.1e}"), "ddp_speedup": round(measured[1], 2)}
    finally:
        scenarios.close()
        if failed:
            print(f"output of all programs: {base / 'logs'}")
        else:
            shutil.rmtree(base, ignore_errors=True)
    print(f"RESULT {json.dumps(found, separators=(',', ':'))}")
    return 1 if failed else 0


def _run_scenario(name, scenario) -> bool:
    started_at = time.monotonic()
    try:
        result, seen = "ok", scenario()
    except ScenarioFailed as error:
        result, seen = "WRONG", str(error)
    print(f"{result:6} {name} ({time.monotonic() - started_at:.0f} s): {seen}", flush=True)
    return result == "ok"


def _train(scenarios: Scenarios, epochs: int, measured: list) -> str:
    difference, faster, message = scenarios.training(epochs)
    measured += [difference, faster]
    if difference > 1e-5:
        raise ScenarioFailed(f"losses differ by {difference:.1e}")
    return f"losses differ by {difference:.1e}; {message}: {faster:.2f} times as fast"


def _lost(scenarios: Scenarios) -> int:
    """Clips without an outcome in some stage of the cache that was made while workers failed."""
    from deiii.data.cache.index import read_index

    indices = [read_index(p.parent) for p in (scenarios.base / "cluster").glob("*/*-*/index.json")]
    if len(indices) < 3:
        return scenarios.clips
    return sum(scenarios.clips - len(index.clips) for index in indices)


def _identical(scenarios: Scenarios) -> bool:
    """Whether the caches made while workers failed equal that of an undisturbed run, byte for byte."""
    try:
        for cache in ("cluster", "refused"):
            scenarios.same(cache, scenarios.undisturbed)
    except ScenarioFailed:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
