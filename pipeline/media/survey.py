"""A survey of a media file before anything of it is decoded: which streams to use, and their clocks.

One pass over the packets finds what single frames do not show: where time 0 lies although the first timestamp
is wrong, where recordings were joined, and how long a frame lasts. The packets are then decoded; only those
of a large file are read again.

>>> survey("clip.mp4").video.step  # doctest: +SKIP
0.04
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from statistics import median
from typing import NamedTuple

import av

from deiii.data.cache.outcomes import ClipError
from deiii.data.tools.row_times import ONE_ROW_S
from deiii.pipeline.media.clock import Clock
from deiii.pipeline.media.container import KeptPackets, audio_stream, demuxed, open_media, video_stream
from deiii.pipeline.media.formats.delays import late_streams, offset_and_delay, priming_seconds, time_zero
from deiii.pipeline.media.formats.links import recordings
from deiii.pipeline.media.formats.ogg import Link, first_page_in_place, ogg_links, open_link
from deiii.pipeline.media.joins import (
    LOOK,
    Join,
    JoinFinder,
    Packet,
    PacketTable,
    find_joins,
    recorded_parts,
)
from deiii.pipeline.media.timestamps import EXAMINED_ITEMS, Rounding, are_exact, find_rounding

# Largest number of packets that are read: those of a day at 25 frames per second with audio packets of 20 ms.
# They take 32 bytes each (`PacketTable`). Times of later packets are not known.
MAX_PACKETS = 24 * 3600 * (25 + 50)
KEPT_SURVEYS = 4  # number of surveys that are kept; a file has one for each choice of streams
FAR = "lie {:.0f} s behind those of the other stream, which has ended; both were placed at the beginning"
JOINED = "joined recordings; they were placed one behind the other"


@dataclass(frozen=True)
class StreamTimes:
    """The times of one stream according to its packets.

    Attributes:
        index: index of the stream in the file.
        step: duration of a frame in s.
        start, end: first timestamp and end of the last packet, s; None where no packet has a timestamp.
        offset: delay to subtract from the timestamps, s.
        sorted: whether the container stores no order of presentation (AVI).
        joins: joins of the file.
        position: position of this stream in each join.
        zero: time 0 of the clip on the timestamps, s.
        primed: whether what lies before time 0 is silence that the encoder added.
        remark: what is unusual, in words; empty if nothing is.
        rounding: how the timestamps were rounded; None if they were not.
        last: latest timestamp, s; None where no packet has one.
        distance: median distance of the timestamps, s.
    """

    index: int
    step: float
    start: float | None
    end: float | None
    offset: float
    sorted: bool
    joins: tuple[Join, ...]
    position: int
    zero: float
    primed: bool = False
    remark: str = ""
    rounding: Rounding | None = None
    last: float | None = None
    distance: float = ONE_ROW_S

    @property
    def seconds(self) -> float:
        """Where the stream ends, s after the clip's time 0; 0 where no packet has a timestamp."""
        return 0.0 if self.end is None else self.end + self._moved

    def end_of_frames(self, fps: float | None) -> float:
        """Return the end of the last row, s after the clip's time 0, of a video with one row a frame.

        It is not `seconds`: the last frame of a variable frame rate may be shown for any time.

        Args:
            fps: rows per second (`deiii.pipeline.faces.grid.resampled`); ``None`` for one row a frame.
        """
        if self.start is None or self.last is None:
            return self.seconds
        if fps is None:
            return self.last + self.distance + self._moved
        first = self.rounding.start if self.rounding else self.start
        rows = math.floor((self.last + (self.joins[-1].shift if self.joins else 0.0) - first) * fps + 1e-6)
        return first - self.zero - self.offset + rows / fps + (1 / fps if rows else ONE_ROW_S)

    @property
    def _moved(self) -> float:
        return (self.joins[-1].shift if self.joins else 0.0) - self.zero - self.offset

    def clock(self, jitter: float, window: int, reorder: bool) -> Clock:
        """Return a clock for the frames of the stream; their times count from the clip's time 0."""
        # A stream that begins behind joins of the others has their timestamps from its first one on.
        before = takewhile(lambda join: join.ends[self.position] is None, self.joins)
        begun = [join.shift for join in before if join.starts[self.position] is not None] or [0.0]
        zero = -self.zero - self.offset
        joins = JoinFinder(self.joins, self.position, self.step, zero)
        return Clock(self.step, jitter, window, reorder, self.sorted, begun[-1] + zero, joins, self.rounding)


