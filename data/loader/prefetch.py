"""Fill a ring of reused buffers in several threads, ahead of one reader, in order.

>>> with Prefetcher([[0], [0]], lambda slot, n: slot.__setitem__(0, n), count=3, threads=2) as items:
...     [slot[0] for slot in items]
[0, 1, 2]
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Slot = TypeVar("Slot")


class Stuck(OSError):
    """No item was ready within the time allowed."""


class Prefetcher(Generic[Slot]):
    """Fill item ``n`` into slot ``n % len(slots)`` as soon as that slot is free.

    The reader may use a slot until it calls `release` or requests the next item. An error in a thread is
    raised in the reader. Leaving the ``with`` block stops the threads; a thread that hangs in a read is left
    behind after ``patience`` at most (the threads are daemons).

    Args:
        slots: reused buffers; the reader uses one of them at a time.
        fill: writes item ``n`` into a slot; runs in the threads.
        count: number after the last item; the first is ``start``.
        threads: number of threads; the order of the items does not depend on it.
        start: number of the first item.
        patience: longest time in s to wait for an item; ``None`` waits forever.

    Raises:
        Stuck: while iterating, if an item is not ready within ``patience``.
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
        self.slots = slots
        self.fill = fill
        self.start = start
        self.stop = count
        self.patience = patience
        self._next = start  # the item that the next free thread fills
        self._released = start  # slots of items below this number are free
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self.patience is None:
            for thread in self._threads:
                thread.join()
            return
        # All threads together have the time of one item, and none where the reader has waited that long.
        patience = 0.0 if kind is not None and issubclass(kind, Stuck) else self.patience
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def ended(self) -> bool:
        """Whether no thread is left that may write into a slot."""
        return not any(thread.is_alive() for thread in self._threads)

    def __iter__(self) -> Iterator[Slot]:
        for n in range(self.start, self.stop):
            self.release(n)
            self._wait_for(n)
            yield self.slots[n % len(self.slots)]

    def _wait_for(self, n: int) -> None:
        """Wait until item ``n`` is filled. Raises Stuck, or the error of a thread."""
        with self._change:
            ready = self._change.wait_for(lambda: n in self._done or self._error is not None, self.patience)
            if self._error is not None:
                raise self._error
            if not ready:
                raise Stuck(f"item {n} was not ready within {self.patience:g} s")
            self._done.discard(n)

    def release(self, below: int) -> None:
        """Let the threads fill the slots of all items below this number again."""
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
            except BaseException as error:  # the reader raises it, whatever it is
                with self._change:
                    self._error = error
                    self._closing = True
                    self._change.notify_all()
                return
            with self._change:
                self._done.add(n)
                self._change.notify_all()
