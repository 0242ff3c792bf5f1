"""Decode the text of a file that a spreadsheet or another program wrote.

>>> decode("\\ufeffpath;label".encode("utf-16"))
('path;label', 'UTF-16')
"""

from __future__ import annotations

import codecs

MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
GUESSED = "Windows-1252"  # the name of the encoding that `decode` assumes where no other fits
CHECK_LETTERS = (
    "%s is not UTF-8 and was read as Windows-1252; check letters such as é and ü, or save it as CSV UTF-8"
)
BINARY = (  # first bytes of files that people take for tables
    (b"PK\x03\x04", "an Excel or OpenDocument workbook, or another ZIP file; save its sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "a workbook of old versions of Excel; save its sheet as CSV UTF-8"),
    (b"PAR1", "a Parquet file; save it as CSV, for example with pandas"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
)


class DecodeError(ValueError):
    """A file is not text; the message states what it is, or which encoding it breaks."""


def decode(data: bytes) -> tuple[str, str]:
    """Return the text of a file and the name of its encoding.

    A byte-order mark decides; then zero bytes (UTF-16 of mostly Latin text); then whether it is UTF-8; else
    it is read as Windows-1252, which older spreadsheets write.

    Raises:
        DecodeError: it is not text in any of these encodings.
    """
    for mark, codec, name in MARKS:
        if data.startswith(mark):
            return _strict(data, codec, name).removeprefix("\ufeff"), name
    for mark, words in BINARY:
        if data.startswith(mark):
            raise DecodeError(f"it is {words}")
    if data.count(0) > len(data) // 4:
        big = data[0::2].count(0) > data[1::2].count(0)
        return _strict(data, "utf-16-be" if big else "utf-16-le", "UTF-16"), "UTF-16"
    if b"\0" in data:
        raise DecodeError("it holds zero bytes; it is not text")
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        return _strict(data, "cp1252", GUESSED), GUESSED


def _strict(data: bytes, codec: str, name: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        raise DecodeError(f"it is not {name} throughout ({error.reason}); save it as CSV UTF-8") from None
