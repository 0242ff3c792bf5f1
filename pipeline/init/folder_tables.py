"""The tables of a folder: which of them describes its recordings best, and which are not used."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deiii.data.corpora.files import media_files
from deiii.data.corpora.spelling import is_unknown_speaker
from deiii.data.tools.counts import counted
from deiii.data.tools.text.part_names import part_of
from deiii.pipeline.init.foreign_table import (
    UNREAD,
    ColumnError,
    RowError,
    not_listed,
    not_read,
    read_foreign,
)
from deiii.pipeline.init.found import Found, InitError, Row
from deiii.pipeline.init.json_table import REMEDY, NotJson
from deiii.pipeline.init.json_table import SUFFIXES as JSON
from deiii.pipeline.init.media import Media

TEXT = (".csv", ".tsv", ".txt", ".tab")
SUFFIXES = (*TEXT, *JSON)
OBJECTS = re.compile(r"(?:label|annotation|metadata|emotion|clip|transcript)", re.IGNORECASE)
PEEK = 4096  # bytes of a file that are looked at
MOST_DEEP = 2  # folders above a table
# Tables elsewhere are only named in notes; few and small ones are read, because any folder may be the parent.
MOST_ELSEWHERE = 20
MAX_BYTES_ELSEWHERE = 8_000_000
MOST_NOTES = 3


@dataclass
class Tables:
    """What the files hold that may be tables.

    Attributes:
        found: the tables of recordings.
        broken: messages on tables of recordings that have a row that cannot be read.
        lacking: messages on files that may be tables of recordings, and lack a column, are damaged, or cannot
            be opened.
        others: messages on all other files.
    """

    found: dict[Path, Found] = field(default_factory=dict)
    broken: dict[Path, str] = field(default_factory=dict)
    lacking: dict[Path, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def tables_in(root: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Return files that may be tables, at most `MOST_DEEP` folders below the root, sorted."""
    found = []
    for depth in range(MOST_DEEP + 1):
        found += [
            path
            for path in root.glob("*/" * depth + "*")
            if path.suffix.lower() in suffixes and not path.name.startswith(".") and _may_be_table(path)
        ]
    return sorted(found)


def _may_be_table(path: Path) -> bool:
    """Return whether it is a file; of the many kinds of ``.json``, only a list can be a table."""
    if not path.is_file():
        return False
    if path.suffix.lower() != ".json":
        return True
    try:
        with open(path, "rb") as file:
            return file.read(PEEK).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError:
        return False


def read_tables(tables: Iterable[Path], media: Media) -> Tables:
    """Return what some files hold; a file that is no table raises no error."""
    read = Tables()
    for table in tables:
        try:
            read.found[table] = read_foreign(table, media)
        except RowError as error:
            read.broken[table] = str(error)
        except (ColumnError, NotJson) as error:
            read.lacking[table] = str(error)
        except InitError as error:
            read.others.append(str(error))
        except OSError as error:
            read.lacking[table] = f"{table} cannot be opened: {error.strerror}"
    return read


def best_table(tables: Tables, media: Media) -> Found | None:
    """Return the table that names the most recordings; the parts of a split (train.csv, test.csv) are joined.

    Returns:
        what it holds; ``None`` if there is no table of recordings.

    Raises:
        RowError: the only tables of recordings have a row that cannot be read. A guess from folders and names
            could contradict them.
    """
    found = tables.found
    if not found:
        if tables.broken:
            first = next(iter(tables.broken.values()))
            raise RowError(f"{first}; correct the table, or name what to use: --table FILE or --layout")
        return None
    best = max(
        found, key=lambda table: (len(found[table].rows), table.name == "clips.csv", -len(table.parts))
    )
    parts = [table for table in found if part_of(table.name) and table.parent == best.parent]
    if best not in parts or len(parts) < 2:
        return found[best]
    names = ", ".join(table.name for table in parts)
    rows: dict[str, Row] = {}
    for table in parts:
        for row in found[table].rows:
            if rows.setdefault(row.path, row) != row:
                raise RowError(
                    f"{names}: {table.name} names {row.path} again, with another speaker, label or value; "
                    "correct the tables, or name what to use: --table FILE or --layout"
                )
    own = {note for table in parts for note in not_listed(found[table].rows, media)}
    notes = list(dict.fromkeys(note for table in parts for note in found[table].notes if note not in own))
    notes += not_listed(tuple(rows.values()), media)
    notes.append(
        f"{names} were joined: deiii divides the corpus itself, by speaker; "
        f"`deiii splits import {shlex.quote(str(best.parent))}` keeps their parts"
    )
    return Found(f"tables {names}", tuple(rows.values()), notes=tuple(notes), sources=tuple(parts))


