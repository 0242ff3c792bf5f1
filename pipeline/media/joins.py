"""Joined recordings: where all streams of a file go on with other timestamps.

Two recordings that were joined (by `cat`, or by a recorder that stopped and went on) have timestamps that
start again, or that jump. If audio and video were each placed behind their own end, they would drift apart
by the difference of their lengths. So the joins of a file are found in its packets, before any are decoded,
and every stream moves by the same amount.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, overload

import numpy as np

from deiii.data.tools.row_times import row_step
from deiii.pipeline.media.clock import JUMP_S, OVERLAP_S, Clock, Restart

NEAR = 64  # packets of the file within which the restarts of two streams belong to one join
LOOK = 16  # packets of a stream looked at on each side of a join; frames are reordered over fewer
SANE_S = 5.0  # presentation and decoding time of a packet lie closer than this


class Packet(NamedTuple):
    """A packet's times: its number in the file, presentation and decoding timestamp and duration, s."""

    order: int
    stamp: float | None
    decoded: float | None
    seconds: float


class PacketTable(Sequence[Packet]):
    """Packets of one stream in 32 bytes each; an hour has about 250,000 packets.

    >>> table = PacketTable()
    >>> table.append(Packet(0, None, 0.5, 0.04))
    >>> table[0]
    Packet(order=0, stamp=None, decoded=0.5, seconds=0.04)
    """

    def __init__(self) -> None:
        self._orders = array("q")
        self._times = array("d")  # stamp, decoded and seconds of each packet; NaN for None

    def append(self, packet: Packet) -> None:
        """Add a packet behind the others."""
        self._orders.append(packet.order)
        stamp, decoded = (math.nan if t is None else t for t in (packet.stamp, packet.decoded))
        self._times.extend((stamp, decoded, packet.seconds))

    def __len__(self) -> int:
        return len(self._orders)

    def span(self) -> tuple[float, float] | None:
        """Return the first timestamp and the latest end of the packets, s; None where none has a timestamp.

        >>> table = PacketTable()
        >>> for packet in Packet(0, 0.0, 0.0, 0.04), Packet(1, 0.08, 0.04, 2.0), Packet(2, 0.04, 0.08, 0.04):
        ...     table.append(packet)
        >>> table.span(), table.last_stamp(), table.distance()
        ((0.0, 2.08), 0.08, 0.04)
        """
        stamps = self._stamps()
        ends = stamps + np.array(self._times[2::3])
        return None if np.isnan(stamps).all() else (float(np.nanmin(stamps)), float(np.nanmax(ends)))

    def last_stamp(self) -> float | None:
        """Return the latest timestamp, s; None where no packet has one."""
        stamps = self._stamps()
        return None if np.isnan(stamps).all() else float(np.nanmax(stamps))

    def distance(self) -> float:
        """Return the median distance of timestamps that follow each other, s."""
        stamps = self._stamps()
        return row_step(np.unique(stamps[~np.isnan(stamps)]))

    def _stamps(self) -> np.ndarray:
        """Return the timestamps in s, float64 [n]; NaN where a packet has none."""
        return np.array(self._times[::3])

    @overload
    def __getitem__(self, at: int) -> Packet: ...
    @overload
    def __getitem__(self, at: slice) -> list[Packet]: ...
    def __getitem__(self, at: int | slice) -> Packet | list[Packet]:
        if isinstance(at, slice):
            first, end, step = at.indices(len(self))
            if step != 1:
                return [self[i] for i in range(first, end, step)]
            return list(_packets(self._orders[first:end], self._times[3 * first : 3 * end]))
        i = range(len(self))[at]
        return next(_packets(self._orders[i : i + 1], self._times[3 * i : 3 * i + 3]))

    def __iter__(self) -> Iterator[Packet]:
        return _packets(self._orders, self._times)


def _packets(orders: Sequence[int], times: Sequence[float]) -> Iterator[Packet]:
    """Yield the packets that the arrays of a table hold."""
    each = iter(times)
    for order, stamp, decoded, seconds in zip(orders, each, each, each, strict=True):
        # NaN is not equal to itself.
        yield Packet(
            order, None if stamp != stamp else stamp, None if decoded != decoded else decoded, seconds
        )


