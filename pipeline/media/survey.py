"""A survey of a media file before anything of it is decoded: which streams to use, and their clocks.

One pass over the packets finds what single frames cannot tell: where time 0 lies although the first timestamp
is wrong, where recordings were joined, how long a frame lasts. It costs about as much as opening the file.

>>> survey("clip.mp4").video.step  # doctest: +SKIP
0.04
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import TypeVar

import av
import av.error

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.clock import Clock
from deiii.pipeline.media.container import MAX_PIXELS, open_media
from deiii.pipeline.media.joins import Join, JoinFinder, Packet, find_joins

MAX_PACKETS = 500_000  # of a file that are looked at: more than an hour of audio and video has
MAX_SAMPLE_RATE = 768_000  # Hz
MAX_CHANNELS = 64
WRONG_ZERO_S = 0.2  # a file that begins this much after its streams has a wrong first timestamp
FEWEST_FPS = 5.0  # a slower track is a slide show beside the video

T = TypeVar("T", av.VideoStream, av.AudioStream)
Disposition = av.stream.Disposition
NO_RECORDING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
SECONDARY = (
    Disposition.comment | Disposition.visual_impaired | Disposition.hearing_impaired | Disposition.karaoke
    | Disposition.descriptions | Disposition.clean_effects | Disposition.dub
)  # fmt: skip


@dataclass(frozen=True)
class StreamTimes:
    """What the packets of one stream say about its times.

    Attributes:
        index: of the stream in the file.
        step: duration of a frame in s.
        start, end: first timestamp and end of the last packet, s; None where no packet has a timestamp.
        offset: by how much the timestamps are late, s.
        sorted: whether the container stores no order of presentation (AVI).
        joins: of the file.
        position: of this stream in each join.
        zero: time 0 of the clip on the timestamps, s.
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

    def clock(self, jitter: float, window: int, reorder: bool) -> Clock:
        """A clock for the frames of the stream; their times count from the clip's time 0."""
        shift = -self.zero - self.offset
        joins = JoinFinder(self.joins, self.position, self.step, shift)
        return Clock(self.step, jitter, window, reorder, self.sorted, shift, joins)


@dataclass(frozen=True)
class Survey:
    """The streams to use and their times; None where the file has no such stream."""

    video: StreamTimes | None
    audio: StreamTimes | None


def survey(path: str) -> Survey:
    """Survey a media file. The last few results are kept for as long as the file stays the same.

    Raises:
        ClipError: the file is missing, unreadable or not a recording.
    """
    try:
        found = os.stat(path)
    except OSError:
        return _survey.__wrapped__(path, 0, 0, 0)  # says what is wrong with the file
    return _survey(path, found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=4)
def _survey(path: str, size: int, changed: int, inode: int) -> Survey:
    with open_media(path) as container:
        chosen: list[av.VideoStream | av.AudioStream] = []
        for find in (video_stream, audio_stream):
            try:
                chosen.append(find(container)[0])
            except ClipError:
                continue
        sorted_times = "avi" in container.format.name.split(",")
        packets = _packets(container, chosen)
        steps = [_step(stream, found) for stream, found in zip(chosen, packets, strict=True)]
        joins = tuple(find_joins(packets, steps))
        zero = _zero(container, packets, steps)
        times: dict[str, StreamTimes] = {}
        for position, (stream, found, step) in enumerate(zip(chosen, packets, steps, strict=True)):
            stamps = [(p.stamp, p.stamp + p.seconds) for p in found if p.stamp is not None]
            offset = 0.0
            if sorted_times and stream.type == "video":
                offset = next(
                    (p.stamp - p.decoded for p in found if p.stamp is not None and p.decoded is not None), 0.0
                )
            times[stream.type] = StreamTimes(
                stream.index,
                step,
                min((begin for begin, _ in stamps), default=None),
                max((end for _, end in stamps), default=None),
                offset,
                sorted_times and stream.type == "video",
                joins,
                position,
                zero,
            )
    return Survey(times.get("video"), times.get("audio"))


def _packets(
    container: av.container.InputContainer, streams: Sequence[av.stream.Stream]
) -> list[list[Packet]]:
    """The packets of some streams; those that are only decoded for others (edit lists) are left out."""
    found: dict[int, list[Packet]] = {stream.index: [] for stream in streams}
    bases = {stream.index: float(stream.time_base or 0) for stream in streams}
    order = 0
    try:
        for packet in container.demux(list(streams)) if streams else ():
            if not packet.size or packet.is_discard:
                continue
            base = bases[packet.stream_index]
            stamp = None if packet.pts is None else packet.pts * base
            decoded = None if packet.dts is None else packet.dts * base
            found[packet.stream_index].append(Packet(order, stamp, decoded, (packet.duration or 0) * base))
            order += 1
            if order > MAX_PACKETS:
                break
    except (av.error.FFmpegError, OSError) as error:
        if isinstance(error, MemoryError):
            raise
        # The rest of a damaged file is not looked at; decoding notes the damage.
    return list(found.values())


