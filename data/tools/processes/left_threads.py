"""Threads that cannot be told to stop, because a library such as FFmpeg waits for the network in them.

Such a thread must not come back from the library after Python has ended: the process would crash.

>>> end_at_once(0)  # does nothing, because no such thread runs
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref

LONGEST_S = 20.0  # that a program waits at its end for such a thread, which has limits of its own
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def watch(thread: threading.Thread) -> None:
    """Let Python wait at its end until a daemon thread has ended.

    >>> watch(threading.Thread(target=print, daemon=True))
    """
    _threads.add(thread)
    atexit.unregister(_wait)
    atexit.register(_wait)


def end_at_once(status: int) -> None:
    """End the process with a status if a thread of `watch` still runs, and do not wait for it.

    What was registered with `atexit` is done before. Call it where the program has nothing else to do.
    """
    # `os._exit` skips what was registered, and Python has no public function that does it before its end.
    # Its package multiprocessing uses this one, too. A Python without it waits for the thread at its end.
    do_registered = getattr(atexit, "_run_exitfuncs", None)
    if do_registered is None or not any(thread.is_alive() for thread in _threads):
        return
    atexit.unregister(_wait)
    do_registered()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nothing reads it any more, or it is closed
            stream.flush()
    os._exit(status)


def _wait() -> None:
    for thread in list(_threads):
        if thread.is_alive():
            thread.join(LONGEST_S)
