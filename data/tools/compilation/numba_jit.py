"""Numba compilation with this project's options: without the GIL, cached on disk where that is possible."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMPILED = "deiii-librosa"  # folder in a cache that lists librosa's functions in it


def use_writable_cache(package: Path) -> None:
    """Give Numba a folder for the machine code of an installed package, if its usual ones cannot be written.

    librosa asks for a cache when it is imported and fails without one: in a container with a read-only
    file system, or for a user without a home folder. `NUMBA_CACHE_DIR` is left as it is where it is set.

    Numba does not read a cache that it cannot write. If the user's cache folder has one with librosa's
    functions, as in an image that is started with a read-only file system, it is copied.

    Args:
        package: a folder of the package.

    >>> import librosa
    >>> use_writable_cache(Path(librosa.__file__).parent)
    """
    if cache_of(package) is not None:
        return
    folder = Path(tempfile.gettempdir()) / f"deiii-numba-{os.getuid()}"
    if (_user_cache() / COMPILED).is_dir() and not folder.exists():
        _copy_cache(_user_cache(), folder)
    if _can_write(folder) and folder.stat().st_uid == os.getuid():  # another user's code must not be run
        os.chmod(folder, 0o700)
        os.environ["NUMBA_CACHE_DIR"] = str(folder)  # child processes read this variable
        if "numba" in sys.modules:
            sys.modules["numba"].config.reload_config()


def cache_of(package: Path) -> Path | None:
    """Return the folder in which Numba keeps the machine code of a package; ``None`` if none can be written.

    >>> import librosa
    >>> cache = cache_of(Path(librosa.__file__).parent)
    """
    if own := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(own)
    return next((folder for folder in (package / "__pycache__", _user_cache()) if _can_write(folder)), None)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "numba"


def _copy_cache(source: Path, folder: Path) -> None:
    """Copy a cache into a new private folder, completely or not at all."""
    try:
        part = tempfile.mkdtemp(prefix="deiii-numba-", dir=folder.parent)  # only this user can read it
    except OSError:
        return
    try:
        whole = os.path.join(part, "numba")
        shutil.copytree(source, whole)
        os.chmod(whole, 0o700)
        os.rename(whole, folder)  # fails where another process was faster
    except OSError:  # the functions are then compiled
        pass
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop over arrays to machine code, on its first call for each combination of types.

    The compiled code releases the GIL and is cached on disk. Without a writable place for the cache, it is
    compiled again in each process. Division by zero gives infinity or NaN, as in NumPy.

    >>> @compiled
    ... def add(a, b):
    ...     return a + b
    >>> add(1, 2)
    3
    """
    import numba  # slow to import, and a program that only loads a network does not need it

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)
