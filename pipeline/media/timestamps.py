"""Decide which timestamps of successive items can be used, and where they start again.

`Window` looks at the timestamps of the items that a `deiii.pipeline.media.clock.Clock` holds back, and finds
the cheapest of these explanations:

- a gap: the timestamps go on rising from a later one. They are used as they are.
- outliers: a few items do not fit between their neighbours, which fit each other. They are not used.
- a restart: the timestamps go back and rise from there.
- another order: the timestamps are those of their neighbours, in decoding order.

`find_rounding` recognises timestamps that a container or a recorder rounded to 10 or 100 ms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

# Costs of the explanations. One outlier costs less than a restart, and a long run of them costs more,
# unless the timestamps return to where they would be without the run.
GAP_COST = 0.6
OUTLIER_COST = 1.0
FURTHER_OUTLIER_COST = 0.05  # cost of each further outlier of a run after which the timestamps return
ORDERED_OUTLIER_COST = 0.3  # additional cost of an outlier whose timestamp lies between its neighbours
RESTART_COST = 2.2
JOIN_COST = 0.5  # cost of a restart that is a join of all streams

# Timestamps that were rounded.
MIN_UNIT_S = 0.005  # rounding to smaller units needs no correction
MIN_LINE_ITEMS = 16  # fewest items that must fit one line
EXAMINED_ITEMS = 256  # number of items at the start of a stream that are examined
MIN_DISTANCE_SHARE = 0.02  # smallest share of all distances at which a distance is considered
MAX_EQUAL_SHARE = 0.07  # share of equal timestamps above which the rounding unit is larger than a step
MIN_EXPLAINED_SHARE = 0.9  # share of the distances that rounding must explain; the others may be wrong
MIN_DEVIATION_UNITS = 0.4  # least spread of the timestamps around the line, in units; exact ones have less


class Joins(Protocol):
    """Gives the breaks that all streams of a file share; `deiii.pipeline.media.joins.JoinFinder` is one."""

    def peek(self, end: float, start: float) -> bool:
        """Return whether a join lies between the end of what came before and the timestamp after it, s."""
        ...

    def use(self, end: float, start: float) -> float | None:
        """Return the whole shift of what follows a join, s; None if there is none."""
        ...


class Timed(Protocol):
    """An item with a timestamp and a duration in s; `deiii.pipeline.media.joins.Packet` is one."""

    @property
    def stamp(self) -> float | None: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class Rounding:
    """How the timestamps of a stream were rounded.

    Attributes:
        unit: number of seconds of which the timestamps are multiples.
        start: when the first item begins, estimated from all of them, on the timestamps, s.
        step: duration of an item, s.
    """

    unit: float
    start: float
    step: float


def find_rounding(stamps: Sequence[float], tick: float, steps: Sequence[float]) -> Rounding | None:
    """Return how the timestamps of equally long items were rounded; None if by less than 5 ms or not at all.

    Timestamps that are multiples of a unit, lie within half of it around a line and do not lie on that line
    were rounded. Those of items whose duration is a multiple of the unit are exact.

    Args:
        stamps: timestamps in the order of presentation, s.
        tick: the stream's time base, s.
        steps: durations that an item may have, s, the likeliest first; they should be exact to 1 in 1000. The
            mean distance of the timestamps is tried last.

    >>> stamps = [round(0.7 * i) * 1.0 for i in range(40)]
    >>> find_rounding(stamps, 0.001, [0.7]).unit
    1.0
    >>> find_rounding([0.04 * i for i in range(40)], 0.001, [0.04]) is None
    True
    """
    stamps = stamps[:EXAMINED_ITEMS]
    unit = _unit(stamps, tick)
    if unit < MIN_UNIT_S:
        return None
    for step in (*steps, _slope(stamps)):
        for first in range(4):  # the first timestamps may be wrong
            begins = [step * i for i in range(len(stamps))]
            start = fit_line(stamps[first:], begins[first:], unit)
            if start is not None and _neighbours(stamps[first:], step, unit):
                return Rounding(unit, start, step)
    return None


def are_exact(packets: Sequence[Timed], tick: float) -> bool:
    """Return whether nearly all packets begin where the one before ends, to 1.5 ticks of the time base.

    The packets of Vorbis and Opus have several lengths, which they state.
    """
    times = [(p.stamp, p.seconds) for p in packets if p.stamp is not None]
    near = [abs(b - a - seconds) <= 1.5 * tick for (a, seconds), (b, _) in pairwise(times)]
    return sum(near) >= MIN_EXPLAINED_SHARE * len(near)


def _neighbours(stamps: Sequence[float], step: float, unit: float) -> bool:
    """Return whether distances of timestamps are one of two neighbouring multiples, as rounding makes them.

    Distances such as 1, 3, 1, 3 units also lie around a line, but rounding does not give them: the frame rate
    varies.
    """
    least = math.floor(step / unit)
    near = [round((b - a) / unit) in (least, least + 1) for a, b in pairwise(stamps)]
    return sum(near) >= MIN_EXPLAINED_SHARE * len(near)


def _unit(stamps: Sequence[float], tick: float) -> float:
    """Return the largest number of s of which nearly all distances between timestamps are multiples.

    It is 0 where all distances are alike: such timestamps are not rounded.
    """
    if not tick > 0 or len(stamps) < MIN_LINE_ITEMS:
        return 0.0
    counts = Counter(round((b - a) / tick) for a, b in pairwise(stamps))
    least = max(2.0, MIN_DISTANCE_SHARE * len(stamps))
    if counts[0] < MAX_EQUAL_SHARE * len(stamps):  # a few equal timestamps are wrong ones, not rounded ones
        del counts[0]
    usual = [distance for distance, count in counts.items() if count >= least]
    return math.gcd(*usual) * tick if len(usual) > 1 else 0.0


def _slope(stamps: Sequence[float]) -> float:
    """Return the mean distance of timestamps, by least squares, s."""
    middle = (len(stamps) - 1) / 2
    squares = sum((i - middle) ** 2 for i in range(len(stamps)))
    return sum((i - middle) * stamp for i, stamp in enumerate(stamps)) / squares


def fit_line(stamps: Sequence[float], begins: Sequence[float], unit: float) -> float | None:
    """Return the shift in s after which rounding turns the begins of items into their first timestamps.

    Args:
        stamps: timestamps of the items, s.
        begins: when each item begins, from any zero, s.
        unit: unit to which the timestamps were rounded, s.

    Returns:
        the middle of what is possible; None if fewer than 16 timestamps fit, or if they are exact.

    >>> begins = [0.7 * i for i in range(40)]
    >>> round(fit_line([round(0.25 + begin) for begin in begins], begins, 1.0), 2)
    0.25
    """
    half = 0.5 * unit + 0.02 * unit + 0.001
    low, high = float("-inf"), float("inf")
    starts: list[float] = []
    left_out = in_a_row = 0
    for stamp, begin in zip(stamps, begins, strict=True):
        start = stamp - begin
        if start + half < low or start - half > high:
            left_out, in_a_row = left_out + 1, in_a_row + 1
            if in_a_row > 4:  # a gap, or another line
                break
            continue
        in_a_row = 0
        low, high = max(low, start - half), min(high, start + half)
        starts.append(start)
    fits = len(starts) >= MIN_LINE_ITEMS and len(starts) >= 4 * (left_out - in_a_row)
    return (low + high) / 2 if fits and max(starts) - min(starts) > MIN_DEVIATION_UNITS * unit else None


@dataclass(frozen=True)
class Window:
    """Successive items that do not follow from what came before.

    Attributes:
        stamps: their timestamps, s; None where an item has none.
        seconds: their durations, s.
        last: timestamp of the item before them, s; None at the start of a stream.
        predicted: expected timestamp of the first of them, s; None at the start of a stream.
        step, jitter, reorder, sort, joins: attributes of `deiii.pipeline.media.clock.Clock`.

    >>> w = Window([9.0, 2.0, 3.0], [1.0] * 3, 0.0, 1.0, 1.0, 0.1)
    >>> w.cheapest()  # the timestamps of items 1 and 2 are used, item 0 is an outlier
    [(1, False), (2, False)]
    """

    stamps: Sequence[float | None]
    seconds: Sequence[float]
    last: float | None
    predicted: float | None
    step: float
    jitter: float
    reorder: bool = False
    sort: bool = False
    joins: Joins | None = None

    @property
    def known(self) -> dict[int, float]:
        """The timestamps of the items that have one, by number of the item."""
        return {i: stamp for i, stamp in enumerate(self.stamps) if stamp is not None}

    def ordered(self) -> int:
        """Return how many first items need only sorted timestamps to follow the last one; 0 for none."""
        stamps = list(self.known.values())
        if not (self.reorder or self.sort) or self.predicted is None or self.last is None:
            return 0
        if len(stamps) < len(self.stamps):
            return 0
        if all(b > a for a, b in pairwise(stamps)) or min(stamps) <= self.last:
            return 0
        for n in range(2, len(stamps) + 1):
            block = sorted(stamps[:n])
            if self.sort:
                closed = n < len(stamps) and block[-1] < min(stamps[n:])
                if (closed or n == len(stamps)) and all(b > a for a, b in pairwise(block)):
                    return n if block != stamps[:n] else 0
            else:
                steps = [b - a for a, b in pairwise([self.predicted - self.step, *block])]
                if all(0.4 * self.step < s < 1.6 * self.step for s in steps):
                    if block != stamps[:n]:
                        return n
        return 0

    def rising(self) -> list[tuple[int, bool]]:
        """Return all held items, where their timestamps rise."""
        last = float("-inf") if self.last is None else self.last
        for stamp in self.known.values():
            if stamp <= last:
                return []
            last = stamp
        return [(i, False) for i in self.known]

    def cheapest(self) -> list[tuple[int, bool]]:
        """Return the items whose timestamps are used, with whether the timestamps start again there.

        Dynamic programming over the held items finds the cheapest chain of rising timestamps. The cost of an
        item depends on its distance from the item before it.
        """
        offsets = [0.0]
        for seconds in self.seconds:
            offsets.append(offsets[-1] + seconds)
        costs: dict[int, float] = {}
        parents: dict[int, tuple[int, bool]] = {}
        known = self.known
        for i in known:
            for before in (-1, *(k for k in known if k < i)):
                if before >= 0 and before not in costs:
                    continue
                base = costs[before] if before >= 0 else 0.0
                for restart in (False, True):
                    cost = base + self._cost(known, offsets, before, i, restart)
                    if cost < costs.get(i, float("inf")):
                        costs[i], parents[i] = cost, (before, restart)
        if not costs:
            return []
        left = {i: sum(k > i for k in known) for i in costs}
        at = min(costs, key=lambda i: (costs[i] + OUTLIER_COST * left[i], i))
        path = []
        while at >= 0:
            before, restart = parents[at]
            path.append((at, restart))
            at = before
        return path[::-1]

    def _cost(
        self, stamps: dict[int, float], offsets: list[float], before: int, at: int, restart: bool
    ) -> float:
        """Return the cost of using item ``at`` next after item ``before`` (-1: the last placed one)."""
        never = float("inf")
        skipped = [stamps[i] for i in range(before + 1, at) if i in stamps]
        if before >= 0:
            last = stamps[before]
            predicted = last + offsets[at] - offsets[before]
        elif self.predicted is not None and self.last is not None:
            last, predicted = self.last, self.predicted + offsets[at]
        else:  # the stream's start: later timestamps before earlier ones are wrong
            return never if restart or any(s < stamps[at] for s in skipped) else OUTLIER_COST * len(skipped)
        miss = stamps[at] - predicted
        tolerance = max(self.jitter, 0.6 * self.step if self.reorder else 0.0)
        count = last + (at - before) * self.step
        fits = abs(miss) <= tolerance or (self.reorder and abs(stamps[at] - count) <= tolerance)
        if restart:
            if miss >= -self.jitter:
                return never
            known = self.joins is not None and self.joins.peek(predicted, stamps[at])
            return (JOIN_COST if known else RESTART_COST) + OUTLIER_COST * len(skipped)
        if stamps[at] <= last:
            return never
        inside = sum(last < s < stamps[at] for s in skipped)
        if inside and (inside == len(skipped) or not fits):
            return never
        cost = 0.0 if fits else GAP_COST
        if skipped:
            n = len(skipped)
            cost += (
                OUTLIER_COST + FURTHER_OUTLIER_COST * (n - 1) if fits else OUTLIER_COST * n
            ) + ORDERED_OUTLIER_COST * inside
        return cost
