"""A ring of slots that a few threads fill ahead of one reader, in order.

>>> with Prefetcher([[0], [0]], lambda slot, n: slot.__setitem__(0, n), count=3, threads=2) as ring:
...     [slot[0] for slot in ring]
[0, 1, 2]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Slot = TypeVar("Slot")


class Stuck(OSError):
    """No item came within the time allowed."""


class Prefetcher(Generic[Slot]):
    """Fills item ``n`` into slot ``n % len(slots)`` as soon as that slot is free.

    Args:
        slots: reused buffers; one of them is with the reader.
        fill: writes item ``n`` into a slot; runs in the threads.
        count: how many items; they are numbered from ``start``.
        threads: how many fill; the order of the items never depends on it.
        patience: s to wait for an item before `Stuck` is raised; ``None`` waits forever.

    A slot is the reader's until it calls `release` (or asks for the next item). An error in a
    thread is raised to the reader. Leaving the ``with`` block stops the threads; one that hangs in a
    read is left behind (they are daemons).
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        fill: Callable[[Slot, int], None],
        count: int,
        threads: int,
        start: int = 0,
        patience: float | None = None,
    ):
        self.slots, self.fill, self.start, self.stop = slots, fill, start, count
        self.patience = patience
        self._next = start  # the item a free thread takes
        self._released = start  # items below it have left their slots
        self._done: set[int] = set()
        self._error: BaseException | None = None
        self._closing = False
        self._change = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"loader-{n}", daemon=True)
            for n in range(max(1, threads))
        ]

    def __enter__(self) -> Prefetcher[Slot]:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._closing = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join(self.patience)

    def __iter__(self) -> Iterator[Slot]:
        for n in range(self.start, self.stop):
            self.release(n)
            with self._change:
                come = self._change.wait_for(
                    lambda n=n: n in self._done or self._error is not None, self.patience
                )
                if self._error is not None:
                    raise self._error
                if not come:
                    raise Stuck(f"item {n} did not come within {self.patience:g} s")
                self._done.discard(n)
            yield self.slots[n % len(self.slots)]

    def release(self, below: int) -> None:
        """Give the slots of all items below this number back to the threads."""
        with self._change:
            if below > self._released:
                self._released = below
                self._change.notify_all()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(
                    lambda: (
                        self._closing
                        or self._next >= self.stop
                        or self._next < self._released + len(self.slots)
                    )
                )
                if self._closing or self._next >= self.stop:
                    return
                n = self._next
                self._next += 1
            try:
                self.fill(self.slots[n % len(self.slots)], n)
            except BaseException as error:  # handed to the reader, whatever it is
                with self._change:
                    self._error, self._closing = error, True
                    self._change.notify_all()
                return
            with self._change:
                self._done.add(n)
                self._change.notify_all()
