"""One writer at a time in a cache or run folder, by the kernel's file lock (flock)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deiii.data.tools.os_errors import name_written_file
from deiii.data.tools.processes.made_folders import LOCK, make_folder

# What flock answers where a file system offers no locks: NFS without lockd, some FUSE and 9p file systems.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
# What it answers where another process holds the lock; CIFS, and NFS on old servers, answer EACCES.
HELD = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})
POLL_S = 0.5  # between two attempts where the kernel does not wait for the lock itself


class Locked(ValueError):
    """Another process is writing to the folder; the message names it."""


@contextmanager
def writer_lock(
    folder: str | Path, waiting: Callable[[str], None] = print, wait: bool = True
) -> Iterator[None]:
    """Hold the lock of a folder in the block; wait for another process that holds it.

    The kernel releases the lock of a process that ends, however it ends. The text in the lock file only
    names the process that holds it, for people. Where the file system has no locks, the block runs without
    one, and ``waiting`` gets a line about it.

    Args:
        folder: the folder; created if it does not exist.
        waiting: called with a line to show: which other process is waited for, or that there are no locks.
        wait: if false, raise instead of waiting.

    Raises:
        Locked: if another process holds the lock and ``wait`` is false.
        OSError: the folder cannot be written, or the lock fails in another way; names the lock file.

    >>> with writer_lock("cache/mine"):          # doctest: +SKIP
    ...     ...
    """
    folder = Path(folder)
    told = False
    while True:
        make_folder(folder)
        with open(folder / LOCK, "a+", encoding="utf-8", errors="replace") as file:
            answer = _try_lock(file)
            if answer in NO_LOCKS:
                waiting(
                    f"the file system of {folder} has no file locks ({os.strerror(answer)}); "
                    "make sure that no other run writes to it"
                )
                yield
                return
            if answer:
                file.seek(0)
                holder = f"another run is writing to {folder} ({file.read().strip() or 'unknown'})"
                if not wait:
                    raise Locked(f"{holder}; wait for it or choose another folder")
                if not told:
                    waiting(f"{holder}; waiting for it")
                told = True
                while _try_lock(file) in HELD:
                    time.sleep(POLL_S)
            if not _is_there(file):
                continue
            try:
                os.ftruncate(file.fileno(), 0)
                with name_written_file(file.name):
                    # Not through Python's buffer, which would be written once more when the file is closed.
                    os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
                yield
            finally:
                os.ftruncate(file.fileno(), 0)
            return


def _is_there(file: IO[str]) -> bool:
    """Return whether an open lock file is still that of its folder: `remove_empty_folders` removes some."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))
    except FileNotFoundError:
        return False


def _try_lock(file: IO[str]) -> int:
    """Take the lock if it is free; returns 0, or the error number of the failed attempt."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS | HELD:
            return error.errno or errno.EAGAIN
        raise OSError(error.errno, error.strerror, file.name) from None
    return 0
