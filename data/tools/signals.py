"""Ctrl-C and SIGTERM: the main process turns both into one KeyboardInterrupt; workers ignore Ctrl-C.

Also: a script that starts worker processes without a main guard is told so.

Worker processes of this machine start by importing the script that started them (the ``spawn`` method
of multiprocessing). Without ``if __name__ == "__main__":`` that import starts workers again, in every
worker: each call of `preprocess` would wait for the others without end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

INTERRUPTED = 130  # exit status of an interrupted command, as shells give it
STOPS_WITHIN = 5.0  # s that an interrupted command has to end by itself


def install_stop_handler() -> None:
    """Let the first Ctrl-C or SIGTERM raise KeyboardInterrupt in the main thread.

    Further signals have no effect for `STOPS_WITHIN` seconds, so that the command can finish its clean-up;
    after that, another signal ends the process at once with status `INTERRUPTED`.
    """
    stop = _handler()
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # shells set this for background jobs
        signal.signal(signal.SIGINT, stop)


def _handler() -> Callable[[int, FrameType | None], None]:
    first: float | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = now
            raise KeyboardInterrupt
        if now - first > STOPS_WITHIN:
            os._exit(INTERRUPTED)

    return stop


@contextmanager
def block_sigint() -> Iterator[None]:
    """Let processes started in the block ignore Ctrl-C, and those started by threads of the block too.

    A terminal sends Ctrl-C to every process of its group. Without the block each worker would print a
    traceback; with it, the main process alone reacts and ends its workers.

    >>> with block_sigint():  # doctest: +SKIP
    ...     process.start()
    """
    # multiprocessing starts its resource tracker on demand and unblocks SIGINT then; start it before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM in the block sets, so that a step can be finished.

    A second one raises KeyboardInterrupt at once. In another thread than the main one nothing sets the event.

    >>> with stop_requests() as stop:
    ...     stop.is_set()
    False
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


MARK = "DEIII_MAIN_GUARD"  # environment variable: the file that a worker writes to
GUARD_EXAMPLE = """\
put the call under a main guard:

    from deiii.pipeline.preprocess.graph import preprocess

    if __name__ == "__main__":
        preprocess(config, corpus)
"""


class UnguardedMain(RuntimeError):
    """The script calls `preprocess` at its top level; the message shows the guard that it needs."""


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
        os.environ[MARK] = str(mark)
        try:
            yield mark
        finally:
            del os.environ[MARK]


def check_main_guard(mark: Path) -> None:
    """Raise UnguardedMain if a worker has left its mark."""
    if mark.exists():
        script = getattr(sys.modules["__main__"], "__file__", None) or "the script"
        raise UnguardedMain(f"{script} starts worker processes at its top level; {GUARD_EXAMPLE}")