def describes_most(found: Found, media: Media) -> bool:
    """Return whether a table gives speaker and label of all its recordings, and names most of those there.

    A video and its audio, which differ in the suffix alone, count as one recording.
    """
    whole = all(row.label and row.speaker and not is_unknown_speaker(row.speaker) for row in found.rows)
    named = {media.stem(row.path) for row in found.rows if row.path in media.paths}
    return whole and 2 * len(named) > len({media.stem(path) for path in media.paths})


def unused_notes(tables: Tables, rows: Sequence[Row], sources: Sequence[Path], media: Media) -> list[str]:
    """Return notes on the tables that say something about the recordings and are not used.

    Args:
        tables: the tables in the folder.
        rows: what is used; empty for a corpus with an adapter, and for folders and names.
        sources: tables that the rows were read from.
        media: the recordings.
    """
    used = {row.path: row for row in rows}
    seen = {*tables.found, *sources}
    elsewhere = read_tables((path for path in _elsewhere(media.root) if path not in seen), media)
    notes = []
    for table, found in {**tables.found, **elsewhere.found}.items():
        named = [row for row in found.rows if row.path in media.paths]
        new = [row for row in named if row.path not in used]
        other = [row for row in named if row.path in used and not _agrees(row, used[row.path])]
        if table in sources or not new and not other:
            continue
        words = f", although it gives {counted(len(other), 'clip')} another speaker, label or value"
        shown = table.relative_to(media.root) if media.root in table.parents else table
        notes.append(
            f"the table {table} is not used{words if other else ''}; it names {len(named)} of "
            f"{counted(len(media.paths), 'recording')}; --table {shlex.quote(str(shown))} reads it"
        )
    failed = {**tables.broken, **elsewhere.broken, **tables.lacking}
    notes += [f"not used: {words}" for table, words in failed.items() if table not in sources]
    if not sources:
        notes += spreadsheet_notes(media.root)
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES:] = [f"{counted(len(notes) - MOST_NOTES, 'other table')} not used"]
    return notes


def spreadsheet_notes(root: Path) -> list[str]:
    """Return a note on each file that may hold the table but is of a kind that is not read."""
    return [*map(not_read, tables_in(root, UNREAD)), *map(_no_list, _labels_in_objects(root))]


def _labels_in_objects(root: Path) -> list[Path]:
    """Return the JSON files that hold one object and are called like a table of labels."""
    found = sorted(path for path in root.glob("*.json") if OBJECTS.search(path.stem) and path.is_file())
    return [path for path in found if not _may_be_table(path)]


def _no_list(path: Path) -> str:
    return f"the file {path} is not read, because it is no list of records; {REMEDY}"


def _elsewhere(root: Path) -> list[Path]:
    """Return tables deeper than `tables_in` looks, and those beside the root."""
    kinds = tuple(suffix for suffix in SUFFIXES if suffix not in (".txt", ".json"))
    near = set(tables_in(root))
    found = [root / path for path in media_files(root, kinds) if root / path not in near]
    try:
        found += sorted(path for path in root.parent.iterdir() if path.suffix.lower() in kinds)
    except OSError:  # a parent that cannot be listed
        pass
    return [path for path in found if _is_small(path)][:MOST_ELSEWHERE]


def _is_small(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= MAX_BYTES_ELSEWHERE
    except OSError:
        return False


def _agrees(row: Row, used: Row) -> bool:
    """Return whether a row holds nothing that another row on the same recording does not hold."""
    speaker = "" if is_unknown_speaker(row.speaker) else row.speaker
    return (
        speaker in ("", used.speaker)
        and row.label in ("", used.label)
        and row.more.items() <= used.more.items()
    )
