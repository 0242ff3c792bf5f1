"""Atomic files: written under a temporary name, flushed, renamed; a reader sees the whole file or none."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deiii.data.tools.os_errors import name_written_file
from deiii.data.tools.processes.made_folders import make_folder

TEMPORARY = ".tmp"  # suffix of every unfinished file
# What a file system answers to fsync or chmod where it has none.
NOT_OFFERED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
LONGEST_NAME = 190  # bytes; file systems allow 255, with a suffix and what a temporary name adds


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it becomes ``path``, else it is removed.

    The published file has the mode that ``open`` would give it under this process's umask.

    >>> with atomic_path("metrics.json") as temporary:   # doctest: +SKIP
    ...     temporary.write_text("{}")
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        with name_written_file(path, temporary):
            yield temporary
            publish(temporary, path)
    except BaseException:
        remove_unfinished(temporary)
        raise


def temporary_path(path: Path) -> Path:
    """Return a name beside ``path`` for the file while it is written; no other process or thread gets it.

    The process number would not do: containers and machines that share a folder have equal ones.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")


def remove_unfinished(temporary: Path) -> None:
    """Remove an unfinished file, if it exists and can be removed.

    A read-only disk refuses to remove a file that does not exist, too. The error that ended the work is then
    the one to show.
    """
    with suppress(OSError):
        temporary.unlink()


def publish(temporary: Path, path: Path) -> None:
    """Make a finished temporary file visible under its final name, durably.

    The file gets the mode that ``open`` would give it: safetensors and pooch create theirs for the owner
    alone, but caches, runs and weights are shared among users. A file system that has no modes or no fsync
    keeps the file as it is.

    Raises:
        OSError: the disk does not take the file; names ``path``.
    """
    with open(temporary, "rb+") as file:
        _set_mode(file.fileno(), _new_file_mode(temporary.with_name(f"{temporary.name}.mode{TEMPORARY}")))
        _sync(file.fileno(), path)
    try:
        os.replace(temporary, path)
    except IsADirectoryError as error:  # it would name the temporary file
        raise IsADirectoryError(error.errno, error.strerror, str(path)) from None
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except PermissionError:  # a folder in which this user may make files, but not list them
        return
    try:
        _sync(folder, path)
    finally:
        os.close(folder)


def _set_mode(descriptor: int, mode: int) -> None:
    """Set the mode of a file where it differs; some network file systems know one mode for all files."""
    if stat.S_IMODE(os.fstat(descriptor).st_mode) == mode:
        return
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno not in NOT_OFFERED | {errno.EPERM, errno.EACCES}:
            raise


def _sync(descriptor: int, path: Path) -> None:
    """Write what the kernel still holds of a file or folder to the disk; ``path`` is named in errors."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise OSError(error.errno, error.strerror, str(path)) from None


def _new_file_mode(probe: Path) -> int:
    """Return the mode of a file that ``open`` creates under this name; the file is removed again.

    Reading the umask would change it for a moment in all threads, and would ignore the folder's default
    access list.
    """
    descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically (UTF-8).

    Bytes of a file name that are not UTF-8, which Python keeps as surrogates, are written as ``\\udcXX``;
    JSON reads them back.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write JSON atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def file_sha256(path: str | Path) -> str:
    """Return SHA-256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_name(name: str, most: int = LONGEST_NAME) -> str:
    """Return a file's name without suffix, short enough for another suffix and a temporary name.

    Args:
        name: the name.
        most: longest in bytes of UTF-8.

    >>> short_name("ü" * 300) == "ü" * 95
    True
    """
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def remove_temporary(folder: str | Path) -> int:
    """Remove the unfinished files that a killed run left in a folder; returns their number."""
    stale = [p for p in Path(folder).glob(f".*{TEMPORARY}") if p.is_file()]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def writable_folder(path: str | Path) -> Path:
    """Make a folder, and check that files can be written into it; call it before work whose results go there.

    Raises:
        OSError: the folder cannot be made or written; the error names it.

    >>> writable_folder("out").is_dir()  # doctest: +SKIP
    True
    """
    path = make_folder(path)
    try:
        with tempfile.TemporaryFile(dir=path, prefix=".", suffix=TEMPORARY):
            return path
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def writable_file(path: str | Path) -> Path:
    """Check that a file can be written, and make its folder; call it before work whose result goes there.

    Raises:
        OSError: the folder cannot be made or written, or a folder has this name; the error names it.

    >>> writable_file("out/report.json").exists()  # doctest: +SKIP
    False
    """
    path = Path(path)
    writable_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path


class InputFiles:
    """The files that a command reads; they are looked up once, however many files it writes.

    >>> InputFiles(["a.mp4", "b.mp4"]).refuse("out/a.mp4")
    """

    def __init__(self, paths: Iterable[str | Path]):
        self._real = {os.path.realpath(path) for path in paths}
        self._same = {file for path in self._real if (file := _identity(path)) is not None}

    def refuse(self, target: str | Path) -> None:
        """Refuse to write a file over one of them, also by another name or link.

        Raises:
            FileExistsError: names the file.
        """
        real = os.path.realpath(target)
        if real in self._real or _identity(real) in self._same:
            raise FileExistsError(f"{target} is an input file and is not overwritten; name another file")


def _identity(path: str) -> tuple[int, int] | None:
    """Return the numbers of disk and file, which names of one file share; ``None`` for a missing file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
