"""Examine a folder of recordings: a known corpus, a table, or speaker and label in folder and file names."""

from __future__ import annotations

import re
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
    holds_archives,
    nothing_there,
    passed_over,
    root_folder,
)
from deiii.pipeline.init.folders import from_layout, guess, one_file_each, read_layout
from deiii.pipeline.init.foreign_table import read_best, read_foreign, tables_in
from deiii.pipeline.init.found import Found, InitError, with_speakers
from deiii.pipeline.init.known import known_corpus
from deiii.pipeline.init.media import Media


def look(
    folder: str | Path, table: str | None = None, layout: str | None = None, speaker: str | None = None
) -> Found:
    """Examine a folder without opening a recording.

    Args:
        folder: folder of the recordings.
        table: a table to read; where neither it nor a layout is given, in this order: ``clips.csv`` that
            deiii reads as it is, a corpus that deiii knows, any table of recordings, folders and names.
        layout: places of speaker and label, as ``speaker/label/clip``.
        speaker: regular expression that finds the speaker in a path below the folder; its first group, or
            all of it.

    Raises:
        InitError: there is no recording, or several readings are possible; says what to give.
        CorpusError: it is not a folder.

    >>> look("/clips").how  # doctest: +SKIP
    'layout speaker/label/clip'
    """
    root = root_folder(str(folder), "init", "anna/happy/001.mp4").resolve()
    paths = corpus_files(root, VIDEO + AUDIO)
    if not paths:
        raise InitError(f"no recordings below {root}: {nothing_there(root, paths)}")
    found = _look(root, paths, table, layout, speaker)
    if holds_archives(root):
        packed = f"recordings may be missing, because archives lie beside them; {passed_over(root)}"
        found = replace(found, notes=(*found.notes, packed))
    return found


def _look(root: Path, paths: list[str], table: str | None, layout: str | None, speaker: str | None) -> Found:
    """Return the proposal for the recordings below a folder."""
    speaker_of = _speaker_of(speaker)
    if table is not None:
        return with_speakers(read_foreign(_existing(table, root), Media(paths, root)), speaker_of)
    if layout is not None:
        return with_speakers(_by_folders(paths, layout), speaker_of)
    if speaker_of is None:
        if _reads(root):
            return Found(
                "the table clips.csv, which is in deiii's form already", table=str(root / "clips.csv")
            )
        if known := known_corpus(paths):
            return known
    found, why = read_best(tables_in(root), Media(paths, root))
    if found is None:
        try:
            found = _by_folders(paths, None)
        except InitError as error:
            tables = f"; no table helps: {'; '.join(why[:2])}" if why else ""
            raise InitError(f"{error}{tables}") from None
    return with_speakers(found, speaker_of)


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