def recorded_parts(packets: Sequence[Packet]) -> list[list[Packet]]:
    """Return the packets of each recording in a stream; another begins where the decoding times go back.

    Where two recordings that begin at the same time are not kept apart, each timestamp occurs twice.

    >>> times = [0.0, 0.5, 1.0, 0.0, 0.5]
    >>> [len(part) for part in recorded_parts([Packet(i, t, t, 0.5) for i, t in enumerate(times)])]
    [3, 2]
    """
    parts: list[list[Packet]] = [[]]
    latest = -math.inf
    for packet in packets:
        if packet.decoded is not None:
            if packet.decoded < latest - OVERLAP_S:
                parts.append([])
                latest = -math.inf
            latest = max(latest, packet.decoded)
        parts[-1].append(packet)
    return parts


@dataclass(frozen=True)
class Join:
    """One place at which all streams of a file go on with other timestamps.

    Attributes:
        shift: what to add to the timestamps after it, s.
        ends, starts: end of each stream before the join and its start after it, s; None for a stream without
            packets there.
    """

    shift: float
    ends: tuple[float | None, ...]
    starts: tuple[float | None, ...]


def find_joins(streams: Sequence[Sequence[Packet]], steps: Sequence[float]) -> list[Join]:
    """Return the joins of a file, in order.

    A join is where one stream's timestamps go back, or all streams' jump ahead by more than 10 s, and no
    stream that has packets on both sides goes on as before. A stream that alone jumps ahead by more than
    10 s, and beyond the end of all others, has a join of its own.

    Args:
        streams: the packets of each stream, in the order of the file.
        steps: nominal duration of a packet in each stream, s.

    >>> part = [Packet(i, float(i), float(i), 1.0) for i in range(40)]
    >>> again = [Packet(40 + i, float(i), float(i), 1.0) for i in range(40)]
    >>> [join.shift for join in find_joins([part + again], [1.0])]
    [40.0]
    """
    breaks = [_breaks(packets, step) for packets, step in zip(streams, steps, strict=True)]
    places = sorted(
        (packets[found.index].order, stream, found.index)
        for stream, (packets, stream_breaks) in enumerate(zip(streams, breaks, strict=True))
        for found in stream_breaks
    )
    joins: list[Join] = []
    shift = 0.0
    while places:
        first = places[0][0]
        own = {stream: index for order, stream, index in reversed(places) if order - first <= NEAR}
        places = [place for place in places if place[0] - first > NEAR]
        ends: list[float | None] = []
        starts: list[float | None] = []
        moves: list[float] = []  # shift of the timestamps of each stream on both sides, s
        regular = False  # whether one of them goes on as before
        for stream, (packets, step) in enumerate(zip(streams, steps, strict=True)):
            index, miss = own.get(stream), 0.0
            if index is None and _begins_near(packets, first, [streams[broken] for broken in own]):
                index = 0
            elif index is None:
                index, miss = _most_irregular(packets, step, first)
            end, start = _end(packets[max(0, index - LOOK) : index]), _start(packets[index : index + LOOK])
            ends.append(end)
            starts.append(start)
            if end is not None and start is not None:
                moves.append(start - end)
                regular |= stream not in own and miss <= max(0.03, 0.6 * step)
        if not moves or regular or not (min(moves) < 0 or min(moves) > JUMP_S):
            joins += _jumps_alone(streams, ends, starts, shift)
            continue
        shift -= min(moves)  # the least that makes no stream overlap itself
        joins.append(Join(shift, tuple(ends), tuple(starts)))
    return joins


def _jumps_alone(
    streams: Sequence[Sequence[Packet]],
    ends: Sequence[float | None],
    starts: Sequence[float | None],
    shift: float,
) -> list[Join]:
    """Return the joins of single streams that jump beyond the end of all others: wrong timestamps."""
    joins = []
    for stream, (end, start) in enumerate(zip(ends, starts, strict=True)):
        others = [_end(packets) for i, packets in enumerate(streams) if i != stream]
        reach = max((other for other in others if other is not None), default=None)
        if end is None or start is None or reach is None or start - end <= JUMP_S or start <= reach:
            continue
        own_ends = tuple(end if i == stream else None for i in range(len(streams)))
        own_starts = tuple(start if i == stream else None for i in range(len(streams)))
        joins.append(Join(shift + end - start, own_ends, own_starts))
    return joins


