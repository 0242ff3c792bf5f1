"""Media files: checking, opening and decoding them.

What does not decode is skipped and noted. A clip from which nothing can be decoded raises
`ClipError` with the outcome to record.

>>> with open_media("clip.mp4") as container:  # doctest: +SKIP
...     stream, remark = video_stream(container)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import av
import av.error
from av.codec.hwaccel import HWAccel

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.opening.not_media import check_file, is_text
from deiii.pipeline.media.opening.versions import LENIENT

MAX_SECONDS = 3600.0  # cut longer recordings into clips; this also bounds every allocation
MAX_PIXELS = 8192 * 8192
MAX_SAMPLE_RATE = 768_000  # Hz
MAX_CHANNELS = 64
FEWEST_FPS = 5.0  # a slower track is a slide show beside the video
MAX_ERRORS = 200  # damaged packets, after which the rest of a stream is skipped
KEPT_BYTES = 64 * 2**20  # of a stream's packets that are kept for decoding; a larger file is read twice
MATROSKA = "matroska,webm"
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
IMAGE_FORMATS = frozenset({"image2", "gif", "apng", "ico", "webp_pipe"})
TEXT = "the file is text, not a recording"
T = TypeVar("T", av.VideoStream, av.AudioStream)
KINDS = {"video": av.VideoStream, "audio": av.AudioStream}
Disposition = av.stream.Disposition
NO_RECORDING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
SECONDARY = (
    Disposition.comment | Disposition.visual_impaired | Disposition.hearing_impaired | Disposition.karaoke
    | Disposition.descriptions | Disposition.clean_effects | Disposition.dub
)  # fmt: skip


@contextlib.contextmanager
def open_media(path: str, hwaccel: HWAccel | None = None) -> Iterator[av.container.InputContainer]:
    """Open a media file for reading; it is closed at the end of the block.

    Args:
        path: the media file.
        hwaccel: decoder of a GPU; ``None`` for the processor.

    Raises:
        ClipError: the file is missing, unreadable or not a recording.

    >>> with open_media("clip.mp4") as container:  # doctest: +SKIP
    ...     print(container.streams.video)
    """
    check_file(path)
    try:
        # Local files only: a playlist in a data set must not make FFmpeg open URLs or other files. An
        # absolute path, because FFmpeg takes the start of a relative one such as 12:30/a.mp4 for a protocol.
        options = {"protocol_whitelist": "file"}
        place = os.path.abspath(path)
        container = av.open(place, options=options, hwaccel=hwaccel, **LENIENT)
    except MemoryError:  # PyAV's MemoryError is an FFmpegError, too
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if is_text(path):
            raise ClipError(Status.NOT_MEDIA, TEXT) from None
        words = f"the file cannot be opened as media ({_reason(error)}): damaged or cut off"
        raise ClipError(Status.UNREADABLE, words) from None
    try:
        formats = set(container.format.name.split(","))
        if formats & IMAGE_FORMATS or any(f.endswith("_pipe") for f in formats):
            raise ClipError(Status.NOT_MEDIA, "the file is an image, not a recording")
        some = container.streams.video or container.streams.audio
        if "tty" in formats or (not some and is_text(path)):  # FFmpeg reads subtitles and lists, too
            raise ClipError(Status.NOT_MEDIA, TEXT)
        yield container
    finally:
        container.close()


def video_stream(
    container: av.container.InputContainer, useless: Sequence[int] = ()
) -> tuple[av.VideoStream, str]:
    """Return the video stream to use, and a remark where there are several ("" else).

    Cover art and thumbnails are not video. The stream that the file marks as its default is used;
    where none or several are, the one with the most pixels that is not a slide show.

    Args:
        container: the open file.
        useless: indices of streams that were tried: no frame of them can be decoded.

    Raises:
        ClipError: there is none, or its header is damaged.
    """
    streams = [s for s in _streams(container, av.VideoStream) if not s.disposition & NO_RECORDING]
    if not streams:
        raise ClipError(Status.NO_VIDEO, "the file has no video stream")

    def rank(stream: av.VideoStream) -> tuple[bool, int]:
        return float(stream.average_rate or 25) >= FEWEST_FPS, stream.width * stream.height

    sizes = {s.index: (s.width, s.height) for s in streams}
    damaged = {
        index: f"the header declares frames of {width}x{height} px: it is damaged"
        for index, (width, height) in sizes.items()
        # MPEG-TS declares nothing: both are 0 where the stream begins late.
        if (width or height) and not (width >= 1 and height >= 1 and width * height <= MAX_PIXELS)
    }
    stream, remark = _choose(streams, [rank(s) for s in streams], "video", (*useless, *damaged))
    if stream.index in damaged:
        raise ClipError(Status.UNREADABLE, damaged[stream.index])
    return stream, remark


def audio_stream(
    container: av.container.InputContainer, useless: Sequence[int] = ()
) -> tuple[av.AudioStream, str]:
    """Return the audio stream to use, and a remark where there are several ("" else).

    The stream that the file marks as its default is used; where none or several are, the one with the
    most channels, then the highest sample rate.

    Args:
        container: the open file.
        useless: indices of streams that were tried: silent ones, or ones that cannot be decoded.

    Raises:
        ClipError: there is none, or its header is damaged.
    """
    streams = _streams(container, av.AudioStream)
    if not streams:
        raise ClipError(Status.NO_AUDIO, "the file has no audio stream")
    ranks = [(s.codec_context.channels, s.codec_context.sample_rate) for s in streams]
    damaged = {
        s.index: f"the header declares audio of {rate} Hz and {channels} channels: it is damaged"
        for s, (channels, rate) in zip(streams, ranks, strict=True)
        if (rate or channels) and not (1000 <= rate <= MAX_SAMPLE_RATE and 1 <= channels <= MAX_CHANNELS)
    }
    stream, remark = _choose(streams, ranks, "audio", (*useless, *damaged))
    if stream.index in damaged:
        raise ClipError(Status.UNREADABLE, damaged[stream.index])
    return stream, remark


def number_of_recordings(container: av.container.InputContainer, kind: type[T]) -> int:
    """Return how many streams of a kind may be the recording; see `recorded_streams`."""
    return len(recorded_streams(container, kind))


def recorded_streams(container: av.container.InputContainer, kind: type[T]) -> list[T]:
    """Return the streams of a kind that may be the recording.

    Cover art and thumbnails are left out, and so are commentaries and the like.
    """
    return [s for s in _streams(container, kind) if not s.disposition & (SECONDARY | NO_RECORDING)]


def declared_span(container: av.container.InputContainer, stream: av.stream.Stream) -> tuple[float, float]:
    """Return where a stream begins and ends by the header, s; the end is inf if unknown.

    Matroska's header states the end on the file's clock, others the duration.
    """
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    if container.format.name == MATROSKA and (end := end_in_matroska(stream)) > start:
        return start, end
    if stream.duration and stream.time_base:
        return start, start + float(stream.duration * stream.time_base)
    if not container.duration:
        return start, float("inf")
    first = (container.start_time or 0) / av.time_base
    begin = 0.0 if container.format.name == MATROSKA else first
    return first, max(first, begin + container.duration / av.time_base)


def demuxed(
    container: av.container.InputContainer, *streams: av.stream.Stream | Sequence[av.stream.Stream]
) -> Iterator[av.Packet]:
    """Yield the packets of some streams, by default of all; use it in place of PyAV's ``demux``.

    In MPEG program streams, transport streams and FLV, a stream may appear while the file is read, such as
    the subtitles of a DVD. PyAV has no record of it, and may raise an IndexError at the end of the file,
    where it flushes all streams, after those of which it has a record.
    """
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            return
        yield packet


def end_in_matroska(stream: av.stream.Stream) -> float:
    """Return the end of a stream on the file's clock by FFmpeg's tag, "hh:mm:ss.s", s; 0 without it."""
    try:
        hours, minutes, seconds = map(float, stream.metadata.get("DURATION", "").split(":"))
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds


def _streams(container: av.container.InputContainer, kind: type[T]) -> list[T]:
    """Return the streams that FFmpeg can decode; a stream's `type` may change while it is read."""
    return [s for s in container.streams if isinstance(s, kind) and s.codec_context is not None]


