"""Refuse to start worker processes from a script without a main guard.

Worker processes of this machine start by importing the script that started them (the ``spawn`` method
of multiprocessing). Without ``if __name__ == "__main__":`` that import starts workers again, in every
worker: each call would wait for the others without end.
"""

from __future__ import annotations

import linecache
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = "DEIII_MAIN_GUARD"  # environment variable: the file that a worker writes to
SAFE_PATH = "PYTHONSAFEPATH"  # environment variable of Python 3.11: do not search the current folder
GUARD = """\
    if __name__ == "__main__":
        {call}"""


class UnguardedMain(RuntimeError):
    """A script starts worker processes at its top level; the message shows the guard that it needs."""


def refuse_in_worker() -> None:
    """End this process if it is a worker that is importing the script of its parent.

    Returns at once in every other process. The worker leaves a mark for its parent first (`watch_workers`).
    """
    # multiprocessing sets the flag while a new process imports its parent's script.
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    if mark := os.environ.get(MARK):
        Path(mark).write_text("x")
    os._exit(1)  # an exception would print a trace for every worker


@contextmanager
def watch_workers() -> Iterator[Path]:
    """Yield the file that exists as soon as a worker started in the block has called `refuse_in_worker`."""
    with tempfile.TemporaryDirectory(prefix="deiii-") as folder:
        mark = Path(folder) / "unguarded"
        before = os.environ.get(MARK)
        os.environ[MARK] = str(mark)
        try:
            with hide_missing_script(), leave_out_current_folder():
                yield mark
        finally:
            _set_back(MARK, before)


@contextmanager
def hide_missing_script() -> Iterator[None]:
    """Let workers that start in the block import no script where the running program has no file.

    Python calls a program that it reads from a pipe (``python - < script.py``) the file ``<stdin>``; each
    worker would look for it and end.
    """
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script is None or getattr(main, "__spec__", None) is not None or Path(script).exists():
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = script


@contextmanager
def leave_out_current_folder() -> Iterator[None]:
    """Let Python processes that start in the block import nothing from the current folder by themselves.

    A worker imports its first modules before it has the search path of this process. A file ``types.py`` or
    ``random.py`` in the current folder would then be taken for the module of Python.
    """
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        _set_back(SAFE_PATH, before)


def _set_back(name: str, before: str | None) -> None:
    """Give an environment variable the value that it had, or remove it."""
    if before is None:
        del os.environ[name]
    else:
        os.environ[name] = before


def environment_of_child() -> dict[str, str]:
    """Return the environment for ``python -m MODULE`` with the search path of this process."""
    return {**os.environ, SAFE_PATH: "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def check_main_guard(mark: Path) -> None:
    """Raise UnguardedMain if a worker has left its mark."""
    if not mark.exists():
        return
    script = getattr(sys.modules["__main__"], "__file__", None) or "the script"
    line, call = _line_of_script()
    raise UnguardedMain(
        f"{script}{f', line {line},' if line else ''} starts worker processes at its top level. Each "
        "worker imports the script and would start workers again. Put the call under a main guard, which the "
        f"workers skip:\n\n{GUARD.format(call=call)}\n"
    )


def _line_of_script() -> tuple[int, str]:
    """Return the number and text of the running line of the script; 0 and ``main()`` if it is not known."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>":
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            return frame.f_lineno, text or "main()"
        frame = frame.f_back  # type: ignore[assignment]  # None above the first one
    return 0, "main()"
