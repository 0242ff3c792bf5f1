"""Limits on the time and the memory that one clip may take."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HANGING = 70  # exit status of a process that ended because a clip exceeded its time limit


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer than ``seconds``: a hanging decoder cannot be stopped.

    The scheduler then runs the shard again with every clip in a process of its own.
    """
    watchdog = threading.Timer(seconds, os._exit, (HANGING,))
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


@contextmanager
def memory_limit(gigabytes: float) -> Iterator[None]:
    """Limit how much the memory of this process may grow in the block, in GiB.

    An allocation beyond the limit fails; in Python it raises MemoryError. This works on Linux only: other
    kernels do not report the memory of a process, and nothing is limited.
    """
    held = _data_bytes()
    if not held:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + int(gigabytes * 2**30)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """Return the bytes of this process that RLIMIT_DATA counts; 0 if they are not known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)
