"""Media files: opening, decoding, and sound on the media clock. Video is in `deiii.pipeline.media.video`.

Both streams' times count from one zero, the container's own start (the earliest stream's first
timestamp, which FFmpeg reports), so sound that starts later than the picture says so. What does
not decode is left out and noted, and a clip of which nothing can be used raises `ClipError` with the
outcome to record.

>>> samples, t0_s, missing_s = read_sound("clip.mp4", 16000)  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import av
import av.error

from deiii.data.cache.outcomes import MACHINE_TROUBLE, ClipError, Status

log = logging.getLogger(__name__)

MAX_SECONDS = 3600.0  # a longer recording belongs cut into clips; also bounds every allocation
MAX_PIXELS = 8192 * 8192
MAX_ERRORS = 200  # damaged packets after which the rest of a stream is given up
PICTURES = frozenset({"image2", "gif", "apng", "ico", "webp_pipe"})
SIGNATURES = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the media itself; run `git lfs pull`"),
    (b"\x1f\x8b", "is a gzip archive; unpack it first"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"%PDF", "is a PDF document"),
    (b"\x89HDF", "is an HDF5 file"),
    (b"\x89PNG", "is a picture (PNG), not a recording"),
    (b"\xff\xd8\xff", "is a picture (JPEG), not a recording"),
    (b"BM", "is a picture (BMP), not a recording"),
    (b"GIF8", "is a picture (GIF), not a recording"),
)


def promised_seconds(stream: av.stream.Stream) -> float:
    """The duration in s that a stream's header promises; 0 where it promises none."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    words = stream.metadata.get("DURATION", "").split(":")  # Matroska's, as FFmpeg writes it
    try:
        hours, minutes, seconds = map(float, words)
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds


def falls_short(seconds: float, promised: float) -> bool:
    """Whether what came of a stream is clearly less than its header promises."""
    return 0 < promised <= MAX_SECONDS and promised - seconds > max(0.25, 0.05 * promised)


@contextlib.contextmanager
def open_media(path: str) -> Iterator[av.container.InputContainer]:
    """A media file, open for reading. Raises ClipError where it is none."""
    _check_file(path)
    try:
        # No network and no other files: a playlist in a data set must not make us fetch anything.
        container = av.open(path, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except MemoryError:  # PyAV's is an FFmpegError too
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise ClipError(
            Status.UNREADABLE, f"the file cannot be opened as media ({words}): damaged or cut off"
        ) from None
    try:
        formats = set(container.format.name.split(","))
        if formats & PICTURES or any(f.endswith("_pipe") for f in formats):
            raise ClipError(Status.NOT_MEDIA, "the file is a picture, not a recording")
        if "tty" in formats:
            raise ClipError(Status.NOT_MEDIA, "the file is text, not a recording")
        yield container
    finally:
        container.close()


def _check_file(path: str) -> None:
    """Tell files that are no media apart before FFmpeg guesses something into them."""
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
    """The first video stream that is no cover art. Raises ClipError where there is none."""
    streams = [s for s in container.streams.video if s.codec_context is not None]
    attached = getattr(av.stream.Disposition, "attached_pic", 0)
    streams = [s for s in streams if not s.disposition & attached]  # cover art is no video
    if not streams:
        raise ClipError(Status.NO_VIDEO, "the file has no video stream")
    stream = streams[0]
    if stream.width < 1 or stream.height < 1 or stream.width * stream.height > MAX_PIXELS:
        raise ClipError(
            Status.UNREADABLE, f"the file claims frames of {stream.width}x{stream.height} px: a broken header"
        )
    return stream


def clock_zero(container: av.container.InputContainer) -> float:
    """The instant in s, on the container's clock, from which all our times count."""
    return (container.start_time or 0) / av.time_base


def decode(container: av.container.InputContainer, stream: av.stream.Stream, notes: list[str]) -> Iterator:
    """Frames of one stream; damaged packets are skipped and counted."""
    errors, reason = 0, ""
    packets = container.demux(stream)
    while errors < MAX_ERRORS:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.error.FFmpegError, OSError) as error:
            errors, reason = errors + 1, getattr(error, "strerror", None) or str(error)
            break
        try:
            frames = packet.decode()
        except av.error.EOFError:
            break
        except MemoryError:  # PyAV's is an FFmpegError too; what the machine has must not shape a result
            raise
        except (av.error.FFmpegError, ValueError) as error:
            errors, reason = errors + 1, getattr(error, "strerror", None) or str(error)
            continue
        yield from frames
    if errors:
        notes.append(f"{errors} packets of the {stream.type} stream cannot be decoded ({reason})")
