"""Ctrl-C and SIGTERM: heard once, by the process that people started, and by none of its workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

INTERRUPTED = 130  # exit status
STOPS_WITHIN = 5.0  # s


def install_stop_handler() -> None:
    """Let SIGTERM and Ctrl-C raise KeyboardInterrupt, once.

    Whoever insists is not heard while there is still time to tidy up as promised; after
    `STOPS_WITHIN` seconds, asking again ends the process at once.
    """
    stop = _handler()
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell ignores it for jobs in the background
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
    """Processes that are started in the block never see Ctrl-C, nor do those of threads started in it.

    A terminal sends it to every process of its group. Workers would each print a trace, while the
    process that started them is there to end them.

    >>> with block_sigint():  # doctest: +SKIP
    ...     process.start()
    """
    resource_tracker.ensure_running()  # multiprocessing's; starting it later would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
