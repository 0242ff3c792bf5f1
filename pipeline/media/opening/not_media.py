"""Recognise files that are not media by their first bytes, before FFmpeg opens them as some odd format."""

from __future__ import annotations

import codecs
import os
import stat

from deiii.data.cache.outcomes import MAY_BE_TEMPORARY, MAYBE_MACHINE, ClipError, Status, is_machine_trouble
from deiii.data.tools.os_errors import other_case

SIGNATURES = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the media itself; run `git lfs pull`"),
    (b"\x1f\x8b", "is a gzip archive; unpack it first"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"PK\x05\x06", "is an empty zip archive"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"\xfd7zXZ\0", "is an xz archive; unpack it first"),
    (b"BZh", "is a bzip2 archive; unpack it first"),
    (b"Rar!\x1a\x07", "is a rar archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is a zstd archive; unpack it first"),
    (b"\0\x05\x16\x07", "is what macOS keeps beside a file (AppleDouble), not the recording itself"),
    (b"\x93NUMPY", "is a NumPy array"),
    (b"SQLite format 3\0", "is an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a document of Microsoft Office or Windows"),
    (b"\x7fELF", "is a program"),
    (b"%PDF", "is a PDF document"),
    (b"\x89HDF", "is an HDF5 file"),
    (b"\x89PNG", "is an image (PNG), not a recording"),
    (b"\xff\xd8\xff", "is an image (JPEG), not a recording"),
    (b"BM", "is an image (BMP), not a recording"),
    (b"GIF8", "is an image (GIF), not a recording"),
    (b"II*\0", "is an image (TIFF), not a recording"),
    (b"MM\0*", "is an image (TIFF), not a recording"),
)
HEAD_BYTES = 4096  # number of bytes at the start of a file that are read
# Bytes that text in UTF-8 does not hold: control characters but tab, line feed, form feed, return, escape.
CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\f\r\x1b") + b"\x7f"


def check_file(path: str) -> None:
    """Raise ClipError for files that are not media, because FFmpeg may open them as some odd format."""
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):  # opening a pipe would wait for a writer without end
            what = "a folder" if stat.S_ISDIR(kind) else "a pipe, a socket or a device"
            raise ClipError(Status.UNREADABLE, f"it is {what}, not a media file")
        with open(path, "rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise ClipError(Status.MISSING, f"there is no such file{other_case(path)}") from None
    except OSError as error:
        if is_machine_trouble(error):
            raise
        words = f"the file cannot be read: {error.strerror}"
        if error.errno in MAYBE_MACHINE:
            named = f"{type(error).__name__} {error.errno}"
            raise ClipError(Status.FAILED, f"{words}; {MAY_BE_TEMPORARY}", named) from None
        raise ClipError(Status.UNREADABLE, words) from None
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


def is_text(path: str) -> bool:
    """Return whether a file begins with text in UTF-8, or in UTF-16 with a byte order mark."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return not any(ord(c) < 9 for c in head.decode("utf-16", errors="replace"))
    if head.translate(None, CONTROLS) != head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True
