"""One writer at a time in a cache: the kernel's file lock, which dies with its process."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writer_lock(folder: str | Path, waiting: Callable[[str], None] = print) -> Iterator[None]:
    """Hold a folder's lock; wait, and say for whom, while another process holds it.

    A lock left by a dead process does not exist: the kernel released it. The text in the file
    only tells people who holds it.

    >>> with writer_lock("cache/mine"):          # doctest: +SKIP
    ...     ...
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            waiting(
                f"another run is writing to {folder} ({file.read().strip() or 'unknown'}); waiting for it"
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield
        finally:
            file.truncate(0)