class JoinFinder:
    """Finds the join at which one stream's clock breaks off; each join once, in their order.

    Args:
        joins: joins of the file.
        stream: position of the stream in them.
        step: duration of its frames, s.
        shift: what to add to the timestamps of all joins, s.

    >>> finder = JoinFinder([Join(4.0, (4.0,), (0.0,))], 0, 0.04)
    >>> finder.peek(4.0, 0.0), finder.use(4.0, 0.0), finder.peek(4.0, 0.0)
    (True, 4.0, False)
    """

    def __init__(self, joins: Sequence[Join], stream: int, step: float, shift: float = 0.0):
        self.stream, self.shift, self.near = stream, shift, max(2.5 * step, 0.1)
        self._waiting = list(joins)

    def peek(self, end: float, start: float) -> bool:
        """Return whether a join lies where the stream ends at ``end`` and continues at ``start``, s."""
        return self._find(end, start) is not None

    def use(self, end: float, start: float) -> float | None:
        """Return the shift after the join there, s, or None; removes this join and those before."""
        found = self._find(end, start)
        if found is None:
            return None
        shift = self._waiting[found].shift + self.shift
        del self._waiting[: found + 1]
        return shift

    def _find(self, end: float, start: float) -> int | None:
        for i, join in enumerate(self._waiting):
            before, after = join.ends[self.stream], join.starts[self.stream]
            if before is None or after is None:
                continue
            if abs(start - after) <= self.near and abs(end - before) <= 1.0:
                return i
        return None


def _breaks(packets: Sequence[Packet], step: float) -> list[Restart]:
    """Return the places where a stream's packets go back or jump, in the order of decoding."""
    decoded = all(packet.decoded is not None for packet in packets)
    times = [packet.decoded if decoded else packet.stamp for packet in packets]
    if all(a is not None and b is not None and 0 <= b - a < JUMP_S for a, b in pairwise(times)):
        return []
    jitter = 0.03 if decoded else max(0.03, 0.6 * step)
    clock: Clock[None] = Clock(step, jitter, window=64, reorder=not decoded)
    for packet in packets:
        clock.add(None, packet.decoded if decoded else packet.stamp, packet.seconds)
    clock.finish()
    return clock.breaks


def _most_irregular(packets: Sequence[Packet], step: float, order: int) -> tuple[int, float]:
    """Return the number of the packet near a place that follows the one before least, and by how much, s."""
    index = next((i for i, packet in enumerate(packets) if packet.order >= order), len(packets))
    worst = 0.0
    for i in range(max(1, index - LOOK), min(len(packets), index + LOOK)):
        before, after = packets[i - 1], packets[i]
        times = [p.decoded if p.decoded is not None else p.stamp for p in (before, after)]
        if times[0] is None or times[1] is None:
            continue
        miss = abs(times[1] - times[0] - (before.seconds or step))
        if miss > worst:
            worst, index = miss, i
    return index, worst


def _sane(packets: Sequence[Packet]) -> list[tuple[float, float]]:
    return [
        (p.stamp, p.seconds)
        for p in packets
        if p.stamp is not None and (p.decoded is None or abs(p.stamp - p.decoded) < SANE_S)
    ]


def _begins_near(packets: Sequence[Packet], order: int, broken: Sequence[Sequence[Packet]]) -> bool:
    """Return whether a stream begins near a join of others, which have many packets before it."""
    first = packets[0].order if packets else -1
    return first >= order - NEAR and any(len(other) > LOOK and other[LOOK].order < first for other in broken)


def _end(packets: Sequence[Packet]) -> float | None:
    return max((stamp + seconds for stamp, seconds in _sane(packets)), default=None)


def _start(packets: Sequence[Packet]) -> float | None:
    return min((stamp for stamp, _ in _sane(packets)), default=None)
