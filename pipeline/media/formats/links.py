"""The recordings of a file that holds several, as `cat` joins them; each is opened as a file of its own.

`deiii.pipeline.media.formats.ogg` describes how FFmpeg reads Ogg. Of a Matroska or WebM file it reads two
recordings, the second one with codecs, frame size and sample rate of the first. Source: RFC 9559.

>>> [link.start for link in recordings("joined.webm")]                # doctest: +SKIP
[0, 16711]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from deiii.pipeline.media.formats.ogg import PAGE, Link, find_links, read_links

HEAD = b"\x1a\x45\xdf\xa3"  # id of the element that begins a document
DOCTYPE = b"\x42\x82"  # id of the element that names the type of document
SEGMENT = b"\x18\x53\x80\x67"
SEARCHED = 1 << 20  # bytes that are searched at a time for the next document
HEAD_BYTES = 64


def recordings(path: str) -> list[Link]:
    """Return the recordings of an Ogg or Matroska file, in order; none for one of another kind."""
    return read_links(path, {PAGE: find_links, HEAD: _documents_as_links})


def _documents_as_links(file: BinaryIO, size: int) -> list[Link]:
    starts = list(_documents(file, size))
    ends = [*starts[1:], size]
    return [Link(a, b, None, True, format=None) for a, b in zip(starts, ends, strict=True)]


def _documents(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where each document of a Matroska file begins."""
    at = 0
    while at >= 0:
        yield at
        end = _end(file, at)
        at = _next_document(file, end or at + len(HEAD)) if end < size else -1


def _end(file: BinaryIO, at: int) -> int:
    """Return where a document ends according to its sizes; 0 if they are unknown."""
    for name in (HEAD, SEGMENT):
        file.seek(at)
        head = file.read(12)
        length = 9 - head[4].bit_length() if len(head) == 12 and head.startswith(name) and head[4] else 0
        if not length:
            return 0
        value = int.from_bytes(head[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
        if value == (1 << 7 * length) - 1:  # written by a recorder that could not go back
            return 0
        at += 4 + length + value
    return at


def _next_document(file: BinaryIO, at: int) -> int:
    """Return where the next document begins, from a place on; -1 if there is none."""
    while True:
        file.seek(at)
        some = file.read(SEARCHED)
        place = some.find(HEAD)
        while 0 <= place <= len(some) - HEAD_BYTES:
            if DOCTYPE in some[place : place + HEAD_BYTES]:
                return at + place
            place = some.find(HEAD, place + 1)
        if len(some) < SEARCHED:
            return -1
        at += SEARCHED - HEAD_BYTES
