"""Show a warning of deiii's own code once in a command, however often the code runs.

A cross-validation reads the corpus for every run, and each time the adapter warns of the same files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Once(logging.Filter):
    """Passes each message of deiii's loggers once, and all messages of other packages."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be shown."""
        if record.name.partition(".")[0] != "deiii":
            return True
        text = record.getMessage()
        if text in self._shown:
            return False
        self._shown.add(text)
        return True


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Show each warning once in the block, where Python itself prints warnings because no handler is set.

    Handlers that another program has set get every record.

    >>> with each_warning_once():
    ...     for _ in range(2):
    ...         logging.getLogger("deiii.example").warning("shown once")
    """
    handler = logging.lastResort
    if handler is None:
        yield
        return
    once = _Once()
    handler.addFilter(once)
    try:
        yield
    finally:
        handler.removeFilter(once)