@dataclass(frozen=True)
class Survey:
    """The streams to use and their times; None where the file has no such stream."""

    video: StreamTimes | None
    audio: StreamTimes | None


@dataclass
class Surveyed:
    """A media file that was surveyed and is open for decoding.

    Attributes:
        container: the open file.
        times: the streams to use and their times.
        packets: packets of the stream to decode, in order; ``None`` where they must be read from the file.
    """

    container: av.container.InputContainer
    times: Survey
    packets: Iterator[av.Packet] | None


def survey(path: str) -> Survey:
    """Survey a media file. The last few results are kept for as long as the file stays the same.

    Raises:
        ClipError: the file is missing, unreadable or not a recording.
    """
    with open_surveyed(path) as found:
        return found.times


class Part(NamedTuple):
    """A recording of an Ogg or Matroska file, where it begins in s, and its streams; None if unreadable."""

    link: Link
    begin: float
    times: Survey | None


def joined_parts(path: str) -> list[Part]:
    """Return the recordings of a file, each behind the longer stream of the one before.

    There are none for a file with one recording, and for files with audio alone.
    """
    links, begin = recordings(path), 0.0
    found: list[Part] = []
    for link in links if len(links) > 1 and any(link.has_video for link in links) else ():
        times: Survey | None = None
        with contextlib.suppress(ClipError), open_surveyed(path, link=link) as opened:
            times = opened.times
        found.append(Part(link, begin, times))
        begin += max((t.seconds for t in (times.video, times.audio) if t), default=0.0) if times else 0.0
    return found


@contextlib.contextmanager
def open_surveyed(
    path: str, kind: str = "", useless: Sequence[int] = (), link: Link | None = None
) -> Iterator[Surveyed]:
    """Open a media file to decode one of its streams; it is surveyed first unless that was done before.

    Args:
        path: the media file.
        kind: "video" or "audio": what will be decoded.
        useless: indices of streams to leave out; see `video_stream` and `audio_stream`.
        link: one of several recordings in an Ogg or Matroska file, to open it alone.

    Raises:
        ClipError: the file is missing, unreadable or not a recording.
    """

    def opened() -> contextlib.AbstractContextManager[av.container.InputContainer]:
        return open_link(path, link) if link else open_media(path)

    state: tuple[object, ...] = ()
    with contextlib.suppress(OSError):  # opening the file reports the error
        found = os.stat(path)
        state = (path, found.st_size, found.st_mtime_ns, found.st_ino, link, *useless)
    pages = link or next(iter(ogg_links(path)), None)

    known = _surveys.get(state)
    if known is None:
        with opened() as container:
            kept = KeptPackets(kind)
            known = _surveys[state] = _survey(container, kept, useless, pages)
            for old in list(_surveys)[:-KEPT_SURVEYS]:
                _surveys.pop(old, None)
            if kept.complete:
                yield Surveyed(container, known, iter(kept))
                return
    with opened() as container:
        times = {"audio": known.audio, "video": known.video}.get(kind)
        some = [s for s in container.streams if times and s.index == times.index] if pages else []
        packets = first_page_in_place(demuxed(container, some), pages) if some else None
        yield Surveyed(container, known, packets)


_surveys: dict[tuple[object, ...], Survey] = {}


def _survey(
    container: av.container.InputContainer, kept: KeptPackets, useless: Sequence[int], link: Link | None
) -> Survey:
    chosen: list[av.VideoStream | av.AudioStream] = []
    with contextlib.suppress(ClipError):
        chosen.append(video_stream(container, useless)[0])
    with contextlib.suppress(ClipError):
        chosen.append(audio_stream(container, useless)[0])
    sorted_times = "avi" in container.format.name.split(",")
    packets = _packets(container, chosen, kept, link)
    roundings = [
        None if sorted_times else _rounding(stream, found)  # AVI counts frames or bytes
        for stream, found in zip(chosen, packets, strict=True)
    ]
    steps = [
        rounding.step if rounding else _step(stream, found)
        for stream, found, rounding in zip(chosen, packets, roundings, strict=True)
    ]
    joins = tuple(find_joins(packets, steps))
    starts = [
        rounding.start
        if rounding
        else min((p.stamp for p in found[:LOOK] if p.stamp is not None), default=None)
        for found, rounding in zip(packets, roundings, strict=True)
    ]
    zero = time_zero(container, packets, steps)
    if any(roundings):
        zero = min(start for start in starts if start is not None)
    priming = priming_seconds(
        container, chosen, starts, zero, max((r.unit for r in roundings if r), default=0.0)
    )
    late = late_streams(packets, zero, joins)
    times: dict[str, StreamTimes] = {}
    for position, (stream, found, step) in enumerate(zip(chosen, packets, steps, strict=True)):
        span, kind = found.span(), "video" if isinstance(stream, av.VideoStream) else "audio"
        delayed = len(chosen) == 2 and starts[position] == zero
        offset, delay = offset_and_delay(container, stream, found, late[position], sorted_times, delayed)
        times[kind] = StreamTimes(
            stream.index,
            step,
            span[0] if span else None,
            span[1] if span else None,
            offset,
            sorted_times and kind == "video",
            joins,
            position,
            zero + priming,
            priming > 0 or delay > 0,
            f"the timestamps of the {kind} {FAR.format(offset)}" if late[position] else "",
            roundings[position],
            *_last_frame(found, step, roundings[position]),
        )
    return Survey(times.get("video"), times.get("audio"))


