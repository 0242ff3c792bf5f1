"""Ogg files that hold several recordings one after the other, as `cat` joins them.

FFmpeg stops at the second recording ("link" of the chain) where its codec, sample rate or number of channels
differ, and places its samples some milliseconds late where they do not. So each link is opened as a file of
its own. Sources: RFC 3533 (pages and chains), RFC 7845 (Opus), the mappings of FLAC and of Vorbis to Ogg.

>>> [link.start for link in ogg_links("joined.ogg")]                  # doctest: +SKIP
[0, 16711]
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, NamedTuple

import av
import av.error

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.opening.versions import LENIENT

PAGE = b"OggS"
FIRST = 2  # flag of the first page of a stream
HEAD = 27  # bytes of a page's header before the table of segments
BODY = 64  # bytes of the first page of a stream that are read
SEARCHED = 1 << 16  # bytes that are searched at a time for the next page
FLAC = "FLAC"
VIDEO = (b"\x80theora", b"OVP80", b"BBCD", b"\x01video")  # first bytes of a stream: Theora, VP8, Dirac, OGM


@dataclass(frozen=True)
class Link:
    """One recording of an Ogg or Matroska file.

    Attributes:
        start, end: positions of its first byte in the file and of the byte after its last one.
        audio: codec, number of channels and rate in Hz of its first audio stream; None without one.
        has_video: whether it has a video stream.
        seconds: end of the audio according to the last page, s after its beginning; 0 if unknown.
        first: end of the first page of audio, s after its beginning; 0 if unknown.
        format: FFmpeg's name of the container; None where FFmpeg finds it by itself.
    """

    start: int
    end: int
    audio: tuple[str, int, int] | None
    has_video: bool
    seconds: float = 0.0
    first: float = 0.0
    format: str | None = "ogg"


class _Page(NamedTuple):
    """Place and flags of a page, where its stream ends (-1: unknown), its stream's number, `BODY` bytes."""

    at: int
    flags: int
    granule: int
    stream: int
    body: bytes


def ogg_links(path: str) -> list[Link]:
    """Return the recordings of an Ogg file, in order; none for another file, or one that cannot be read."""
    return read_links(path, {PAGE: find_links})


def read_links(path: str, finders: Mapping[bytes, Callable[[BinaryIO, int], Iterable[Link]]]) -> list[Link]:
    """Return the recordings of a file; none for a file of another kind, or one that cannot be read.

    Args:
        path: path of the file.
        finders: functions that find the recordings in an open file of the given size in bytes, keyed by the
            first four bytes of a file of that kind.
    """
    if not os.path.isfile(path):  # opening a pipe would wait for a writer without end
        return []
    try:
        with open(path, "rb") as file:
            find = finders.get(file.read(4))
            return list(find(file, os.fstat(file.fileno()).st_size)) if find else []
    except OSError:  # opening the file reports the error
        return []


def find_links(file: BinaryIO, size: int) -> Iterator[Link]:
    """Yield the recordings of an Ogg file of ``size`` bytes, whose first four bytes were read."""
    pages: list[_Page] = []  # the first pages of the streams of a link
    ends: dict[int, int] = {}
    firsts: dict[int, int] = {}
    for page in _pages(file):
        if page.flags & FIRST:
            if ends:
                yield _link(pages, firsts, ends, page.at)
                pages, firsts, ends = [], {}, {}
            pages.append(page)
        elif page.granule >= 0:
            ends[page.stream] = page.granule
            if page.granule:  # headers have 0
                firsts.setdefault(page.stream, page.granule)
        else:
            ends.setdefault(page.stream, 0)
    yield _link(pages, firsts, ends, size)


def _link(pages: Sequence[_Page], firsts: Mapping[int, int], ends: Mapping[int, int], end: int) -> Link:
    audio, seconds, first = None, 0.0, 0.0
    for page in pages:
        audio = _audio(page.body)
        if audio is not None:
            # Opus counts the samples before time 0, which are left out.
            skipped = int.from_bytes(page.body[10:12], "little") if audio[0] == "Opus" else 0
            seconds = max(0, ends.get(page.stream, 0) - skipped) / max(1, audio[2])
            first = firsts.get(page.stream, 0) / max(1, audio[2])
            break
    has_video = any(page.body.startswith(VIDEO) for page in pages)
    return Link(pages[0].at if pages else 0, end, audio, has_video, seconds, first)


