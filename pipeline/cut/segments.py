"""Read a table of segments: a recording, a begin and an end in each row.

>>> seconds("1:02.5"), seconds("62,5"), seconds("62500", 0.001)
(62.5, 62.5, 62.5)
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from deiii.data.corpora.files import AUDIO, VIDEO, corpus_files
from deiii.data.tools.atomic_files import short_name
from deiii.data.tools.counts import counted, examples
from deiii.data.tools.text.decoding import CHECK_LETTERS, GUESSED, DecodeError, decode
from deiii.pipeline.cut.columns import EXAMPLE, KEPT, ColumnError, segment_columns, unused_columns
from deiii.pipeline.init.foreign_table import NUMBERS, Media, with_point
from deiii.pipeline.init.found import InitError
from deiii.pipeline.init.table_text import read_table

SHORTEST_S = 0.02  # a segment of less than a video frame
LATEST_S = 1e12  # a later time is no time; this also keeps sums and names finite
MOST_UNUSED = 8  # columns that a warning names
LONGEST_STEM = 160  # bytes of the recording's name that the names of its clips have
_log = logging.getLogger(__name__)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)")


class SegmentError(ValueError):
    """A table of segments that cannot be used; the message names the table and the row."""


@dataclass(frozen=True)
class Segment:
    """A part of a recording.

    Attributes:
        row: number of its row in the table, from 1; a header is row 1.
        recording: path of the recording below the folder of recordings, with forward slashes; the path as
            the table has it if there is no such file.
        begin, end: s on the clock of the recording, whose earliest video frame or audio sample is at 0.
        cells: the cells of the columns `KEPT` that the table has; a decimal comma of a value is a point.
    """

    row: int
    recording: str
    begin: float
    end: float
    cells: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The path of its clip without suffix: that of the recording, and begin and end in ms."""
        path = PurePosixPath(self.recording)
        stem = path.with_name(short_name(path.stem, LONGEST_STEM)).as_posix()
        return f"{stem}_{round(1000 * self.begin):07d}-{round(1000 * self.end):07d}"


def seconds(text: str, unit: float = 1.0) -> float:
    """Return a time in s: a number with point or comma, or ``[hours:]minutes:seconds``.

    Args:
        text: the text of a cell.
        unit: s per unit of a plain number.

    Raises:
        ValueError: it is neither, or negative, not finite or above `LATEST_S`.
    """
    text = text.strip()
    if found := _CLOCK.fullmatch(text):
        hours, minutes, rest = found.groups()
        value = 3600.0 * float(hours or 0) + 60.0 * int(minutes) + float(rest.replace(",", "."))
    else:
        value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text) * unit
    if not 0 <= value <= LATEST_S:
        raise ValueError(text)
    return value


def read_segments(table: Path, root: Path | None = None, recording: str | None = None) -> list[Segment]:
    """Return the segments of a table, in its order.

    The table may have any separator and encoding. Columns are found by their names: the recording as in
    `deiii init`; begin and end (``start``, ``end_s``, ``t_start``, ``onset``, ELAN's ``Begin Time - ss.msec``
    and so on), or begin and duration, in s, or in ms if the name has that (``start_ms``); speaker, label,
    attributes, fold and sex. A table without header that has two or three columns, the first two of them
    times, has begin, end and label, as Audacity exports them. Columns that are not used, and an encoding that
    is a guess, are logged.

    Args:
        table: the table.
        root: the folder of the recordings; that of the table if not given.
        recording: path of the one recording of all rows, for a table without such a column.

    Raises:
        SegmentError: names the table, and the row or column that cannot be read.

    >>> read_segments(Path("segments.csv"))[0].begin      # doctest: +SKIP
    12.5
    """
    folder = (root or table.parent).resolve()
    try:
        text, encoding = decode(table.read_bytes())
        rows = read_table(text)
        header = _audacity_header(rows[0])
        columns = segment_columns(header or rows[0], recording is None)
        find = _finder(folder, recording)
        found = [
            _segment(at, cells, columns, find)
            for at, cells in enumerate(rows if header else rows[1:], 1 if header else 2)
        ]
        _check_names(found)
    except (InitError, ColumnError, SegmentError, DecodeError, csv.Error) as error:
        raise SegmentError(f"{table}: {error}") from None
    if not found:
        raise SegmentError(f"{table} has no rows below its header; a table of segments looks like\n{EXAMPLE}")
    if encoding == GUESSED:
        _log.warning(CHECK_LETTERS, table)
    if unused := unused_columns(header or rows[0], columns):
        _log.warning("%s: columns not used: %s", table, examples(unused, MOST_UNUSED))
    return found