def _packets(
    container: av.container.InputContainer,
    streams: Sequence[av.stream.Stream],
    kept: KeptPackets,
    link: Link | None,
) -> list[PacketTable]:
    """Return the packets of some streams, without those that are only decoded for others (edit lists)."""
    found = {stream.index: PacketTable() for stream in streams}
    bases = {stream.index: float(stream.time_base or 0) for stream in streams}
    order = 0
    read = demuxed(container, list(streams)) if streams else ()
    for packet in kept.watch(first_page_in_place(read, link)):
        if not packet.size or packet.is_discard:
            continue
        base = bases[packet.stream_index]
        stamp = None if packet.pts is None else packet.pts * base
        decoded = None if packet.dts is None else packet.dts * base
        duration = packet.duration or 0
        if duration >= 2**31:  # FFmpeg's negative duration of a last packet of Vorbis
            duration = 0
        found[packet.stream_index].append(Packet(order, stamp, decoded, duration * base))
        order += 1
        if order > MAX_PACKETS:
            kept.drop()
            break
    return list(found.values())


def _last_frame(packets: PacketTable, step: float, rounding: Rounding | None) -> tuple[float | None, float]:
    """Return the timestamp of the last frame of a stream and the median distance of its frames, s."""
    last, distance = packets.last_stamp(), packets.distance()
    if last is not None and rounding:
        return rounding.start + round((last - rounding.start) / rounding.step) * rounding.step, rounding.step
    return last, step if 0.45 < distance / step < 0.55 else distance  # two packets a frame


def _step(stream: av.stream.Stream, packets: Sequence[Packet]) -> float:
    """Return the duration of a frame in s: that of the header, unless the packets contradict it."""
    distances: list[float] = []
    for part in recorded_parts(packets[:512]):
        stamps = sorted({p.stamp for p in part if p.stamp is not None})
        distances += [b - a for a, b in pairwise(stamps)]
    usual = median(distances) if distances else 0.0
    if isinstance(stream, av.VideoStream):
        step = 1.0 / float(stream.average_rate or stream.guessed_rate or 25)
        fields = 0.45 < usual / step < 0.55  # two packets a frame
        return usual if usual > 0 and not fields and not 0.75 < usual / step < 1.5 else step
    rate = stream.codec_context.sample_rate if isinstance(stream, av.AudioStream) else 0
    return usual or 1024 / max(1000, rate)


def _rounding(stream: av.stream.Stream, packets: Sequence[Packet]) -> Rounding | None:
    """Return how the timestamps of a stream with frames of one length were rounded; None if they were not."""
    stamps: list[float] = []
    for packet in recorded_parts(packets[:EXAMINED_ITEMS])[0]:
        if packet.stamp is not None:
            if stamps and packet.stamp < max(stamps[-LOOK:]) - 1.0:  # they start again
                break
            stamps.append(packet.stamp)
    steps: list[float] = []
    if isinstance(stream, av.VideoStream):
        rate = float(stream.average_rate or 0)
        steps = [1 / rate] if rate > 0 else []
    elif isinstance(stream, av.AudioStream):
        samples, rate = stream.codec_context.frame_size, stream.codec_context.sample_rate
        if not samples and are_exact(packets[:EXAMINED_ITEMS], float(stream.time_base or 0)):
            return None
        # The decoder of HE-AAC returns twice as many samples as the header states.
        steps = [samples / rate, 2 * samples / rate] if samples > 0 and rate > 0 else []
    return find_rounding(sorted(stamps), float(stream.time_base or 0), steps)
