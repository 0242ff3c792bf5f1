"""The clock of a stream: it gives decoded items (video frames, blocks of audio) times that rise.

Timestamps in real files are wrong now and then: one packet is marked 2 s late, two recordings were
joined and the second starts again at zero, a container stores them in decoding order. `Clock`
compares every timestamp with the one that the duration of the items before it predicts. Where they agree, the
timestamp is used as it is. Where they do not, up to ``window`` items are held back, and the cheapest
explanation of their timestamps (`deiii.pipeline.media.timestamps`) decides.

This module does not read files; all times are float seconds. `deiii.pipeline.media.joins` compares the clocks
of several streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

from deiii.pipeline.media.timestamps import Joins, Rounding, Window, fit_line

T = TypeVar("T")

MOST_REMARKS = 3  # restarts that are listed one by one
GAP_S = 0.03  # shorter gaps are not listed
OVERLAP_S = 0.1  # a stream that steps back by less than this, alone, overlaps; by more it starts again
JUMP_S = 10.0  # a jump ahead of all streams by more than this is not a pause of the recording


@dataclass(frozen=True)
class Restart:
    """A place at which a stream's timestamps start again or jump.

    Attributes:
        index: number of the first item after it.
        end: end of the items before it, s on the stream's own timestamps.
        start: timestamp of the first item after it, s.
    """

    index: int
    end: float
    start: float


class Clock(Generic[T]):
    """Gives the items of one stream times that follow their timestamps and are robust to wrong ones.

    Args:
        step: nominal duration of an item in s, for those without a stated duration.
        jitter: a timestamp this close to the predicted one is taken as it is, s.
        window: how many items may be held back.
        reorder: whether items whose timestamps are those of their neighbours are sorted (video).
        sort: whether timestamps are known to be in decoding order, so that gaps may be among those
            that are sorted.
        shift: what to add to the timestamps, s.
        joins: places after which all streams of the file have other timestamps, and the shift of what
            follows; None if nothing is known of other streams.
        rounding: how the timestamps were rounded; None if they were not. A rounded timestamp gives the
            earliest and the latest time at which its item begins; within these, items follow each other
            without gaps.

    Attributes:
        outliers: how many timestamps were corrected.
        unordered: how many timestamps were put in order.
        restarts: time of each restart and by how much the timestamps went back (below 0) or ahead, s.
        gaps: start and end of each gap of at least `GAP_S` and more than ``jitter``, s.
        overlaps: time of each overlap and its length, s.
        breaks: restarts, overlaps and jumps ahead by more than `JUMP_S`, on the stream's own timestamps.
        end: end of the last item, on the stream's own timestamps, s.

    Raises:
        ValueError: ``step`` is not above 0.

    Times rise strictly, except where the stream overlaps itself; a reader cuts or drops what overlaps.

    >>> clock = Clock(step=1.0, jitter=0.1)
    >>> placed = [p for i, t in enumerate([0.0, 1.0, 9.0, 3.0, 4.0]) for p in clock.add(i, t)]
    >>> [time for _, time in placed + clock.finish()]
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """

    def __init__(
        self,
        step: float,
        jitter: float,
        window: int = 32,
        reorder: bool = False,
        sort: bool = False,
        shift: float = 0.0,
        joins: Joins | None = None,
        rounding: Rounding | None = None,
    ):
        if not step > 0:
            raise ValueError(f"an item's duration must be more than 0 s, not {step}")
        self._slack = rounding.unit / 2 if rounding else 0.0  # how far an item may lie from its timestamp, s
        self._start = rounding.start if rounding else None
        self.step, self.jitter, self.window = step, jitter + self._slack, max(4, window)
        self.reorder, self.sort, self.joins = reorder, sort, joins
        self.outliers, self.unordered = 0, 0
        self.restarts: list[tuple[float, float]] = []
        self.gaps: list[tuple[float, float]] = []
        self.overlaps: list[tuple[float, float]] = []
        self.breaks: list[Restart] = []
        self._held: list[tuple[T, float | None, float]] = []
        self._out: list[tuple[T, float]] = []
        self._last: float | None = None  # timestamp of the last placed item
        self._next: float | None = None  # predicted timestamp of the next item
        self._shift, self._placed = shift, 0

    @property
    def end(self) -> float | None:
        """End of the last item, on the stream's own timestamps, s; ``None`` before the first."""
        return self._next

    def add(self, item: T, stamp: float | None, seconds: float | None = None) -> list[tuple[T, float]]:
        """Take the next item; returns the items that have their times now.

        Args:
            item: anything.
            stamp: its timestamp, s; None where it has none.
            seconds: how long it lasts; ``step`` where this is None or no duration.
        """
        seconds = seconds if seconds is not None and 0 < seconds < 1e6 else self.step
        self._held.append((item, stamp, seconds))
        self._advance()
        return self._taken()

    def finish(self) -> list[tuple[T, float]]:
        """Place what is held back at the stream's end."""
        while self._held:
            self._resolve(len(self._held))
            self._advance()
        return self._taken()

    def _advance(self) -> None:
        while self._held:
            stamp = self._regular_stamp()
            if stamp is not None:
                self._place(self._held.pop(0), stamp)
            elif len(self._held) >= self.window:
                self._resolve(max(1, self.window // 2))
            else:
                return

    def _regular_stamp(self) -> float | None:
        """Return the timestamp of the first held item; None if it does not agree with its neighbours."""
        _, stamp, seconds = self._held[0]
        if self._next is not None and self._last is not None:
            stamp = self._next if stamp is None else self._unrounded(stamp, self._next)
            return stamp if abs(stamp - self._next) <= self.jitter and stamp > self._last else None
        if self._start is not None:
            return None  # only all held items together determine where the stream begins
        # Timestamps of the first items of the stream.
        stamps = [s for _, s, _ in self._held[:3] if s is not None]
        if len(stamps) < 3:
            return None
        follow = all(
            b > a and abs(b - a - seconds) <= self.jitter
            for (a, b), (*_, seconds) in zip(pairwise(stamps), self._held, strict=False)
        )
        return stamp if follow else None

    def _unrounded(self, stamp: float, predicted: float) -> float:
        """Return the time nearest to the predicted one that rounding could turn into this timestamp, s."""
        if not self._slack or abs(stamp - predicted) > self.jitter:
            return stamp
        nearest = max(stamp - self._slack, min(predicted, stamp + self._slack))
        return nearest if self._last is None or nearest > self._last else predicted

    def _line(self, held: Sequence[tuple[T, float | None, float]]) -> float | None:
        """Return the begin in s of the first of some items, found from all their rounded timestamps."""
        begins = list(accumulate((seconds for *_, seconds in held[:-1]), initial=0.0))
        pairs = [(s, b) for (_, s, _), b in zip(held, begins, strict=True) if s is not None]
        return fit_line([s for s, _ in pairs], [b for _, b in pairs], 2 * self._slack)

    def _stamps(self) -> list[float | None]:
        """Return the timestamps of the held items; rounded ones move to the times that the others predict."""
        if not self._slack or self._next is None:
            return [stamp for _, stamp, _ in self._held]
        found: list[float | None] = []
        predicted = [self._next]  # after what came before, and after each timestamp that does not follow
        for i, (_, stamp, seconds) in enumerate(self._held):
            if stamp is not None:
                near = next((k for k, p in enumerate(predicted) if abs(stamp - p) <= self.jitter), None)
                if near is None:
                    near, start = len(predicted), self._line(self._held[i:])
                    predicted.append(stamp if start is None else start)
                stamp = predicted[near] = self._unrounded(stamp, predicted[near])
            found.append(stamp)
            predicted = [p + seconds for p in predicted]
        return found

    def _taken(self) -> list[tuple[T, float]]:
        out, self._out = self._out, []
        return out

    def _place(self, held: tuple[T, float | None, float], stamp: float) -> None:
        item, _, seconds = held
        self._out.append((item, stamp + self._shift))
        self._placed += 1
        self._last, self._next = stamp, stamp + seconds

    def _resolve(self, count: int) -> None:
        """Place about the first ``count`` held items; the decision takes all held items into account."""
        if self._next is None and self._start is not None:
            start = self._line(self._held)
            self._next = self._start if start is None else start
            self._last = self._next - self.step
        if self._next is None:
            if all(stamp is None for _, stamp, _ in self._held):
                self._last, self._next = -self.step, 0.0
            else:
                count = 1  # the place of each later item depends on the one before it
        window = Window(
            self._stamps(),
            [seconds for *_, seconds in self._held],
            self._last,
            self._next,
            self.step,
            self.jitter,
            self.reorder,
            self.sort,
            self.joins,
        )
        n = window.ordered()
        if n:
            self.unordered += n
            stamps = sorted(window.known[i] for i in range(n))
            held, self._held = self._held[:n], self._held[n:]
            for one, stamp in zip(held, stamps, strict=True):
                self._arrive(stamp)
                self._place(one, stamp)
            return
        path = window.rising() or window.cheapest()
        done = 0
        for index, restart in path:
            if done and index >= count:
                break
            skipped, self._held = self._held[: index - done], self._held[index - done :]
            stamp = window.known[index]
            self._skip(skipped, None if restart else stamp)
            self._arrive(stamp, restart)
            self._place(self._held.pop(0), stamp)
            done = index + 1
        ends = done < count and (not path or done > path[-1][0])
        if ends and self._held:  # no timestamp of the remaining items can be used
            held, self._held = self._held, []
            self._skip(held, None)

    def _skip(self, items: Sequence[tuple[T, float | None, float]], goal: float | None) -> None:
        """Place items whose timestamps are not used: by count, or between their neighbours."""
        if not items:
            return
        self.outliers += sum(stamp is not None for _, stamp, _ in items)
        length = sum(seconds for *_, seconds in items)
        if self._next is None or self._last is None:
            self._next = (goal or 0.0) - length
            self._last = self._next - self.step
        scale = 1.0
        if goal is not None and goal < self._next + length - 1e-9:  # the items are longer than the gap
            before = self._next - self._last
            start = self._last
            scale = (goal - start) / (before + length)
            self._next = start + before * scale
        for one in items:
            self._place((one[0], None, one[2] * scale), self._next)

    def _arrive(self, stamp: float, restart: bool = False) -> None:
        """Note how the next item, which will be placed at ``stamp``, follows the last one."""
        if self._next is None:
            return
        end, gap = self._next, stamp - self._next
        if not restart and gap <= self.jitter:
            return
        if restart or gap > JUMP_S:
            self.breaks.append(Restart(self._placed, end, stamp))
        shift = self.joins.use(end, stamp) if self.joins else None
        if shift is not None:
            # Decoded items may last longer than their packets state.
            self._shift = max(shift, end + self._shift - stamp)
            self.restarts.append((stamp + self._shift, gap))
        elif restart and gap > -OVERLAP_S and self.joins:
            self.overlaps.append((stamp + self._shift, -gap))
        elif restart:
            self._shift = end + self._shift - stamp
            self.restarts.append((stamp + self._shift, gap))
        elif gap >= GAP_S:
            self.gaps.append((end + self._shift, stamp + self._shift))


def clock_remarks(clock: Clock, kind: str) -> list[str]:
    """Describe what a clock corrected.

    Args:
        clock: clock of a whole stream.
        kind: "audio" or "video".

    >>> clock = Clock(step=1.0, jitter=0.1)
    >>> _ = [clock.add(i, t) for i, t in enumerate([0.0, 1.0, 9.0, 3.0, 4.0])], clock.finish()
    >>> clock_remarks(clock, "video")
    ['1 timestamp of the video is wrong; its time was interpolated']
    """
    remarks = []
    if clock.outliers == 1:
        remarks.append(f"1 timestamp of the {kind} is wrong; its time was interpolated")
    elif clock.outliers:
        remarks.append(f"{clock.outliers} timestamps of the {kind} are wrong; their times were interpolated")
    if clock.unordered and not clock.sort:
        remarks.append(f"{clock.unordered} timestamps of the {kind} are in decoding order; they were sorted")
    for time, move in clock.restarts[:MOST_REMARKS]:
        how = "start again" if move < 0 else "jump"
        remarks.append(
            f"the timestamps of the {kind} {how} at {time:.2f} s (joined recordings?); what follows was "
            "placed behind what came before"
        )
    if clock.overlaps:
        seconds = sum(length for _, length in clock.overlaps)
        remarks.append(f"{seconds:.2f} s of the {kind} overlap what came before and were left out")
    return remarks
