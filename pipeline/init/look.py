"""Examine a folder of recordings: a known corpus, a table, or speaker and label in folder and file names."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora import table as own_table
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.files import (
    AUDIO,
    VIDEO,
    corpus_files,
    found_files,
    holds_archives,
    nothing_there,
    passed_over,
    root_folder,
)
from deiii.data.corpora.walk import leads_out
from deiii.data.tools.counts import counted, examples
from deiii.pipeline.init.folder_tables import (
    Tables,
    best_table,
    describes_most,
    read_tables,
    spreadsheet_notes,
    tables_in,
    unused_notes,
)
from deiii.pipeline.init.folders import from_layout, guess, one_file_each, read_layout
from deiii.pipeline.init.foreign_table import RowError, read_foreign
from deiii.pipeline.init.found import Found, InitError, with_speakers
from deiii.pipeline.init.known import PUBLISHED, found_by_pattern, known_corpus
from deiii.pipeline.init.media import Media

RECORDS = ("cut.csv", "predictions.csv", "live.jsonl")  # `deiii cut` and `deiii predict` write them


def look(
    folder: str | Path, table: str | None = None, layout: str | None = None, speaker: str | None = None
) -> Found:
    """Examine a folder without opening a recording.

    Args:
        folder: folder of the recordings.
        table: a table to read; where neither it nor a layout is given, in this order: ``clips.csv`` that
            deiii reads as it is; RAVDESS, CREMA-D and MSP-IMPROV; a table with speaker and label of most
            recordings; a corpus that a pattern describes; any table of recordings; folders and names.
            Tables that say something else are named in notes.
        layout: places of speaker and label, as ``speaker/label/clip``.
        speaker: regular expression that finds the speaker in a path below the folder; its first group, or
            all of it.

    Raises:
        InitError: there is no recording, or several readings are possible; the message states what to give.
        CorpusError: it is not a folder.

    >>> look("/clips").how  # doctest: +SKIP
    'layout speaker/label/clip'
    """
    root = root_folder(str(folder), "init", "anna/happy/001.mp4").resolve()
    paths = corpus_files(root, VIDEO + AUDIO)
    if not paths:
        raise InitError(f"no recordings below {root}: {nothing_there(root, paths)}")
    found = _without_outside(root, _look(root, paths, table, layout, speaker))
    if holds_archives(root):
        packed = f"recordings may be missing, because archives lie beside them; {passed_over(root)}"
        found = replace(found, notes=(*found.notes, packed))
    return found


def _without_outside(root: Path, found: Found) -> Found:
    """Return the proposal without recordings outside the folder, which its table may not name."""
    outside = {file.path.as_posix() for file in found_files(root, VIDEO + AUDIO) if leads_out(root, file)}
    rows = tuple(row for row in found.rows if row.path not in outside)
    left = [row.path for row in found.rows if row.path in outside]
    if not left:
        return found
    words = f"{counted(len(left), 'recording')} outside the folder, behind symbolic links: {examples(left)}"
    remedy = (
        "a table may not name them: copy them into the folder, or name a folder that holds all recordings"
    )
    if not rows:
        raise InitError(f"{root} has only {words}; {remedy}")
    return replace(found, rows=rows, notes=(*found.notes, f"not used: {words}; {remedy}"))


def _look(root: Path, paths: list[str], table: str | None, layout: str | None, speaker: str | None) -> Found:
    """Return the proposal for the recordings below a folder."""
    speaker_of = _speaker_of(speaker)
    media = Media(paths, root)
    if table is not None:
        return with_speakers(read_foreign(_existing(table, root), media), speaker_of)
    if layout is not None:
        return with_speakers(_by_folders(paths, layout), speaker_of)
    own = speaker_of is None and _reads(root)
    known = known_corpus(paths) if speaker_of is None and not own else None
    passed: tuple[str, ...] = RECORDS if own or known else ()
    passed += PUBLISHED.get(known.config, ()) if known else ()
    candidates = [path for path in tables_in(root) if path.name.lower() not in passed]
    predicted = [path for path in candidates if holds_predictions(path)]
    tables = read_tables((path for path in candidates if path not in predicted), media)
    if own:
        return _own_table(root / "clips.csv", tables, media)
    if known:
        return _known_or_table(known, tables, media)
    found = best_table(tables, media)
    if found is None:
        try:
            found = _by_folders(paths, None)
        except InitError as error:
            why = [*tables.lacking.values(), *spreadsheet_notes(root), *tables.others]
            words = f"; no table helps: {'; '.join(why[:2])}" if why else ""
            raise InitError(f"{error}{words}") from None
    notes = unused_notes(tables, found.rows if found.sources else (), found.sources, media)
    notes += [f"{path} is not used: its labels are predictions of a network" for path in predicted]
    return with_speakers(replace(found, notes=(*found.notes, *notes)), speaker_of)


def holds_predictions(path: Path) -> bool:
    """Return whether a file is a table that `deiii predict` wrote."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error):
        return False
    return header[:3] == ["file", "seconds", "label"] and {"face_share", "face_quality"} <= set(header)


