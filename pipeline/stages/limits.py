"""Limits on the time and the memory that one clip may take."""

from __future__ import annotations

import math
import os
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deiii.data.config.schema import Config
from deiii.data.tools.processes.dask_workers import WORKER_GB

LEAST_S = 0.001  # time limit of work for which no time is left
HANGING = 70  # exit status of a process that ended because a clip exceeded its time limit

# Messages of libraries that raise other errors than MemoryError: PyTorch, ONNX Runtime, C++, the loader.
NO_MEMORY = re.compile(
    "allocate memory|out of memory|not enough memory|bad[ _]alloc|failed to map segment", re.I
)
CLOSE = 1 / 8  # of the limit of one clip: so little was left where small allocations failed


def memory_of_worker(config: Config) -> float:
    """Return how much memory in GiB the job or pod of a worker has for a clip; inf if neither limits it.

    >>> memory_of_worker(Config())
    inf
    """
    if config.scheduler or config.cluster.kind == "local":
        return math.inf
    return max(config.cluster.memory_gb - WORKER_GB, config.cluster.memory_gb / 2)


def time_left(config: Config, clips: int, spent: float) -> float:
    """Return how long the work on clips may still take, s; more than 0.

    Args:
        config: settings.
        clips: number of clips.
        spent: time that was spent on them before, s.

    >>> time_left(Config(clip_timeout=60.0), 2, 45.0)
    75.0
    """
    return max(LEAST_S, clips * config.clip_timeout - spent)


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
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + int(gigabytes * 2**30)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def memory_ran_out(error: BaseException, gigabytes: float) -> bool:
    """Return whether the limit on the memory of a clip is behind an error.

    Many libraries do not raise MemoryError: ONNX Runtime raises errors of its own, oneDNN cannot "create a
    primitive", an extension module returns without a result (SystemError). So an error also counts if hardly
    any memory was left when it was raised. Call this where the error is handled: its traceback keeps the
    arrays of the functions that it left.

    Args:
        error: the error.
        gigabytes: the limit, as `memory_limit` got it.

    >>> memory_ran_out(RuntimeError("std::bad_alloc"), 8.0), memory_ran_out(ValueError("no such codec"), 8.0)
    (True, False)
    """
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, MemoryError) or NO_MEMORY.search(str(one)):
            return True
        one = one.__cause__ or one.__context__
    return little_is_left(gigabytes)


def little_is_left(gigabytes: float) -> bool:
    """Return whether the memory of this process is close to the limit of the block that runs.

    >>> little_is_left(8.0)  # outside of a block nothing is limited
    False
    """
    limit, held = resource.getrlimit(resource.RLIMIT_DATA)[0], _data_bytes()
    return held > 0 and limit != resource.RLIM_INFINITY and limit - held < gigabytes * 2**30 * CLOSE


def _data_bytes() -> int:
    """Return the bytes of this process that RLIMIT_DATA counts; 0 if they are not known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)
