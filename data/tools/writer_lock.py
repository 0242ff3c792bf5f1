"""One writer at a time in a cache or run folder, by the kernel's file lock (flock)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What flock answers where a file system offers no locks: NFS without lockd, some FUSE file systems.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


class Locked(ValueError):
    """Another process is writing to the folder; the message names it."""


@contextmanager
def writer_lock(
    folder: str | Path, waiting: Callable[[str], None] = print, wait: bool = True
) -> Iterator[None]:
    """Hold the lock of a folder in the block; wait for another process that holds it.

    The kernel releases the lock of a process that ends, however it ends. The text in the lock file only
    tells people which process holds it. Where the file system has no locks, the block runs without one,
    and ``waiting`` is told so.

    Args:
        folder: the folder; created if it does not exist.
        waiting: called with a line to show: which other process is waited for, or that there are no locks.
        wait: if false, raise instead of waiting.

    Raises:
        Locked: if another process holds the lock and ``wait`` is false.

    >>> with writer_lock("cache/mine"):          # doctest: +SKIP
    ...     ...
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                waiting(
                    f"the file system of {folder} has no file locks ({error.strerror}); "
                    "make sure that no other run writes to it"
                )
                yield
                return
            if not isinstance(error, BlockingIOError):
                raise
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
