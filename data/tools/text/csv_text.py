"""Write tables as CSV text that every reader divides into the same rows and cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    r"""Return rows as CSV with a line feed after each.

    A cell with a comma, a quote or any line break is quoted. The writer of Python 3.11 and 3.12 does not
    quote a carriage return if lines end with a line feed, and a reader would then divide the row at it.

    >>> csv_text([["file", "label"], ["a\rb.mp4", "sad"]])
    'file,label\n"a\rb.mp4",sad\n'
    """
    text = io.StringIO()
    row_text = io.StringIO()
    writer = csv.writer(row_text, lineterminator="\r\n")
    for row in rows:
        row_text.seek(0)
        row_text.truncate()
        writer.writerow(row)
        text.write(row_text.getvalue().removesuffix("\r\n") + "\n")
    return text.getvalue()
