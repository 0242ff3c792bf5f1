"""One writer at a time in a cache or a run folder: the kernel's file lock, which dies with its process."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Locked(ValueError):
    """Another process is writing to the folder."""


@contextmanager
def writer_lock(
    folder: str | Path, waiting: Callable[[str], None] = print, wait: bool = True
) -> Iterator[None]:
    """Hold a folder's lock; wait, and say for whom, while another process holds it.

    A lock left by a dead process does not exist: the kernel released it. The text in the file
    only tells people who holds it.

    Args:
        waiting: where the line goes that says who is waited for.
        wait: else refuse at once.

    Raises:
        Locked: where another process holds the lock and ``wait`` is off.

    >>> with writer_lock("cache/mine"):          # doctest: +SKIP
    ...     ...
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            told = f"another run is writing to {folder} ({file.read().strip() or 'unknown'})"
            if not wait:
                raise Locked(f"{told}; wait for it or choose another folder") from None
            waiting(f"{told}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield
        finally:
            file.truncate(0)
