"""Compare the length that a file declares with the length that it contains.

FFmpeg reads the bytes that are there. Where a copy or a recorder was stopped, the header of most formats
still states the length of the whole recording; where `cat` put two recordings into one file, most formats end
with the first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

import av
import av.error

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.container import (
    MATROSKA,
    MAX_SECONDS,
    MP4,
    audio_stream,
    declared_span,
    demuxed,
    end_in_matroska,
    open_media,
    recorded_streams,
    video_stream,
)
from deiii.pipeline.media.formats.links import recordings
from deiii.pipeline.media.formats.ogg import open_link

REMEDY = "it was not read; join recordings with ffmpeg's concat"
SHORTEST_S = 0.25  # shortest missing duration that is noted
SHARE = 0.05  # least share of the recording that must be missing for a remark
IN_PACKETS = frozenset({"mpegts", "mpeg"})  # formats without a header that lists all streams
UNKNOWN_BYTES = 0x7FFF0000  # sizes from here on stand for "unknown" where a recorder could not go back
UNKNOWN_LONG = 1 << 62  # the same for sizes of 64 bits; a file object cannot seek to the largest ones
W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def expected_bytes(path: str | os.PathLike) -> float:
    """Estimate from the header how many bytes all decoded frames of a video take; inf if unknown.

    Raises:
        ClipError: the file has no video stream.

    >>> expected_bytes("clip.mp4") < 256 << 20  # doctest: +SKIP
    True
    """
    a_second, seconds = declared_size(path)
    size = a_second * seconds
    return size if size > 0 else float("inf")  # 0 times inf is not a number


def declared_size(path: str | os.PathLike) -> tuple[float, float]:
    """Return how many bytes the decoded frames of a second take, and the duration in s, from the header.

    Returns:
        bytes per second, 0 if unknown, and s, inf if unknown.

    Raises:
        ClipError: the file has no video stream.
    """
    path = os.fspath(path)
    links = recordings(path)
    if len(links) < 2:
        with open_media(path) as container:
            return _declared_size(container)
    found = []
    for link in links:
        with contextlib.suppress(ClipError), open_link(path, link) as container:
            found.append(_declared_size(container))
    if not found:
        raise ClipError(Status.NO_VIDEO, "the file has no video stream")
    sizes, seconds = zip(*found, strict=True)
    return max(sizes), sum(seconds)


def _declared_size(container: av.container.InputContainer) -> tuple[float, float]:
    stream, _ = video_stream(container)
    # Another one is used where the chosen one cannot be decoded, which its header does not show.
    sizes = [1.5 * s.width * s.height * _rate(s) for s in recorded_streams(container, av.VideoStream)]
    start, end = declared_span(container, stream)
    return max(sizes, default=1.5 * stream.width * stream.height * _rate(stream)), end - start


def _rate(stream: av.VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or 0)


def declared_seconds(path: str | os.PathLike) -> float:
    """Return the duration in s of the streams that are read, by a file's header.

    It is inf if unknown, and 0 if the file cannot be read.
    """
    path = os.fspath(path)
    links = recordings(path)
    total = 0.0
    for link in links if len(links) > 1 else [None]:
        with contextlib.suppress(ClipError), open_link(path, link) if link else open_media(path) as container:
            total += _declared_length(container)
    return total


def _declared_length(container: av.container.InputContainer) -> float:
    """Return the duration in s of the streams of a recording that are read; other streams do not count."""
    spans = []
    for choose in (video_stream, audio_stream):
        with contextlib.suppress(ClipError):
            spans.append(declared_span(container, choose(container)[0]))
    starts, ends = zip(*spans, strict=True) if spans else ((0.0,), (0.0,))
    return max(ends) - min(starts)


def cut_off(
    container: av.container.InputContainer, stream: av.stream.Stream, end: float, reach: float
) -> tuple[float, float] | None:
    """Return decoded and declared duration in s of a stream that ends clearly too early; else None.

    Args:
        container: container of the stream.
        stream: the stream that was decoded.
        end: end of its last frame, on the file's timestamps, s.
        reach: end of the last packet of all streams, s.
    """
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    declared = 0.0
    if container.format.name == MATROSKA:
        # Without FFmpeg's tag only the longest stream's end is known.
        declared = end_in_matroska(stream)
        if not declared:
            declared = ((container.start_time or 0) + (container.duration or 0)) / av.time_base
            end = max(end, reach)
    elif stream.duration and stream.time_base:
        declared = start + float(stream.duration * stream.time_base)
    short = 0 < declared - start <= MAX_SECONDS and declared - end > max(
        SHORTEST_S, SHARE * (declared - start)
    )
    return (max(0.0, end - start), declared - start) if short else None


def defects_of_length(path: str, container: av.container.InputContainer, seconds: float) -> list[str]:
    """Describe what is wrong with a file's length according to the sizes in its header.

    Args:
        path: the file.
        container: container of the file.
        seconds: how much of it was decoded.
    """
    found = []
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        ends = list(_recordings(file, size, container.format.name))
        if container.format.name == "wav" and (more := _more_wav(file, size)):
            found.append(
                f"the header declares {more[0]} bytes of audio, {more[1]} more follow and were not read: "
                "write the file again with the program that made it"
            )
    if container.format.name in IN_PACKETS and (at := _other_streams(path, container)):
        found.append(f"streams of another recording begin near byte {at}; {REMEDY}")
    if not ends:
        return found
    end, second = ends[0]
    missing = end - size
    if 0 < missing and seconds * missing / size > max(SHORTEST_S, SHARE * seconds * end / size):
        found.append(f"the header declares {end} bytes, the file has {size}: the file is cut off")
    if second:
        found.append(f"a second recording begins at byte {second}; {REMEDY}")
    return found


def _other_streams(path: str, container: av.container.InputContainer) -> int:
    """Return where streams begin that follow others of their kind, of which one is read; 0 without any."""
    kinds = (av.VideoStream, av.AudioStream)
    if not any(sum(isinstance(s, kind) for s in container.streams) > 1 for kind in kinds):
        return 0
    spans: dict[int, tuple[int, int]] = {}
    try:
        with open_media(path) as again:
            for packet in demuxed(again):
                at = packet.pos
                if packet.size and at is not None and at >= 0:
                    first, _ = spans.get(packet.stream_index, (at, 0))
                    spans[packet.stream_index] = first, at
    except MemoryError:  # it is also an FFmpegError, but free memory must not change what is noted
        raise
    except av.error.FFmpegError:
        pass  # decoding reports the damage
    for kind in kinds:
        found = sorted(spans[s.index] for s in container.streams if isinstance(s, kind) and s.index in spans)
        for (_, end), (begin, _) in pairwise(found):
            if begin >= end:
                return begin
    return 0


def _recordings(file: BinaryIO, size: int, name: str) -> Iterator[tuple[int, int]]:
    """Yield, at most once, the end of the recording and the start of another that FFmpeg does not read.

    The second is 0 where there is none.
    """
    head = file.read(128)
    if name == MP4:
        second = _second_mp4(file, size)
        if second:
            yield size, second
    elif name == "flv" and head.startswith(b"FLV"):
        second = _second_flv(file, size)
        if second:
            yield size, second
    elif name == "mp3":
        if end := _declared_mp3(file, head):
            yield end, 0
    elif end := _declared_end(file, head):
        signature = ASF_HEADER if name == "asf" else head[:4]
        again = [place for place in (end, end + end % 2) if _starts(file, place, signature)]
        yield end, again[0] if again and name != "avi" else 0


def _starts(file: BinaryIO, place: int, signature: bytes) -> bool:
    return _read_at(file, place, len(signature)) == signature


def _read_at(file: BinaryIO, place: int, count: int) -> bytes:
    """Return bytes from a place on; none behind the end of the file, where a system may refuse to seek."""
    if place >= os.fstat(file.fileno()).st_size:
        return b""
    file.seek(place)
    return file.read(count)


def _declared_mp3(file: BinaryIO, head: bytes) -> int:
    """Return the end of an MP3 file according to the size in its Xing header; 0 if it has none."""
    at = 0
    if head.startswith(b"ID3"):  # its size has 7 bits a byte
        at = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(at)
    frame = file.read(256)
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags = int.from_bytes(frame[place + 4 : place + 8], "big")
    if place < 0 or not flags & 2:
        return 0
    place += 12 if flags & 1 else 8
    length = int.from_bytes(frame[place : place + 4], "big")
    return at + length if 0 < length < UNKNOWN_BYTES else 0


def _declared_end(file: BinaryIO, head: bytes) -> int:
    """Return the end of the recording according to the file's header; 0 if it is not stated."""
    kind = head[:4]
    if kind == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        return 8 + length if 4 < length < UNKNOWN_BYTES else 0
    if kind == b"FORM":
        length = int.from_bytes(head[4:8], "big")
        return 8 + length if 4 < length < UNKNOWN_BYTES else 0
    if kind == b".snd":
        start, length = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        return start + length if 0 < length < UNKNOWN_BYTES else 0
    if head.startswith(W64_RIFF):
        return _known_long(head[16:24])
    if kind == b"caff":
        return _end_of_caf(file)
    if head.startswith(ASF_HEADER):
        return _end_of_asf(file)
    return 0


