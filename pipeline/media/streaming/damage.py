"""Count the video frames of a live source that are damaged, or do not arrive, for example over UDP.

>>> damage = Damage(lambda text: None)
>>> for number in (*range(30), 32, 33):
...     damage.frame(number / 25, is_corrupt=number == 33, is_key=number == 0)
>>> damage.missing, damage.damaged
(2, 1)
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable

INTERVALS = 50  # between frames, from which the usual distance is computed
LEAST = 10  # intervals that are needed for it
ALIKE, SHARE = 0.2, 0.7  # of the intervals, 70 % must differ from the usual distance by less than 20 %
GAP = 1.7  # usual distances after which a frame is missing
NOTE = (
    "video frames are damaged or do not arrive, and predictions use the others; check the camera and the "
    "connection (UDP loses packets, TCP does not)"
)


class Damage:
    """Numbers of damaged and of missing video frames.

    Args:
        report: receives a line when the first of them is found.

    Attributes:
        damaged: number of frames that the decoder calls damaged, and of packets that cannot be decoded.
        missing: number of frames that did not arrive, as gaps between the timestamps show. They are counted
            only where the other frames have a regular distance.
    """

    def __init__(self, report: Callable[[str], None]):
        self.damaged = self.missing = 0
        self._report = report
        self.begin()

    def begin(self) -> None:
        """Begin again with a new connection; frames before its first key frame are not counted."""
        self._keyed = False
        self._newest: float | None = None  # timestamp of the newest frame, s
        self._failed = 0  # packets since the newest frame that could not be decoded
        self._distances: deque[float] = deque(maxlen=INTERVALS)

    def failed(self) -> None:
        """Count a packet that cannot be decoded."""
        if self._keyed:
            self._failed += 1
            self._count(damaged=1)

    def frame(self, stamp: float | None, is_corrupt: bool, is_key: bool) -> None:
        """Count what a frame shows.

        Args:
            stamp: its timestamp in s, in the order of presentation; ``None`` where gaps mean nothing.
            is_corrupt: whether the decoder calls it damaged.
            is_key: whether it depends on no other frame.
        """
        self._keyed = self._keyed or is_key
        if not self._keyed:
            return
        missing = 0
        if stamp is not None and self._newest is not None and stamp > self._newest:
            missing = max(0, self._gap(stamp - self._newest) - self._failed)
            self._distances.append(stamp - self._newest)
        self._newest, self._failed = stamp, 0
        self._count(damaged=int(is_corrupt), missing=missing)

    def _gap(self, distance: float) -> int:
        """Return the number of frames that are missing in an interval, s."""
        if len(self._distances) < LEAST:
            return 0
        usual = statistics.median(self._distances)
        alike = sum(abs(other - usual) < ALIKE * usual for other in self._distances)
        if distance < GAP * usual or alike < SHARE * len(self._distances):
            return 0
        return round(distance / usual) - 1

    def _count(self, damaged: int = 0, missing: int = 0) -> None:
        if (damaged or missing) and not (self.damaged or self.missing):
            self._report(NOTE)
        self.damaged += damaged
        self.missing += missing
