"""Read a table that a spreadsheet or another program wrote: its encoding and its separator are found.

>>> decode("\\ufeffpath;label".encode("utf-16"))
('path;label', 'UTF-16')
>>> read_table("path;label\\na.mp4;happy\\n")
[['path', 'label'], ['a.mp4', 'happy']]
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter

from deiii.pipeline.init.found import InitError

SEPARATORS = (",", ";", "\t", "|")
MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


def decode(data: bytes) -> tuple[str, str]:
    """Return the text of a file and the name of its encoding.

    A byte-order mark decides; then zero bytes (UTF-16 of mostly Latin text); then whether it is UTF-8; else
    it is read as Windows-1252, which older spreadsheets write.

    Raises:
        InitError: it is not text in any of these encodings.
    """
    for mark, codec, name in MARKS:
        if data.startswith(mark):
            return _strict(data, codec, name).removeprefix("\ufeff"), name
    if data.count(0) > len(data) // 4:
        big = data[0::2].count(0) > data[1::2].count(0)
        return _strict(data, "utf-16-be" if big else "utf-16-le", "UTF-16"), "UTF-16"
    if b"\0" in data:
        raise InitError("it holds zero bytes; it is not text")
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        return _strict(data, "cp1252", "Windows-1252"), "Windows-1252"


def _strict(data: bytes, codec: str, name: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        raise InitError(f"it is not {name} throughout ({error.reason}); save it as CSV UTF-8") from None


def read_table(text: str) -> list[list[str]]:
    """Return the rows of a table, header first, without blank rows; cells without blanks around them.

    The separator is the one that gives the most rows as many cells as the header, and at least two. A line
    ``sep=;``, which Excel writes, states it.

    Raises:
        InitError: quotes are not closed, or no separator gives two columns.
    """
    first, _, rest = text.partition("\n")
    told = first.strip().strip('"')
    if told.lower().startswith("sep=") and len(told) == 5:
        return _rows(rest, told[4])
    best: tuple[float, int, list[list[str]]] | None = None
    problem = "no comma, semicolon or tab divides its first line"
    for separator in SEPARATORS:
        if separator not in text:
            continue
        try:
            rows = _rows(text, separator)
        except csv.Error as error:
            problem = str(error)
            continue
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        like = Counter(len(row) for row in rows)[width] / len(rows)
        if best is None or (like, width) > best[:2]:
            best = like, width, rows
    if best is None:
        raise InitError(f"it is not a table: {problem}")
    return best[2]


def _rows(text: str, separator: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = [[cell.strip() for cell in row] for row in reader]
    return [row for row in rows if any(row)]
