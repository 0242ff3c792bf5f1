"""Preprocessing and training on several machines, with the trouble that machines have.

python -m tests.cluster              # a few minutes on two cores
python -m tests.cluster --short      # what `make test` does: one worker without the shared files
python -m tests.cluster --loopback   # processes on loopback, also where network namespaces can be had
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

from tests.cluster.machines import Loopback, Namespaces, enter_namespace, missing
from tests.cluster.scenes import Stage, Wrong

os.environ.setdefault("OMP_NUM_THREADS", "1")
INSIDE = "DEIII_TEST_CLUSTER"  # set once this process has a network of its own


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="one worker without the shared files, no more")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces")
    parser.add_argument("--copies", type=int, help="how many times 24 clips are taken")
    parser.add_argument("--epochs", type=int, default=4, help="of the training (default: %(default)s)")
    args = parser.parse_args()
    why = "as asked" if args.loopback else "" if os.environ.get(INSIDE) else missing()
    if not why and not os.environ.get(INSIDE):
        os.environ[INSIDE] = "1"
        enter_namespace(sys.argv[1:])
    if why:
        print(f"network namespaces: {why}; using separate processes on loopback")
    base = Path(tempfile.mkdtemp(prefix="deiii-cluster-"))
    machines = (Loopback if why else Namespaces)(base / "logs")
    stage = Stage(base / "shared", machines, args.copies or (1 if args.short else 8), print)
    stage.base.mkdir()
    found = {"bench": "cluster", "machines": machines.kind, "clips": stage.clips}
    failed = 0
    try:
        scenes = [("one without the shared files", stage.blind_worker)]
        if not args.short:
            scenes = [
                ("undisturbed, two workers of this machine", stage.first_run),
                ("one cut off and returned, workers come and go", stage.cut_and_returned),
                *scenes,
                ("one killed", stage.killed_worker),
            ]
        for name, scene in scenes:
            failed += not _play(name, scene)
        if not args.short:
            same = {"clips_lost": _lost(stage), "cache_identical": _identical(stage)}
            found |= {"workers_cut_off": stage.cut_off, **same}
            measured: list = []
            failed += not _play("training on two machines", lambda: _train(stage, args.epochs, measured))
            if measured:
                found |= {"ddp_loss_diff": float(f"{measured[0]:.1e}"), "ddp_speedup": round(measured[1], 2)}
    finally:
        stage.close()
        if failed:
            print(f"what was said: {base / 'logs'}")
        else:
            shutil.rmtree(base, ignore_errors=True)
    print(f"RESULT {json.dumps(found, separators=(',', ':'))}")
    return 1 if failed else 0


def _play(name, scene) -> bool:
    begun = time.monotonic()
    try:
        result, seen = "ok", scene()
    except Wrong as error:
        result, seen = "WRONG", str(error)
    print(f"{result:6} {name} ({time.monotonic() - begun:.0f} s): {seen}", flush=True)
    return result == "ok"


def _train(stage: Stage, epochs: int, measured: list) -> str:
    difference, faster, told = stage.training(epochs)
    measured += [difference, faster]
    if difference > 1e-5:
        raise Wrong(f"losses differ by {difference:.1e}")
    return f"losses differ by {difference:.1e}; {told}: {faster:.2f} times as fast"


def _lost(stage: Stage) -> int:
    """Clips without an outcome in some stage of the cache that was made under trouble."""
    from deiii.data.cache.index import read_index

    indices = [read_index(p.parent) for p in (stage.base / "cluster").glob("*/*-*/index.json")]
    return sum(stage.clips - len(index.clips) for index in indices) if len(indices) == 3 else stage.clips


def _identical(stage: Stage) -> bool:
    """Whether the caches made under trouble are those of an undisturbed run, byte for byte."""
    try:
        for cache in ("cluster", "refused"):
            stage.same(cache, stage.undisturbed)
    except Wrong:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
