"""Features for the many tests that need some, but whose subject is not preprocessing."""

from __future__ import annotations

import atexit
from functools import cache

from distributed import LocalCluster

from deiii.__main__ import main


def preprocess(*words: str) -> int:
    """Run ``deiii preprocess`` on a Dask worker that all tests of a session share; return its exit status.

    A worker of its own would first import everything, which takes most of the time of a small corpus. The
    shared one keeps the environment and the current folder of the first call.
    """
    return main(["preprocess", *words, f"scheduler={_address()}"])


@cache
def _address() -> str:
    # Any free port: other tests beside these, and those of a cluster of their own, use the usual one.
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    )  # fmt: skip
    atexit.register(cluster.close)
    return cluster.scheduler_address