def _pages(file: BinaryIO) -> Iterator[_Page]:
    """Yield the pages of a file; of those that are not the first ones of a stream no body is read.

    Damaged bytes between pages are skipped.
    """
    at = 0
    while True:
        file.seek(at)
        head = file.read(HEAD + 255)
        if len(head) < HEAD:
            return
        if not head.startswith(PAGE):
            found = _next_page(file, at + 1)
            if found < 0:
                return
            at = found
            continue
        body = at + HEAD + head[HEAD - 1]
        granule, stream = (
            int.from_bytes(head[6:14], "little", signed=True),
            int.from_bytes(head[14:18], "little"),
        )
        some = b""
        if head[5] & FIRST:
            file.seek(body)
            some = file.read(BODY)
        yield _Page(at, head[5], granule, stream, some)
        at = body + sum(head[HEAD : HEAD + head[HEAD - 1]])


def _next_page(file: BinaryIO, at: int) -> int:
    """Return where the next page begins, from a place on; -1 if there is none."""
    while True:
        file.seek(at)
        some = file.read(SEARCHED)
        place = some.find(PAGE)
        if place >= 0:
            return at + place
        if len(some) < SEARCHED:
            return -1
        at += SEARCHED - len(PAGE) + 1


def _audio(head: bytes) -> tuple[str, int, int] | None:
    """Return codec, number of channels and rate in Hz of an Ogg stream; None if it is not audio.

    Numbers that lie behind the end of a cut-off file are 0.
    """
    head = head.ljust(BODY, b"\0")
    if head.startswith(b"OpusHead"):
        return "Opus", head[9], 48_000
    if head.startswith(b"\x01vorbis"):
        return "Vorbis", head[11], int.from_bytes(head[12:16], "little")
    if head.startswith(b"\x7fFLAC"):
        bits = int.from_bytes(head[27:31], "big")  # STREAMINFO: 20 bits for the rate, 3 for the channels
        return FLAC, (bits >> 9 & 7) + 1, bits >> 12
    if head.startswith(b"Speex   "):
        return "Speex", int.from_bytes(head[48:52], "little"), int.from_bytes(head[36:40], "little")
    return None


class _Span(io.RawIOBase):
    """The bytes of a file from ``start`` to ``end``, as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, end: int):
        super().__init__()
        self._file, self._start, self._end = file, start, end
        self._at = start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        self._file.seek(self._at)
        some = self._file.read(max(0, min(len(view), self._end - self._at)))
        view[: len(some)] = some
        self._at += len(some)
        return len(some)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = min(self._end, max(self._start, base + offset))
        return self._at - self._start


@contextlib.contextmanager
def open_link(path: str, link: Link) -> Iterator[av.container.InputContainer]:
    """Open one of a file's recordings; it is closed at the end of the block.

    Raises:
        ClipError: FFmpeg cannot read it.
    """
    with open(path, "rb") as file:
        try:
            span = _Span(file, link.start, link.end)
            container = av.open(span, "r", format=link.format, **LENIENT)
        except MemoryError:  # PyAV's MemoryError is an FFmpegError, too
            raise
        except (av.error.FFmpegError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise ClipError(Status.UNREADABLE, f"it cannot be opened ({words})") from None
        try:
            yield container
        finally:
            container.close()


def first_page_in_place(packets: Iterable[av.Packet], link: Link | None) -> Iterator[av.Packet]:
    """Yield packets; those on the first page of FLAC get the times that the page states.

    FFmpeg places them at 0, also where the audio begins later than the video.

    Args:
        packets: packets of a recording in an Ogg file.
        link: the recording; None for another file, whose packets stay as they are.
    """
    if link is None or link.audio is None or link.audio[0] != FLAC or not link.first:
        yield from packets
        return
    held: list[av.Packet] = []
    page: list[av.Packet] = []  # those of `held` that are on the first page of audio
    packets = iter(packets)
    for packet in packets:
        held.append(packet)
        if isinstance(packet.stream, av.AudioStream) and packet.size:
            if page and packet.pos != page[0].pos:
                break
            page.append(packet)
    length = sum((packet.duration or 0) * (packet.time_base or 0) for packet in page)
    if page and page[0].pts == 0 and (late := link.first - float(length)) > 0:
        for packet in page:
            moved = round(late / float(packet.time_base or 1))
            packet.pts = (packet.pts or 0) + moved
            packet.dts = (packet.dts or 0) + moved
    yield from chain(held, packets)  # `yield from packets` raises an error where PyAV's generator ends
