"""Read a table that a spreadsheet or another program wrote: its separator is found.

>>> read_table("path;label\\na.mp4;happy\\n")
[['path', 'label'], ['a.mp4', 'happy']]
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter

from deiii.pipeline.init.found import InitError

TOLD = re.compile(r'\s*"?sep=([^\s"]|\t)"?\s*', re.IGNORECASE)  # the line that states the separator
SEPARATORS = ("\t", ";", ",", "|")  # if two fit alike, the first: commas may be decimal, or in a text


def read_table(text: str) -> list[list[str]]:
    """Return the rows of a table, header first, without blank rows; cells without blanks around them.

    The separator is the one that gives the most rows as many cells as the header, and at least two. A line
    ``sep=;``, which Excel writes, states it.

    Raises:
        InitError: quotes are not closed, no separator gives two columns, or nothing follows the line that
            states the separator.
    """
    first, _, rest = text.partition("\n")
    if told := TOLD.fullmatch(first):
        return _told_rows(rest, told[1])
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


def _told_rows(text: str, separator: str) -> list[list[str]]:
    """Return the rows below the line that states their separator."""
    try:
        rows = _rows(text, separator)
    except csv.Error as error:
        raise InitError(f"it is not a table: {error}") from None
    if not rows:
        raise InitError("it is not a table: no line follows the one that states the separator")
    return rows


def _rows(text: str, separator: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = [[cell.strip() for cell in row] for row in reader]
    return [row for row in rows if any(row)]
