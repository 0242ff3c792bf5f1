"""A table with other column names, separators or encodings than deiii's, as deiii's table."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from deiii.data.corpora.spelling import segment_hint
from deiii.data.tools.counts import counted, examples
from deiii.data.tools.text.column_names import column_name
from deiii.data.tools.text.decoding import CHECK_LETTERS, GUESSED, DecodeError, decode
from deiii.data.tools.text.meld_names import with_meld_names
from deiii.data.tools.text.part_names import part_of
from deiii.pipeline.init.found import Found, InitError, Row
from deiii.pipeline.init.json_table import SUFFIXES as JSON
from deiii.pipeline.init.json_table import NotJson, read_records
from deiii.pipeline.init.media import Media
from deiii.pipeline.init.table_text import read_table
from deiii.pipeline.init.vocabulary import COLUMNS, is_emotion

SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
UNREAD = (*SPREADSHEETS, ".parquet", ".feather", ".arrow", ".sav", ".dta", ".rds")
MAX_BYTES = 256_000_000
NUMBERS = ("valence", "arousal", "dominance")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?\d+,\d+")


class RowError(InitError):
    """A table of recordings has a row that cannot be read."""


class ColumnError(InitError):
    """A table names recordings, or has columns with known names, and lacks one that is needed."""


def read_foreign(table: Path, media: Media) -> Found:
    """Return the rows of one table, as deiii's table has them.

    Columns are found by their names (`COLUMNS`); without a header, by what they hold. Files that are not
    there stay in the table and are named in a note; numbers with a decimal comma get a point.

    Raises:
        InitError: it is not a table of recordings; names the table.
        ColumnError: it may be one, but a column is missing.
        RowError: it is one, and a row cannot be read, or few of the recordings are there.
    """
    if table.stat().st_size > MAX_BYTES:
        raise InitError(f"{table} is larger than {MAX_BYTES} bytes, the limit for a table of clips")
    if table.suffix.lower() in UNREAD:
        raise InitError(not_read(table))
    try:
        text, encoding = decode(table.read_bytes())
        records = table.suffix.lower() in JSON
        rows = with_meld_names((read_records if records else read_table)(text))
        media = media.of_part(part_of(table.name))
        folder = table.parent.relative_to(media.root).as_posix() if _below(table, media.root) else ""
        folder = "" if folder == "." else folder
        columns, start = _columns(rows, media, folder)
    except (InitError, DecodeError, csv.Error) as error:
        kind = type(error) if isinstance(error, ColumnError | NotJson) else InitError
        cut = segment_hint(map(column_name, rows[0]), table) if kind is ColumnError else ""
        raise kind(f"{table}: {error}{cut}") from None
    try:
        hint = segment_hint(map(column_name, rows[0]), table) if start else ""
        width = len(rows[0]) if start else None
        first = start if records else start + 1  # records have no row of a header
        made, notes = _rows(rows[start:], columns, media, folder, first, width, hint)
    except InitError as error:
        raise RowError(f"{table}: {error}") from None
    if start:
        notes += _unused(rows, {number for number, _ in columns.values()}, table)
    words = ", ".join(f"{name} from {shown!r}" for name, (_, shown) in columns.items() if shown != name)
    how = (
        f"table {table}" + (f" ({encoding})" if encoding != "UTF-8" else "") + (f": {words}" if words else "")
    )
    if encoding == GUESSED:
        notes.insert(0, CHECK_LETTERS % table)
    return Found(how, tuple(made), notes=tuple(notes), sources=(table,))


def not_read(table: Path) -> str:
    """Return a line on a table of a kind that is not read.

    >>> not_read(Path("labels.parquet"))
    'the table labels.parquet is not read, because deiii does not read the format .parquet; export it as CSV'
    """
    suffix = table.suffix.lower()
    if suffix in SPREADSHEETS:
        return f"the spreadsheet {table} is not read; save it as CSV"
    return f"the table {table} is not read, because deiii does not read the format {suffix}; export it as CSV"


def _below(path: Path, root: Path) -> bool:
    return root in path.parents


def _columns(rows: list[list[str]], media: Media, folder: str) -> tuple[dict[str, tuple[int, str]], int]:
    """Return number and name of each column that is used, and the number of the first row of clips."""
    header = {column_name(name): number for number, name in reversed(list(enumerate(rows[0])))}
    parts = {name for name in header if part_of(name)}  # of a split: train, val and test with 1 and 0
    parts = parts if len(set(map(part_of, parts))) > 1 else set()
    columns: dict[str, tuple[int, str]] = {}
    for wanted, names in COLUMNS.items():
        for name in names:
            if name in header and header[name] not in {number for number, _ in columns.values()}:
                if wanted == "path" and not _holds_media(rows[1:], header[name], media, folder):
                    continue
                if wanted in NUMBERS and (name in parts or not _holds_numbers(rows[1:], header[name])):
                    continue
                columns[wanted] = header[name], rows[0][header[name]]
                break
    if "path" in columns and ("label" in columns or "valence" in columns or "arousal" in columns):
        return columns, 1
    if "path" not in columns and _any_media(rows[0], media, folder):
        return _by_content(rows, media, folder), 0
    lacking = [name for name in ("path", "label") if name not in columns]
    known = [name for name in ("path", "speaker", "label") if not header.keys().isdisjoint(COLUMNS[name])]
    kind = ColumnError if "path" in columns or len(known) > 1 else InitError
    raise kind(
        f"no column for {' and '.join(lacking)} among {', '.join(rows[0][:8])}; a column for the path "
        f"({', '.join(COLUMNS['path'][:3])}) has to name recordings below {media.root}; one for the label is "
        f"called {', '.join(COLUMNS['label'][:3])}"
    )


def _holds_media(rows: list[list[str]], number: int, media: Media, folder: str) -> bool:
    some = rows[:: max(1, len(rows) // 20)]
    found = [row for row in some if number < len(row) and _is_media(row[number], media, folder)]
    return 2 * len(found) >= len(some) > 0


def _holds_numbers(rows: list[list[str]], number: int) -> bool:
    """Return whether at least half of the cells that are not blank are numbers, and one is."""
    cells = [row[number] for row in rows if number < len(row) and row[number]]
    return 2 * sum(_NUMBER.fullmatch(with_point(cell)) is not None for cell in cells) >= len(cells) > 0


def _is_media(cell: str, media: Media, folder: str) -> bool:
    try:
        return bool(cell) and media.find(cell, folder) is not None
    except InitError:
        return True  # it means several


def _any_media(cells: list[str], media: Media, folder: str) -> bool:
    return any("." in cell and _is_media(cell, media, folder) for cell in cells)


def _by_content(rows: list[list[str]], media: Media, folder: str) -> dict[str, tuple[int, str]]:
    """Return the columns of a table without a header: recordings, then emotions, then the only other one.

    Raises:
        InitError: there is no column of recordings, or not exactly one of emotions.
    """
    width = min(map(len, rows))
    cells = {number: [row[number] for row in rows] for number in range(width)}
    path = next((n for n in cells if _holds_media(rows, n, media, folder)), None)
    if path is None:
        raise InitError(
            "it has no header, and no column that all rows have names recordings below "
            f"{media.root} in half of them; write path,speaker,label above it"
        )
    emotions = [n for n in cells if n != path and sum(map(is_emotion, cells[n])) >= 0.5 * len(rows)]
    others = [n for n in cells if n != path and n not in emotions and len(set(cells[n])) < len(rows)]
    if len(emotions) != 1:
        raise InitError(
            "it has no header, and not exactly one column of emotions; write path,speaker,label above it"
        )
    columns = {"path": (path, f"column {path + 1}"), "label": (emotions[0], f"column {emotions[0] + 1}")}
    if len(others) == 1:
        columns["speaker"] = others[0], f"column {others[0] + 1}"
    return columns


def _unused(rows: list[list[str]], used: set[int], table: Path) -> list[str]:
    """Return notes on the columns of a table with a header that are not used."""
    others = [n for n, name in enumerate(rows[0]) if n not in used and name]
    cells = {n: [row[n] for row in rows[1:] if len(row) > n] for n in others}
    parts = [n for n in others if cells[n] and all(map(part_of, cells[n]))]
    notes = [
        f"the column {rows[0][n]!r} divides the clips and is not used: deiii divides the corpus itself, by "
        f"speaker; `deiii splits import {shlex.quote(str(table))}` keeps its parts"
        for n in parts
    ]
    if rest := [rows[0][n] for n in others if n not in parts]:
        notes.append(f"columns not used: {', '.join(rest[:8])}{' ...' if len(rest) > 8 else ''}")
    return notes


def _rows(
    rows: list[list[str]],
    columns: dict[str, tuple[int, str]],
    media: Media,
    folder: str,
    first: int,
    width: int | None,
    hint: str,
) -> tuple[list[Row], list[str]]:
    """Return the clips of a table.

    Args:
        rows: rows below the header.
        columns: number and name of each column that is used.
        media: finds the recordings.
        folder: folder of the table, relative to that of the recordings.
        first: number of the first row.
        width: number of cells in the header; ``None`` without one.
        hint: what to do if rows are segments of recordings (`segment_hint`); else empty.
    """
    made: dict[str, Row] = {}
    absent: list[str] = []
    twice: list[str] = []
    numbers = {name: number for name, (number, _) in columns.items()}
    for at, cells in enumerate(rows, first):
        if len(cells) <= max(numbers.values()):
            raise InitError(f"row {at} has {counted(len(cells), 'cell')}, fewer than the header; quote cells "
                            "that hold the separator")  # fmt: skip
        if width is not None and any(cells[width:]):
            raise InitError(
                f"row {at} has {counted(len(cells), 'cell')}, the header has {width}; quote cells that hold "
                "the separator"
            )
        cell = {name: cells[number] for name, number in numbers.items()}
        if not cell["path"]:
            raise InitError(f"row {at} has no path")
        try:
            path = media.find(cell["path"], folder)
        except InitError as error:
            raise InitError(f"row {at}: {error}") from None
        if path is None:
            absent.append(cell["path"])
            path = cell["path"]
        more = {name: with_point(cell[name]) for name in NUMBERS if cell.get(name)}
        more |= {name: cell[name] for name in ("fold", "sex") if cell.get(name)}
        row = Row(path, cell.get("speaker", ""), cell.get("label", ""), more)
        if path in made:
            if hint:
                raise InitError(f"row {at} names {path} again{hint}")
            if row != made[path]:
                raise InitError(f"row {at} names {path} again, with another speaker, label or value")
            twice.append(path)
        made[path] = row
    if len(absent) > 0.5 * len(rows):
        raise InitError(
            f"{len(absent)} of {counted(len(rows), 'row')} name files that are not below {media.root}: "
            f"{examples(absent)}"
        )
    notes = []
    if absent:
        notes.append(f"{counted(len(absent), 'file')} of the table not there: {examples(absent)}")
    if twice:
        notes.append(f"{counted(len(twice), 'row')} left out, the same as one before: {examples(twice)}")
    return list(made.values()), notes + not_listed(tuple(made.values()), media)


def not_listed(rows: Sequence[Row], media: Media) -> list[str]:
    """Return a note on the recordings that no row names."""
    left = sorted(media.paths - {row.path for row in rows})
    words = f"{counted(len(left), 'recording')} not in the table, and not used: {examples(left)}"
    return [words] if left else []


def with_point(text: str) -> str:
    """Return a number that has a decimal comma with a point; any other text as it is.

    >>> with_point("-0,5"), with_point("1,000,000"), with_point("a,b")
    ('-0.5', '1,000,000', 'a,b')
    """
    return text.replace(",", ".") if _COMMA.fullmatch(text) else text
