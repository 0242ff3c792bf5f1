"""Media files: checking, opening and decoding them.

Times of both streams count from one zero, the container's start time (the earliest first timestamp
of its streams, as FFmpeg reports it). Audio that starts after the video therefore has a later first
time. What does not decode is skipped and noted. A clip from which nothing can be decoded raises
`ClipError` with the outcome to record.

>>> samples, t0_s, missing_s = read_audio("clip.mp4", 16000)  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, overload

import av
import av.error

from deiii.data.cache.outcomes import MACHINE_TROUBLE, ClipError, Status

MAX_SECONDS = 3600.0  # cut longer recordings into clips; this also bounds every allocation
MAX_PIXELS = 8192 * 8192
MAX_ERRORS = 200  # after so many damaged packets the rest of a stream is skipped
IMAGE_FORMATS = frozenset({"image2", "gif", "apng", "ico", "webp_pipe"})
SIGNATURES = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the media itself; run `git lfs pull`"),
    (b"\x1f\x8b", "is a gzip archive; unpack it first"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"%PDF", "is a PDF document"),
    (b"\x89HDF", "is an HDF5 file"),
    (b"\x89PNG", "is an image (PNG), not a recording"),
    (b"\xff\xd8\xff", "is an image (JPEG), not a recording"),
    (b"BM", "is an image (BMP), not a recording"),
    (b"GIF8", "is an image (GIF), not a recording"),
)


def declared_seconds(stream: av.stream.Stream) -> float:
    """The duration in s that the header of a stream declares; 0 where it declares none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    words = stream.metadata.get("DURATION", "").split(":")  # FFmpeg's tag in Matroska files, "hh:mm:ss.s"
    try:
        hours, minutes, seconds = map(float, words)
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds


def is_cut_off(seconds: float, declared: float) -> bool:
    """Whether a stream of ``seconds`` is clearly shorter than its header declares."""
    return 0 < declared <= MAX_SECONDS and declared - seconds > max(0.25, 0.05 * declared)


@contextlib.contextmanager
def open_media(path: str) -> Iterator[av.container.InputContainer]:
    """Open a media file for reading; it is closed at the end of the block.

    Raises:
        ClipError: the file is missing, unreadable or not a recording.

    >>> with open_media("clip.mp4") as container:  # doctest: +SKIP
    ...     print(container.streams.video)
    """
    _check_file(path)
    try:
        # Local files only: a playlist in a data set must not make FFmpeg open URLs or other files.
        container = av.open(path, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except MemoryError:  # PyAV's MemoryError is an FFmpegError, too
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise ClipError(
            Status.UNREADABLE, f"the file cannot be opened as media ({words}): damaged or cut off"
        ) from None
    try:
        formats = set(container.format.name.split(","))
        if formats & IMAGE_FORMATS or any(f.endswith("_pipe") for f in formats):
            raise ClipError(Status.NOT_MEDIA, "the file is an image, not a recording")
        if "tty" in formats:
            raise ClipError(Status.NOT_MEDIA, "the file is text, not a recording")
        yield container
    finally:
        container.close()


def _check_file(path: str) -> None:
    """Raise ClipError for files that are not media, because FFmpeg may open them as some odd format."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise ClipError(Status.MISSING, "there is no such file") from None
    except OSError as error:
        if error.errno in MACHINE_TROUBLE:
            raise
        raise ClipError(Status.UNREADABLE, f"the file cannot be read: {error.strerror}") from None
    if not head.strip(b"\0"):
        what = "is empty" if not head else "begins with nothing but zero bytes"
        raise ClipError(Status.NOT_MEDIA, f"the file {what}; the copy or download failed")
    for signature, words in SIGNATURES:
        if head.startswith(signature):
            raise ClipError(Status.NOT_MEDIA, f"the file {words}")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise ClipError(
            Status.NOT_MEDIA, "the file is a web page: its download needs a login or another address"
        )


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first video stream that is not cover art. Raises ClipError where there is none."""
    streams = [s for s in container.streams.video if s.codec_context is not None]
    cover_art = getattr(av.stream.Disposition, "attached_pic", 0)
    streams = [s for s in streams if not s.disposition & cover_art]
    if not streams:
        raise ClipError(Status.NO_VIDEO, "the file has no video stream")
    stream = streams[0]
    if stream.width < 1 or stream.height < 1 or stream.width * stream.height > MAX_PIXELS:
        raise ClipError(
            Status.UNREADABLE,
            f"the header declares frames of {stream.width}x{stream.height} px: it is damaged",
        )
    return stream


def clock_zero(container: av.container.InputContainer) -> float:
    """The time in s on the container's clock that is time 0 of the clip."""
    return (container.start_time or 0) / av.time_base


@overload
def decode(
    container: av.container.InputContainer, stream: av.VideoStream, notes: list[str]
) -> Iterator[av.VideoFrame]: ...
@overload
def decode(
    container: av.container.InputContainer, stream: av.AudioStream, notes: list[str]
) -> Iterator[av.AudioFrame]: ...
def decode(container: av.container.InputContainer, stream: Any, notes: list[str]) -> Iterator[Any]:
    """Yield the frames of one stream; damaged packets are skipped, and their number is added to ``notes``."""
    errors = 0
    reason = ""
    packets = container.demux(stream)
    while errors < MAX_ERRORS:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.error.FFmpegError, OSError) as error:
            errors += 1
            reason = _reason(error)
            break
        try:
            frames = packet.decode()
        except av.error.EOFError:
            break
        except MemoryError:  # an FFmpegError, too; but free memory must not change what a clip yields
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
