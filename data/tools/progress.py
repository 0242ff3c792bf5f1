"""Progress of long work: a bar on a terminal, a line every 30 s in a log file.

A log that is not a terminal would keep every redrawn bar, some of them each few milliseconds. There, a bar
of work that ends within 30 s writes no line at all. Longer work also writes its lines while no unit is
finished, for example while workers start; of nested bars only the innermost one does.

>>> for item in progress_bar([1, 2, 3], desc="clips", unit="clip"):
...     pass
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from deiii.data.tools.text.printable import printable, printable_name, unescaped_stderr

LINE_S = 30.0  # seconds between two lines in a log
SHORTEST_WAIT_S = 0.05  # between two looks at whether a line is due
BAR_AFTER_S = 2.0  # work that is usually short shows its bar only after this time
_quiet = [False]  # whether the commands of this process report nothing but errors, notes and results' paths
_shown = [False]  # whether this process has reported anything
_open: list[weakref.ref[LogProgress]] = []  # what reports to a log, the innermost last


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Show no bars and let `say` print nothing in the block, as ``--quiet`` asks for; nothing if false.

    >>> with quietly():
    ...     say("12 clips in 3.0 s")
    """
    before, _quiet[0] = _quiet[0], quiet
    try:
        yield
    finally:
        _quiet[0] = before


def say(text: str, end: str = "\n") -> None:
    """Print a line on the progress of a command, unless the command is to be quiet (`quietly`).

    Print errors and the paths of results with ``print``: they are always shown.

    >>> say("12 clips in 3.0 s")
    12 clips in 3.0 s
    """
    if not _quiet[0]:
        _shown[0] = True
        print(printable(text), end=end, flush=True)


def always_shown(report: Callable[[str], None]) -> Callable[[str], None]:
    """Return the function for text that is shown even with ``--quiet``, where ``report`` is `say`.

    >>> with quietly():
    ...     always_shown(say)("no prediction")
    no prediction
    """
    return _print if report is say else report


def _print(text: str) -> None:
    print(printable(text), flush=True)


def show_no_loading_note() -> None:
    """Suppress `loading_note`: this process reports at once, without `say` and `progress_bar`."""
    _shown[0] = True


@contextmanager
def loading_note(text: str, after_s: float = BAR_AFTER_S) -> Iterator[None]:
    """Write a line to standard error if a block reports nothing for ``after_s`` seconds.

    Libraries such as PyTorch take seconds to load, before a command has anything to report.

    >>> with loading_note("loading PyTorch ..."):
    ...     pass
    """

    def write() -> None:
        if not _shown[0] and not _quiet[0]:
            print(text, file=sys.stderr, flush=True)

    timer = threading.Timer(after_s, write)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def progress_bar(
    items: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    scale: bool = False,
    delay: float = 0.0,
    leave: bool = True,
    shown: bool = True,
) -> ProgressBar:
    """Start to report progress on standard error.

    Args:
        items: what to iterate over; else call ``update`` of the result.
        desc: what is being done, in front of the line.
        unit: unit of ``total``, for example ``clip`` or ``B``.
        total: number of units; where unknown, counts are shown without a share.
        initial: units that were finished before.
        scale: show large numbers as 1.2k, 3.4M.
        delay: time in s before which nothing is shown on a terminal.
        leave: keep the finished bar on the terminal.
        shown: ``False`` reports nothing; nor does a command with ``--quiet`` (`quietly`).

    Returns:
        a context manager and an iterator with tqdm's ``update``, ``set_postfix_str``, ``reset``, ``clear``
        and ``close``.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]  # checked in the line above
    desc = printable_name(desc)  # may be the name of a file
    shown = shown and not _quiet[0]
    _shown[0] |= shown and not delay
    if shown and not sys.stderr.isatty():
        return LogProgress(items, desc, unit, total, initial, scale)
    return tqdm(
        items,
        desc=desc,
        unit=unit,
        total=total,
        initial=initial,
        unit_scale=scale,
        delay=delay,
        leave=leave,
        disable=not shown,
        dynamic_ncols=True,
        file=unescaped_stderr(),
    )


class LogProgress:
    """Writes whole lines of progress, one every `LINE_S` seconds; made by `progress_bar`."""

    def __init__(
        self,
        items: Iterable[Any] | None,
        desc: str,
        unit: str,
        total: int | None,
        initial: int = 0,
        scale: bool = False,
    ):
        self.n: float = initial
        self.total = total
        self._items = items
        self._initial = initial
        self._desc = desc
        self._unit = unit
        self._scale = scale
        self._postfix = ""
        self._start = self._written = time.monotonic()
        self._first: tuple[float, float] | None = None  # time of the first update, and units counted then
        self._line: float | None = None  # units in the last line
        self._lock = threading.RLock()
        self._closed = threading.Event()
        _open.append(weakref.ref(self))
        threading.Thread(target=_write_while_waiting, args=(_open[-1], self._closed), daemon=True).start()

    def __iter__(self) -> Iterator[Any]:
        with self:
            for item in self._items or ():
                yield item
                self.update()

    def __enter__(self) -> LogProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Count ``n`` more units; writes a line where the last one is `LINE_S` seconds old."""
        with self._lock:
            self.n += n
            if self._first is None:
                self._first = time.monotonic(), self.n
            if time.monotonic() - self._written >= LINE_S:
                self._write()

    def waited(self) -> float:
        """Write a line where the last one is `LINE_S` seconds old; returns the time to the next in s."""
        with self._lock:
            if time.monotonic() - self._written >= LINE_S and not self._closed.is_set():
                self._write()
            return self._written + LINE_S - time.monotonic()

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Set what the following lines end with; ``refresh`` is tqdm's and has no effect."""
        self._postfix = text

    def reset(self) -> None:
        """Start the count and the time again from 0."""
        with self._lock:
            self.n = 0
            self._start = self._written = time.monotonic()
            self._first = self._line = None

    def clear(self) -> None:
        """Do nothing: a line that was written needs no clearing."""

    def close(self) -> None:
        """Write a last line if there was one before that did not count all units."""
        with self._lock:
            if not self._closed.is_set() and self._line not in (None, self.total):
                self._write()
            self._closed.set()

    def _write(self) -> None:
        self._written, self._line = time.monotonic(), self.n
        rate = None  # over the whole time
        if self._first is not None and self.n > self._first[1]:
            # What comes before the first unit, such as the start of workers, happens only once.
            rate = (self.n - self._first[1]) / max(self._written - self._first[0], 1e-9)
        line = tqdm.format_meter(
            self.n,
            self.total or 0,  # 0 counts without a share
            self._written - self._start,
            ncols=0,
            prefix=self._desc,
            unit=self._unit,
            unit_scale=self._scale,
            initial=self._initial,
            rate=rate,
            postfix=self._postfix or None,
        )
        print(line, file=sys.stderr, flush=True)


def _write_while_waiting(reference: weakref.ref[LogProgress], closed: threading.Event) -> None:
    """Write lines while no unit is finished, until a bar is closed or nobody uses it any more."""
    wait_s = LINE_S
    while not closed.wait(max(SHORTEST_WAIT_S, wait_s)) and (bar := reference()) is not None:
        wait_s = bar.waited() if _open[-1] is reference else LINE_S
        del bar
    _open.remove(reference)


ProgressBar = tqdm | LogProgress  # what `progress_bar` returns