def _end_of_caf(file: BinaryIO) -> int:
    """Return the end of a CAF file's audio according to its chunks; 0 if it is not stated."""
    at = 8
    for _ in range(64):
        chunk = _read_at(file, at, 12)
        length = int.from_bytes(chunk[4:12], "big", signed=True)
        if len(chunk) < 12 or not 0 <= length < UNKNOWN_LONG:
            return 0
        at += 12 + length
        if chunk[:4] == b"data":
            return at
    return 0


def _end_of_asf(file: BinaryIO) -> int:
    """Return the size that the header of an ASF file states; 0 if it is not stated."""
    file.seek(0)
    header = file.read(4096)
    place = header.find(ASF_FILE)
    return _known_long(header[place + 40 : place + 48]) if place >= 0 else 0


def _known_long(stored: bytes) -> int:
    """Return a size of 64 bits, low byte first; 0 where it stands for "unknown"."""
    length = int.from_bytes(stored, "little")
    return length if length < UNKNOWN_LONG else 0


def _second_mp4(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        length = int.from_bytes(head[8:16], "big") if length == 1 else length or size - at
        if kind == b"ftyp" and at:
            return at
        at += max(8, length)
    return 0


def _second_flv(file: BinaryIO, size: int) -> int:
    at = 13
    while at + 11 <= size:
        file.seek(at)
        head = file.read(11)
        if head.startswith(b"FLV\x01"):
            return at
        if head[0] not in (8, 9, 18):
            return 0
        at += 15 + int.from_bytes(head[1:4], "big")
    return 0


def _more_wav(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Return the declared bytes of a WAV file's audio and how many follow that belong to no chunk."""
    at = 12
    declared = 0
    for _ in range(256):
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        # Names of chunks are text, and a chunk ends within the file; a wrong size of it leaves neither.
        if len(head) < 8 or not head[:4].isascii() or not head[:4].decode().isprintable():
            break
        if head[:4] == b"data":
            if not 0 < length < UNKNOWN_BYTES:  # FFmpeg reads up to the end of the file
                return None
            declared = length
        elif declared and at + 8 + length > size:
            break
        at += 8 + length + length % 2
    more = size - at
    return (declared, more) if declared and more > SHARE * declared else None