def _own_table(clips: Path, tables: Tables, media: Media) -> Found:
    """Return the table that deiii reads as it is, with notes on what it leaves out."""
    rows = tables.found[clips].rows if clips in tables.found else ()
    listed = {media.stem(row.path) for row in rows}
    left = sorted(path for path in media.paths if rows and media.stem(path) not in listed)
    words = f"{counted(len(left), 'recording')} not in the table, and not used: {examples(left)}"
    notes = [words] if left else []
    notes += unused_notes(tables, rows, (clips,), media)
    how = "the table clips.csv, which is in deiii's form already"
    return Found(how, table=str(clips), notes=tuple(notes))


def _known_or_table(known: Found, tables: Tables, media: Media) -> Found:
    """Return the corpus that has an adapter, or a table of its recordings; notes name what is not used.

    The names of the published corpora that have a module are certain. A pattern of a few digits may fit a
    folder of another origin, and its table is then right.
    """
    whole = {table: one for table, one in tables.found.items() if describes_most(one, media)}
    try:
        found = best_table(tables, media)
        if whole and found is not None and not describes_most(found, media):
            found = best_table(replace(tables, found=whole), media)
    except RowError:  # noted below
        found = None
    if found is None or not found_by_pattern(known) or not describes_most(found, media):
        return replace(known, notes=(*known.notes, *unused_notes(tables, (), (), media)))
    words = shlex.join([known.config, f"corpus.root={media.root}"])
    names = (
        f"the file names are also those of the corpus {known.config}, which is not used; `deiii preprocess "
        f"{words}` reads speaker and label from the names"
    )
    notes = unused_notes(tables, found.rows, found.sources, media)
    return replace(found, notes=(*found.notes, names, *notes))


def _by_folders(paths: list[str], layout: str | None) -> Found:
    used, notes = one_file_each(paths)
    found = guess(used) if layout is None else from_layout(used, read_layout(layout))
    return replace(found, notes=(*notes, *found.notes))


def _reads(root: Path) -> bool:
    """Return whether the folder has a ``clips.csv`` that deiii reads as it is."""
    try:
        own_table.scan(CorpusConfig(name="table", root=str(root)))
    except CorpusError:
        return False
    return True


def _existing(table: str, root: Path) -> Path:
    for path in (Path(table), root / table):
        if path.is_file():
            return path.resolve()
    raise InitError(f"there is no table {table}, neither here nor in {root}")


def _speaker_of(expression: str | None) -> Callable[[str], str | None] | None:
    if expression is None:
        return None
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise InitError(f"--speaker {expression} is not a regular expression: {error}") from None

    def find(path: str) -> str | None:
        found = pattern.search(path)
        return found[1 if pattern.groups else 0] if found else None

    return find
