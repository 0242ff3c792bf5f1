"""Ctrl-C, SIGTERM and SIGHUP: the main process turns them into one KeyboardInterrupt; workers ignore Ctrl-C.

The system sends SIGHUP when a terminal or the connection to it is closed.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

INTERRUPTED = 130  # exit status of an interrupted command, as shells give it
STOPS_WITHIN = 5.0  # s that an interrupted command has to end by itself
AGAIN_AFTER = 0.02  # s after which a KeyboardInterrupt that Python has dropped is raised again
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Signals that stay ignored where they were at the start: shells set this for background jobs, and nohup.
MAY_BE_IGNORED = frozenset({signal.SIGINT, signal.SIGHUP})


class StopHandler:
    """Raises KeyboardInterrupt in the main thread for the first Ctrl-C, SIGTERM or SIGHUP.

    Further signals have no effect for `STOPS_WITHIN` seconds, so that the command can finish its clean-up;
    after that, another signal ends the process at once with status `INTERRUPTED`.

    After `end`, signals have no effect for the same time: the command is complete, and Python's own end must
    not be interrupted.

    Python cannot pass on an exception from ``__del__`` or from a callback of a weak reference or of ctypes:
    it prints the exception and drops it (`sys.unraisablehook`). A KeyboardInterrupt that is dropped in this
    way is not printed, but raised again `AGAIN_AFTER` seconds later, with a timer (SIGALRM).

    A program that calls a command as a function reacts in its own way again after `restore`.

    Attributes:
        first: when the first signal came, s on `time.monotonic`; ``None`` before it.
        ended: when the command ended, s on `time.monotonic`; ``None`` before that.
        before: the handlers that were there before `install`, keyed by signal.
        hook: `sys.unraisablehook` before `install`; ``None`` if it was not replaced.

    >>> StopHandler().first is None
    True
    """

    def __init__(self) -> None:
        self.first: float | None = None
        self.ended: float | None = None
        self.before: dict[signal.Signals, Any] = {}
        self.hook: Callable[[Any], object] | None = None

    def install(self) -> None:
        """React to the signals from now on; Ctrl-C and SIGHUP stay ignored where they were ignored.

        Python allows the main thread alone to do so; in another thread this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _heeded():
            self.before[number] = signal.signal(number, self._stop)
        self.hook, sys.unraisablehook = sys.unraisablehook, self._unraisable

    def restore(self) -> None:
        """Put the handlers back that were there before `install`, in the place of `end`."""
        if signal.SIGALRM in self.before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        _put_back(self.before)
        self.before.clear()
        if self.hook is not None:
            sys.unraisablehook, self.hook = self.hook, None

    def _unraisable(self, dropped: Any) -> None:
        """React to an exception that Python cannot pass on; a KeyboardInterrupt is raised again."""
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            if self.hook is not None:
                self.hook(dropped)
        elif self.ended is None and threading.current_thread() is threading.main_thread():
            self.before.setdefault(signal.SIGALRM, signal.getsignal(signal.SIGALRM))
            signal.signal(signal.SIGALRM, self._again)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER)

    def _again(self, number: int, frame: FrameType | None) -> None:
        if self.ended is None:
            raise KeyboardInterrupt

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _discard_lost_output()
        now = time.monotonic()
        if self.ended is not None and now - self.ended <= STOPS_WITHIN:
            return
        if self.first is None or self.ended is not None:
            self.first = now
            raise KeyboardInterrupt
        if now - self.first > STOPS_WITHIN:
            os.write(2, b"\nstopped at once\n")  # print() may be what was interrupted
            os._exit(INTERRUPTED)

    def end(self) -> None:
        """Record that the command has ended, and the program with it; call this in the main thread."""
        self.ended = time.monotonic()
        atexit.unregister(_ignore_stop_signals)
        atexit.register(_ignore_stop_signals)


def _heeded() -> list[signal.Signals]:
    """Return the signals to react to: all but those that are ignored and may be so."""
    return [s for s in STOP_SIGNALS if s not in MAY_BE_IGNORED or signal.getsignal(s) is not signal.SIG_IGN]


def _discard_lost_output() -> None:
    """Discard what is written to a terminal that was closed: an error would end the clean-up."""
    for descriptor in (1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _ignore_stop_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _put_back(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        # None: it was not installed by Python, which cannot put it back.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@contextmanager
def keep_stop_handlers() -> Iterator[None]:
    """Put the reactions to these signals back that the block replaced, as imports of some packages do.

    >>> before = signal.getsignal(signal.SIGINT)
    >>> with keep_stop_handlers():
    ...     previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    >>> signal.getsignal(signal.SIGINT) is before
    True
    """
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        _put_back(before)


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
    """Yield an event that the first of the stop signals in the block sets, so that a step can be finished.

    A second one raises KeyboardInterrupt at once. In another thread than the main one nothing sets the event.
    Ctrl-C and SIGHUP stay ignored where they were ignored.

    >>> with stop_requests() as stop:
    ...     stop.is_set()
    False
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _discard_lost_output()
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, request) for s in _heeded()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
