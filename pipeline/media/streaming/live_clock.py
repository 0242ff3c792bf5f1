"""Times of the frames of a live source, from their timestamps and the times at which they arrive.

>>> clock = LiveClock(begin=1.0)
>>> clock.time(stamp=30.0, passed=1.0, paced=False), clock.time(stamp=30.5, passed=1.6, paced=False)
(1.0, 1.5)
"""

from __future__ import annotations

import math

ASTRAY_S = 5.0  # timestamps that differ by more from the time that has passed are not used
BACK_S = 0.5  # timestamps that go back by more in a recording are those of one that was joined to it
JOIN_S = 0.04  # between the last timestamp of a recording and the first one of what was joined to it


class LiveClock:
    """Times of frames since the beginning: their timestamps, where these keep up with the time that passes.

    Args:
        begin: when this connection was made, s since the beginning.
    """

    def __init__(self, begin: float):
        self._begin = begin
        self._zero: float | None = None  # the timestamp that is `_begin`: the first one
        self._newest: dict[str, float] = {}  # timestamp of each stream
        self._joins: dict[str, int] = {}  # how often those of each stream began again
        self._shifts = [0.0]  # of the timestamps after each join, s
        self._end = -math.inf  # newest timestamp with its shift

    def joined(self, stamp: float, stream: str) -> float:
        """Return a timestamp of a recording; where they begin again, it follows those before."""
        if stamp < self._newest.get(stream, stamp) - BACK_S:
            self._joins[stream] = self._joins.get(stream, 0) + 1
            if self._joins[stream] == len(self._shifts):  # the first stream that begins again
                self._shifts.append(self._end + JOIN_S - stamp)
        self._newest[stream] = stamp
        shifted = stamp + self._shifts[self._joins.get(stream, 0)]
        self._end = max(self._end, shifted)
        return shifted

    def time(self, stamp: float | None, passed: float, paced: bool) -> float:
        """Return the time of a frame in s.

        Args:
            stamp: its timestamp in s; ``None`` where it has none.
            passed: time since the beginning at which it arrived, s.
            paced: whether timestamps alone count, because they decide when a frame of a file is shown.
        """
        if stamp is None:
            return passed
        if self._zero is None:
            self._zero = stamp
        found = self._begin + stamp - self._zero
        if not paced and abs(found - passed) > ASTRAY_S:
            self._zero = stamp - (passed - self._begin)
            return passed
        return max(found, self._begin) if not paced else max(found, 0.0)
