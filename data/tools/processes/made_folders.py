"""Folders that this process made; a command that was refused removes those that are still empty.

Commands make the folder of their results before they work, to find out whether it can be written.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK = ".lock"  # the file of a folder by which one process at a time writes there (`writer_lock`)
_made: list[Path] = []  # since `forget_made_folders`


def make_folder(path: str | Path) -> Path:
    """Make a folder and its missing parents, and record those it made for `remove_empty_folders`.

    >>> make_folder("out/figures")  # doctest: +SKIP
    PosixPath('out/figures')
    """
    path = Path(path)
    for folder in (path, *path.parents):
        if os.path.exists(folder):  # unlike Path.exists, it raises nothing
            break
        _made.append(folder.absolute())
    path.mkdir(parents=True, exist_ok=True)
    return path


def forget_made_folders() -> None:
    """Clear the record for `remove_empty_folders`; a command calls this when it begins."""
    _made.clear()


def remove_empty_folders() -> None:
    """Remove the folders of `make_folder` that are still empty; a refused command calls it.

    A folder that holds nothing but a lock file that no process has locked counts as empty.
    """
    for folder in sorted(_made, key=lambda path: len(path.parts), reverse=True):
        try:
            if os.listdir(folder) == [LOCK]:
                _remove_lock(folder / LOCK)
            folder.rmdir()
        except OSError:  # it holds files, another process locks it or has removed it
            continue
    _made.clear()


def _remove_lock(path: Path) -> None:
    """Remove a lock file that no process has locked; a process that waits for it makes a new one."""
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