def _audacity_header(first: Sequence[str]) -> list[str]:
    """Return the names of the columns of Audacity's labels, given their first row; empty for other rows."""
    try:
        times = [seconds(cell) for cell in first[:2]]
    except ValueError:
        return []
    return ["start", "end", "label"][: len(first)] if len(times) == 2 and len(first) <= 3 else []


def _finder(folder: Path, recording: str | None) -> Callable[[str], str]:
    """Return a function from a cell to the path of its recording."""
    if recording is not None:
        path = Path(recording) if Path(recording).is_file() else folder / recording
        if not path.is_file():
            raise SegmentError(f"there is no recording {recording}, neither here nor in {folder}")
        path = path.parent.resolve() / path.name  # the recording itself may be a link to another folder
        if folder not in path.parents:
            raise SegmentError(f"{path} is not below {folder}; name its folder with --root")
        name = path.relative_to(folder).as_posix()
        return lambda _: name
    media = Media(corpus_files(folder, VIDEO + AUDIO), folder)
    cells: dict[str, str] = {}  # what the table calls each recording

    def find(cell: str) -> str:
        plain = cell.replace("\\", "/")
        # ELAN's export of several files names the annotation files; the recording has the same name.
        found = media.find(cell) or media.find(re.sub(r"(?i)\.eaf$", "", cell))
        if found is None:
            return plain
        before = cells.setdefault(found, plain)
        if not _same_file(before, plain):
            raise InitError(
                f"{before} and {plain} both mean {found}, the only recording of this name; add the missing "
                "recording, or correct the folders"
            )
        return found

    return find


def _same_file(a: str, b: str) -> bool:
    """Return whether two paths may mean one file: the folders of one are the last ones of the other."""
    pairs = zip(*(reversed(PurePosixPath(path.casefold()).parent.parts) for path in (a, b)), strict=False)
    return all(first == second or ".." in (first, second) for first, second in pairs)


def _segment(
    at: int, cells: Sequence[str], columns: Mapping[str, tuple[int, float]], find: Callable[[str], str]
) -> Segment:
    cell = {name: cells[number] if number < len(cells) else "" for name, (number, _) in columns.items()}
    if "path" in cell and not cell["path"]:
        raise SegmentError(f"row {at} has no recording")
    try:
        path = find(cell.get("path", ""))
    except InitError as error:
        raise SegmentError(f"row {at}: {error}") from None
    if not PurePosixPath(path).name:
        raise SegmentError(f"row {at}: {cell['path']!r} is not the name of a file")
    if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
        raise SegmentError(f"row {at}: {path} is not below the folder of the recordings; name it with --root")
    times = {}
    for name in ("begin", "end", "length"):
        if not cell.get(name):
            continue
        try:
            times[name] = seconds(cell[name], columns[name][1])
        except ValueError:
            raise SegmentError(
                f"row {at}: {cell[name]!r} is no time; write seconds, or hours:minutes:seconds"
            ) from None
    if "begin" not in times or not {"end", "length"} & set(times):
        raise SegmentError(f"row {at} has no {'end' if 'begin' in times else 'begin'}")
    begin = times["begin"]
    end = times["end"] if "end" in times else begin + times["length"]
    if end - begin < SHORTEST_S:
        raise SegmentError(
            f"row {at}: the segment from {begin:g} to {end:g} s is shorter than {SHORTEST_S:g} s; correct or "
            "remove it"
        )
    kept = {name: cell[name] for name in KEPT if name in cell}
    kept |= {name: with_point(kept[name]) for name in NUMBERS if name in kept}
    return Segment(at, path, begin, end, kept)


def _check_names(segments: Sequence[Segment]) -> None:
    """Raise SegmentError for two rows whose clips would have the same name."""
    named: dict[str, list[Segment]] = {}
    for segment in segments:
        named.setdefault(segment.name.casefold(), []).append(segment)
    twice = [same for same in named.values() if len(same) > 1]
    if not twice:
        return
    first = twice[0]
    rows = " and ".join(str(segment.row) for segment in first)
    recordings = {segment.recording: None for segment in first}
    if len(recordings) > 1:
        problem = (
            f"rows {rows} ({', '.join(recordings)}): their clips would have the same name; keep the rows of "
            "one of the recordings, or rename one"
        )
    else:
        problem = (
            f"rows {rows} are the same part of one recording; keep one of them (an export of several tiers "
            "of ELAN has a row for each annotation: export the tier of the labels alone)"
        )
    if twice[1:]:
        problem += f" ({counted(len(twice), 'part')} in all: rows {examples(same[0].row for same in twice)})"
    raise SegmentError(problem)
