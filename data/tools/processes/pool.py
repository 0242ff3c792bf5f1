"""A pool of worker processes that ends quietly and at once after an error, Ctrl-C or SIGTERM."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from deiii.data.tools.os_errors import FULL
from deiii.data.tools.processes.main_guard import check_main_guard, refuse_in_worker, watch_workers
from deiii.data.tools.processes.signals import INTERRUPTED, block_sigint

SHARED_MEMORY = "/dev/shm"
LOCK_BYTES = 4096  # a page of memory
SHARED_MEMORY_FULL = (
    f"{SHARED_MEMORY} has no space left, and worker processes share locks there; remove files of programs "
    "that have ended from it, or make it larger (docker run --shm-size=64m)"
)


@contextmanager
def worker_pool(
    workers: int,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    grace_s: float = 0.0,
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool whose workers are spawned; after an exception in the block they are ended.

    Workers ignore Ctrl-C (`start_tasks`). After an exception they get SIGTERM, and SIGKILL after ``grace_s``
    seconds; tasks that did not end by then are lost. Do not cancel tasks in the block, and so do not use
    ``pool.map``: when the workers of a pool end, Python 3.11 reports an InvalidStateError for each cancelled
    task.

    Args:
        workers: number of processes.
        initializer, initargs: run in each worker first.
        grace_s: how long a worker may take to end after SIGTERM, in s.

    Raises:
        UnguardedMain: the script that runs here starts workers at its top level.

    >>> with worker_pool(2) as pool:  # doctest: +SKIP
    ...     for task in start_tasks(pool, abs, [-1, 2]):
    ...         task.result()
    """
    refuse_in_worker()
    before = set(multiprocessing.active_children())
    # Spawned, not forked: the calling process may have threads (PyTorch, Dask).
    with shared_memory_errors():
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer, initargs)
    with watch_workers() as mark:
        try:
            yield pool
        except BaseException:
            _end(set(multiprocessing.active_children()) - before, grace_s)
            pool.shutdown()  # its tasks fail now; their results are not used
            check_main_guard(mark)
            raise
    pool.shutdown()


@contextmanager
def shared_memory_errors() -> Iterator[None]:
    """State in the error of a full `SHARED_MEMORY` where the locks are that processes share, and a remedy.

    >>> try:
    ...     with shared_memory_errors():
    ...         raise OSError(28, "No space left on device")
    ... except OSError as error:
    ...     print(str(error).partition(",")[0])
    /dev/shm has no space left
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(SHARED_MEMORY_FULL) from error


def shared_memory_is_full() -> bool:
    """Return whether the file system on which processes share locks has no room for one.

    >>> shared_memory_is_full()
    False
    """
    try:
        return shutil.disk_usage(SHARED_MEMORY).free < LOCK_BYTES
    except OSError:  # a system without this folder
        return False


def _end(workers: set[Any], grace_s: float) -> None:
    """End worker processes: SIGTERM, then SIGKILL for those that are left after ``grace_s`` seconds."""
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + grace_s
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
    for worker in workers:
        worker.kill()


def start_tasks(pool: ProcessPoolExecutor, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
    """Start one task for each item, in workers that ignore Ctrl-C; returns the tasks in their order.

    A task begins as soon as its item is known, so that items that take time to make delay no worker.
    """
    tasks = []
    for item in items:
        with block_sigint():  # a task may start a worker
            tasks.append(pool.submit(end_when_stopped, function, item))
    return tasks


def end_when_stopped(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a worker; KeyboardInterrupt ends the worker, so that it starts no other task."""
    try:
        return function(*args)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
