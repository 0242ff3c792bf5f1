"""Bounds on what one clip may take of a process: time and memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HANGING = 70  # exit status of a process that a clip's time limit ended


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer: a decoder that hangs cannot be asked to stop.

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
    """Let this process's own memory grow by no more than this in the block.

    An allocation beyond it fails, in Python as a MemoryError. Holds on Linux; elsewhere the
    kernel does not say what a process has, and nothing is limited.
    """
    held = _own_bytes()
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


def _own_bytes() -> int:
    """What RLIMIT_DATA counts of this process by now; 0 where it is not known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)
