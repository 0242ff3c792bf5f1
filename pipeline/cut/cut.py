"""Cut the segments of a table out of their recordings, and write the table of the clips."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.progress import progress_bar
from deiii.data.tools.text.csv_text import csv_text
from deiii.data.tools.writer_lock import writer_lock
from deiii.pipeline.cut.recording import cut_recording
from deiii.pipeline.cut.segments import KEPT, Segment, SegmentError, read_segments

RECORD = "cut.csv"  # the outcome of each row of the table
TABLE = "clips.csv"
BACKUP = "clips.csv.bak"
COLUMNS = (
    "table", "row", "recording", "begin_s", "end_s", "clip", "status", "reason", "valid", "made_from",
    "folder",
)  # fmt: skip
PLACE = ("recording", "begin_s", "end_s")  # columns of the table of clips that state where a clip is from


@dataclass(frozen=True)
class CutRow:
    """The outcome of one segment: a row of ``cut.csv``.

    Attributes:
        table: name of the table of segments.
        row: number of the row in it.
        recording: the recording's path below the folder of recordings.
        begin_s, end_s: of the segment, s.
        clip: path of its file below the output folder; empty without a file.
        status, reason: outcome, as those of the stages.
        valid: share of the segment that the recording has, 0 to 1.
        made_from: size and modification time of the recording, and quality of the copy.
        folder: the folder of recordings.
    """

    table: str
    row: int
    recording: str
    begin_s: str
    end_s: str
    clip: str
    status: str
    reason: str
    valid: str
    made_from: str
    folder: str

    @property
    def place(self) -> tuple[str, ...]:
        """What determines the bytes of the clip."""
        return self.recording, self.begin_s, self.end_s, self.made_from

    @property
    def usable(self) -> bool:
        """Whether there is a file."""
        return self.status in (Status.OK, Status.OK_PARTIAL)


@dataclass(frozen=True)
class CutResult:
    """What a call has cut.

    Attributes:
        rows: the rows of ``cut.csv`` for this table, in its order.
        columns: the columns of the table of clips that come from tables of segments.
        clips: number of clips in the table of clips, those of earlier calls included.
        unlisted: files of earlier calls whose rows are no longer in the table of segments, in order.
        changed: clips for which the table of clips had other values before, in order.
    """

    rows: Sequence[CutRow]
    columns: Sequence[str]
    clips: int
    unlisted: Sequence[str] = ()
    changed: Sequence[str] = ()

    @property
    def failed(self) -> list[CutRow]:
        """The segments without a file."""
        return [row for row in self.rows if not row.usable]


def cut(
    table: Path,
    out: Path,
    root: Path | None = None,
    recording: str | None = None,
    crf: float | None = 12.0,
) -> CutResult:
    """Write a clip for each segment of a table, ``cut.csv`` with every outcome, and ``clips.csv``.

    ``clips.csv`` lists the clips that have a file, with the speakers, labels and values of the table, and can
    be given to `deiii preprocess`. Clips that an earlier call finished are kept if the recording did not
    change since; a stopped call can therefore be repeated. Clips of recordings that this table does not name
    stay in both files, so that each recording may have a table of its own. Where ``clips.csv`` has other
    values or columns than before, as after changes by hand, ``clips.csv.bak`` holds the earlier text.

    Args:
        table, root, recording: as in `read_segments`.
        out: the folder to write into.
        crf: quality of the video, see `deiii.pipeline.media.writing.copies.add_video`; ``None`` without loss.

    Raises:
        SegmentError: the table cannot be used, or ``out`` holds a ``clips.csv`` that this function did not
            write, or clips of another recording of the same name, or is the folder of the recordings.
        OSError: a file cannot be written.

    >>> cut(Path("segments.csv"), Path("clips")).failed      # doctest: +SKIP
    []
    """
    segments = read_segments(table, root, recording)
    folder = (root or table.parent).resolve()
    _check_out(out, folder)
    make_folder(out)
    with writer_lock(out):
        return _cut(segments, _Call(table.name, folder, out, crf))


@dataclass(frozen=True)
class _Call:
    """What is the same for all segments of a call: the arguments of `cut`, and the name of the table."""

    table: str
    folder: Path
    out: Path
    crf: float | None

    def row(
        self, segment: Segment, place: tuple[str, str, str, str], clip: Path | None, outcome: Outcome
    ) -> CutRow:
        """Return the row of a segment that was cut; ``place`` was determined before."""
        recording, begin_s, end_s, made_from = place
        return CutRow(
            self.table,
            segment.row,
            recording,
            begin_s,
            end_s,
            clip.relative_to(self.out).as_posix() if clip else "",
            outcome.status,
            outcome.reason,
            f"{outcome.fraction if outcome.usable else 0.0:.3f}",
            made_from,
            str(self.folder),
        )

    def place(self, segment: Segment) -> tuple[str, str, str, str]:
        """Return what determines the bytes of a clip, as `CutRow.place` does."""
        made_from = _made_from(self.folder / segment.recording, self.crf)
        return segment.recording, f"{segment.begin:.3f}", f"{segment.end:.3f}", made_from


def _cut(segments: Sequence[Segment], call: _Call) -> CutResult:
    out, folder = call.out, call.folder
    kept, known = _read_record(out), _known_cells(out)
    _check_recordings(kept.values(), segments, folder)
    named = {segment.recording for segment in segments}
    others = [row for row in kept.values() if row.recording not in named]
    rows: dict[str, CutRow] = {}
    places = {segment.name: call.place(segment) for segment in segments}
    todo: dict[str, list[Segment]] = {segment.recording: [] for segment in segments}
    for segment in segments:
        before = kept.get(places[segment.name])
        if before is not None and before.usable and (out / before.clip).is_file():
            rows[segment.name] = replace(before, table=call.table, row=segment.row, folder=str(folder))
        else:
            todo[segment.recording].append(segment)
    todo = {name: some for name, some in todo.items() if some}
    total = sum(max(s.end for s in some) for some in todo.values())
    with progress_bar(desc="cut", unit="s of media", total=round(total)) as bar:
        for name, some in todo.items():
            done = cut_recording(folder / name, some, out, call.crf, _advance(bar.update))
            for segment in some:
                rows[segment.name] = call.row(segment, places[segment.name], *done[segment.name])
            _write_record(out, [*others, *(rows[s.name] for s in segments if s.name in rows)])
    ordered = [rows[s.name] for s in segments]
    cells: list[tuple[Mapping[str, str], CutRow]] = [
        (known[row.clip], row) for row in others if row.usable and row.clip in known
    ]
    cells += [(s.cells, row) for s, row in zip(segments, ordered, strict=True) if row.usable]
    columns = [name for name in KEPT if any(name in labels for labels, _ in cells)]
    clips = [
        {"path": row.clip}
        | {name: labels.get(name, "") for name in columns}
        | {name: str(getattr(row, name)) for name in PLACE}
        for labels, row in cells
    ]
    _write_record(out, [*others, *ordered])
    changed = [row["path"] for row in clips if _values(known.get(row["path"], row)) != _values(row)]
    if changed:
        write_text(out / BACKUP, (out / TABLE).read_text(encoding="utf-8"))
    write_text(out / TABLE, csv_text([["path", *columns, *PLACE], *(list(row.values()) for row in clips)]))
    files = {row.clip for row in (*others, *ordered)}
    unlisted = sorted(row.clip for row in kept.values() if row.clip and row.clip not in files)
    unlisted = [clip for clip in unlisted if (out / clip).is_file()]
    return CutResult(ordered, columns, len(clips), unlisted, changed)


def _values(row: Mapping[str, str]) -> dict[str, str]:
    """Return the cells of a row of the table of clips that a user may have changed, without empty ones."""
    return {name: cell for name, cell in row.items() if cell and name not in PLACE}


def _advance(update: Callable[[float], object]) -> Callable[[float], None]:
    """Return a function that takes the time in s of one recording, and updates a bar by whole seconds."""
    shown = 0

    def to(time: float) -> None:
        nonlocal shown
        if int(time) > shown:
            update(int(time) - shown)
            shown = int(time)

    return to


def _made_from(path: Path, crf: float | None) -> str:
    try:
        found = path.stat()
    except OSError:
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns} {'lossless' if crf is None else f'crf {crf:g}'}"


def _check_out(out: Path, folder: Path) -> None:
    if out.resolve() == folder:
        raise SegmentError(f"{out} is the folder of the recordings; name another one for the clips")
    if (out / TABLE).exists() and not (out / RECORD).exists():
        raise SegmentError(f"{out / TABLE} was not written by `deiii cut`; name another folder for the clips")


def _check_recordings(kept: Iterable[CutRow], segments: Sequence[Segment], folder: Path) -> None:
    """Raise SegmentError where files of this table would replace clips of another recording."""
    remedy = "name another folder for these clips, or give one of the recordings another name"
    named = {segment.recording for segment in segments}
    clips = {segment.name.casefold(): segment for segment in segments}
    for row in kept:
        if row.recording in named:
            now = _made_from(folder / row.recording, None)
            if row.folder != str(folder) and row.made_from.split()[:2] != now.split()[:2]:
                raise SegmentError(
                    f"there are clips of another recording {row.recording}, of the folder "
                    f"{row.folder}; {remedy}"
                )
        elif row.clip and (found := clips.get(row.clip.rpartition(".")[0].casefold())):
            raise SegmentError(
                f"row {found.row}: {row.clip} is a clip of {row.recording} already, and that of "
                f"{found.recording} would have the same name; {remedy}"
            )


def _known_cells(out: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the table of clips of earlier calls, keyed by path; empty without a table."""
    try:
        with (out / TABLE).open(newline="", encoding="utf-8") as file:
            return {row["path"]: row for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}
    except (KeyError, ValueError, csv.Error):
        raise SegmentError(f"{out / TABLE} is damaged; remove it and cut all tables again") from None


def _write_record(out: Path, rows: Sequence[CutRow]) -> None:
    write_text(out / RECORD, csv_text([COLUMNS, *map(astuple, rows)]))


def _read_record(out: Path) -> Mapping[tuple[str, ...], CutRow]:
    """Return the rows of an earlier call, keyed by what determines the bytes of the clip."""
    try:
        with (out / RECORD).open(newline="", encoding="utf-8") as file:
            cells = list(csv.DictReader(file))
            if any(cell is None for row in cells for cell in row.values()):  # a copy that was cut off
                raise ValueError("a row has too few cells")
            rows = [CutRow(row.pop("table"), int(row.pop("row")), **row) for row in cells]
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, ValueError, csv.Error):
        raise SegmentError(f"{out / RECORD} is damaged; remove it, and all clips are cut again") from None
    return {row.place: row for row in rows}