def _choose(
    streams: Sequence[T], ranks: Sequence[tuple], kind: str, useless: Sequence[int] = ()
) -> tuple[T, str]:
    """Choose a stream: not useless, then no commentary, then default, then highest rank, then the first."""
    if len(streams) == 1:
        return streams[0], ""
    marks = [
        (
            stream.index not in useless,
            not stream.disposition & SECONDARY,
            bool(stream.disposition & Disposition.default),
            rank,
        )
        for stream, rank in zip(streams, ranks, strict=True)
    ]
    best = max(range(len(streams)), key=lambda i: (marks[i], -i))
    defaults = sum(is_default for *_, is_default, _ in marks)
    why = "the default one" if marks[best][2] and defaults == 1 else "the best one"
    tried = [str(i + 1) for i, stream in enumerate(streams) if stream.index in useless]
    others = f"number {', '.join(tried)} has no usable {kind}; " if tried else ""
    words = f"the file has {len(streams)} {kind} streams; {others}number {best + 1} was used, {why}"
    return streams[best], words


@dataclass
class KeptPackets:
    """Packets that are kept for decoding.

    Attributes:
        kind: type of their stream; empty to keep none.
        complete: whether all packets of the stream are kept.
    """

    kind: str
    complete: bool = True
    _packets: list[av.Packet] = field(default_factory=list)
    _bytes: int = 0
    _error: Exception | None = None

    def watch(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """Yield the packets and keep those of the stream; ends where the file cannot be read further."""
        try:
            for packet in packets:
                if self.complete and isinstance(packet.stream, KINDS.get(self.kind, ())):
                    self._packets.append(packet)
                    self._bytes += packet.size
                    if self._bytes > KEPT_BYTES:
                        self.drop()
                yield packet
        except (av.error.FFmpegError, OSError) as error:
            if isinstance(error, MemoryError):
                raise
            self._error = error  # raised again when the packets are decoded, which reports the damage

    def drop(self) -> None:
        """Keep nothing."""
        self.complete = False
        self._packets = []

    def __iter__(self) -> Iterator[av.Packet]:
        """Yield each packet, which is freed then; ends with the error that ended the reading."""
        packets = self._packets[::-1]
        self._packets = []
        while packets:
            yield packets.pop()
        if self._error is not None:
            raise self._error


@overload
def decode(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    notes: list[str],
    packets: Iterator[av.Packet] | None = None,
) -> Iterator[av.VideoFrame]: ...
@overload
def decode(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    notes: list[str],
    packets: Iterator[av.Packet] | None = None,
) -> Iterator[av.AudioFrame]: ...
def decode(
    container: av.container.InputContainer,
    stream: Any,
    notes: list[str],
    packets: Iterator[av.Packet] | None = None,
) -> Iterator[Any]:
    """Yield the frames of one stream; damaged packets are skipped, and their number is added to ``notes``.

    Args:
        container: the open file.
        stream: stream of the container.
        notes: gets a line on damaged packets.
        packets: all packets of the stream, if they were read before.
    """
    errors, reason = 0, ""
    packets = demuxed(container, stream) if packets is None else packets
    while errors < MAX_ERRORS:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.error.FFmpegError, OSError) as error:
            errors += 1
            reason = _reason(error)
            break
        if not packet.size and packet.dts is not None:
            continue  # a dropped frame; the decoder would take it for the end of the stream
        try:
            frames = packet.decode()
        except av.error.EOFError:
            break
        except MemoryError:  # it is also an FFmpegError, but free memory must not change what a clip yields
            raise
        except (av.error.FFmpegError, ValueError) as error:
            errors += 1
            reason = _reason(error)
            continue
        yield from frames
    if errors:
        notes.append(f"{errors} packets of the {stream.type} stream cannot be decoded ({reason})")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