def _step(stream: av.stream.Stream, packets: list[Packet]) -> float:
    """How long a frame of the stream lasts, s: what the header says, unless the packets say otherwise."""
    stamps = sorted({p.stamp for p in packets[:512] if p.stamp is not None})
    distances = [b - a for a, b in pairwise(stamps)]
    usual = median(distances) if distances else 0.0
    if isinstance(stream, av.VideoStream):
        step = 1.0 / float(stream.average_rate or stream.guessed_rate or 25)
        fields = 0.45 < usual / step < 0.55  # two packets a frame
        return usual if usual > 0 and not fields and not 0.75 < usual / step < 1.5 else step
    rate = stream.codec_context.sample_rate if isinstance(stream, av.AudioStream) else 0
    return usual or 1024 / max(1000, rate)


def _zero(
    container: av.container.InputContainer, packets: Sequence[list[Packet]], steps: Sequence[float]
) -> float:
    """The timestamp in s that is time 0 of the clip.

    It is the container's start, the earliest first timestamp of its streams as FFmpeg reports it; where a
    wrong first timestamp made that too late, it is the earliest start of the streams used.
    """
    zero = (container.start_time or 0) / av.time_base
    first = [[p for p in found if p.stamp is not None][:64] for found in packets]
    if all(zero - p.stamp <= WRONG_ZERO_S for found in first for p in found if p.stamp is not None):
        return zero
    starts = []
    for found, step in zip(first, steps, strict=True):
        clock: Clock[None] = Clock(step, max(0.03, 0.6 * step), reorder=True)
        placed = [one for packet in found for one in clock.add(None, packet.stamp, packet.seconds)]
        starts += [time for _, time in placed + clock.finish()]
    return min(starts) if zero - min(starts) > WRONG_ZERO_S else zero


def video_stream(container: av.container.InputContainer) -> tuple[av.VideoStream, str]:
    """The video stream to use, and a remark where there are several ("" else).

    Cover art and thumbnails are no video. The stream that the file marks as its default is used;
    where none or several are, the one with the most pixels that is no slide show.

    Raises:
        ClipError: there is none, or its header is damaged.
    """
    streams = [
        s for s in container.streams.video if s.codec_context is not None and not s.disposition & NO_RECORDING
    ]
    if not streams:
        raise ClipError(Status.NO_VIDEO, "the file has no video stream")

    def rank(stream: av.VideoStream) -> tuple[bool, int]:
        return float(stream.average_rate or 25) >= FEWEST_FPS, stream.width * stream.height

    stream, remark = _choose(streams, [rank(s) for s in streams], "video")
    if stream.width < 1 or stream.height < 1 or stream.width * stream.height > MAX_PIXELS:
        raise ClipError(
            Status.UNREADABLE,
            f"the header declares frames of {stream.width}x{stream.height} px: it is damaged",
        )
    return stream, remark


def audio_stream(container: av.container.InputContainer) -> tuple[av.AudioStream, str]:
    """The audio stream to use, and a remark where there are several ("" else).

    The stream that the file marks as its default is used; where none or several are, the one with the
    most channels, then the highest sample rate.

    Raises:
        ClipError: there is none, or its header is damaged.
    """
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    if not streams:
        raise ClipError(Status.NO_AUDIO, "the file has no audio stream")
    ranks = [(s.codec_context.channels, s.codec_context.sample_rate) for s in streams]
    stream, remark = _choose(streams, ranks, "audio")
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    if not 1000 <= rate <= MAX_SAMPLE_RATE or not 1 <= channels <= MAX_CHANNELS:
        raise ClipError(
            Status.UNREADABLE,
            f"the header declares audio of {rate} Hz and {channels} channels: it is damaged",
        )
    return stream, remark


def _choose(streams: Sequence[T], ranks: Sequence[tuple], kind: str) -> tuple[T, str]:
    """One of the streams: a default one, no commentary, the highest rank, the first."""
    if len(streams) == 1:
        return streams[0], ""
    marks = [
        (not stream.disposition & SECONDARY, bool(stream.disposition & Disposition.default), rank)
        for stream, rank in zip(streams, ranks, strict=True)
    ]
    best = max(range(len(streams)), key=lambda i: (marks[i], -i))
    defaults = sum(is_default for _, is_default, _ in marks)
    why = "the default one" if marks[best][1] and defaults == 1 else "the best one"
    return streams[best], f"the file has {len(streams)} {kind} streams; number {best + 1} was used, {why}"
