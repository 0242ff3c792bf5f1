"""Features for the many tests that need some, but whose subject is not preprocessing.

Run as a program, this module is the Dask cluster of such tests, until its standard input is closed.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from functools import cache
from pathlib import Path

from distributed import LocalCluster

from deiii.__main__ import main

ROOT = Path(__file__).parents[2]


def preprocess(*words: str) -> int:
    """Run ``deiii preprocess`` on a Dask worker that all tests of a session share; return its exit status.

    A worker of its own would first import everything, which takes most of the time of a small corpus. The
    shared one keeps the environment and the current folder of the first call.
    """
    return main(["preprocess", *words, f"scheduler={address()}"])


@cache
def address() -> str:
    """Return the address of the shared worker's scheduler; the first call starts it."""
    # In a process of its own, because some tests count the threads and open files of theirs.
    words = [sys.executable, "-m", "tests.helpers.shared_worker"]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)  # closes its input and waits for its end
    address = process.stdout.readline().strip() if process.stdout else ""
    assert address, "the cluster did not start; its errors are above"
    return address


def serve() -> None:
    """Start the cluster, write its address to standard output and end when standard input does."""
    # Any free port: other tests beside these, and those of a cluster of their own, use the usual one.
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    ) as cluster:  # fmt: skip
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve()
