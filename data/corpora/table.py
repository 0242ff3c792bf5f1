"""Any corpus, described by a CSV table.

Columns ``path``, ``speaker`` and ``label`` are required; ``valence``, ``arousal``, ``dominance`` and
``fold`` are optional, and other columns are ignored. UTF-8 with or without a byte-order mark, any
line ends. Paths are relative to ``corpus.root``, and none may leave it.

An attribute's possible range is not its observed one (which would tell the training about the test
clips): it is the smallest of `RANGES` that holds all values of all attributes.
"""

from __future__ import annotations

import csv
import difflib
import math
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.files import root_folder

REQUIRED = ("path", "speaker", "label")
ATTRIBUTES = ("valence", "arousal", "dominance")
COLUMNS = (*REQUIRED, *ATTRIBUTES, "fold")
RANGES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (1.0, 7.0), (1.0, 9.0))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")  # a Windows path from another machine
EXAMPLE = "path,speaker,label\nclips/anna-01.mp4,anna,happy"


def scan(config: CorpusConfig) -> Corpus:
    """The clips of ``config.table``; its classes are the labels in it, sorted.

    Clip ids are paths without suffix, and with it where two clips differ in nothing else. A file
    that is not there is no error (its clip ends as ``missing``), unless that is so for all.

    Raises:
        CorpusError: for missing columns, blank or malformed cells, a clip named twice, values
            outside every range, or paths that leave the root; the message names the row.
    """
    root = root_folder(config.root, "table", "clips/anna-01.mp4")
    table = find_table(config.table, root)
    rows = list(read_rows(table, Root(root)))
    if not rows:
        raise CorpusError(f"{table} has no rows below its header; a table looks like\n{EXAMPLE}")
    if not any(os.path.exists(root / clip.path) for clip in rows):
        raise CorpusError(
            f"{table}: none of its {len(rows)} files exists, first {root / rows[0].path}; "
            "paths are relative to corpus.root"
        )
    _check_speakers(rows, table)
    clips = sorted(_name_clips(rows), key=lambda c: c.id)
    classes = tuple(sorted({c.label for c in clips if c.label is not None}))
    name = "table-" + re.sub(r"[^A-Za-z0-9_-]+", "_", table.stem)  # two tables, two caches
    return Corpus(name, str(root), classes, tuple(clips), attribute_ranges(clips, table))


def find_table(name: str | None, root: Path) -> Path:
    """The table's path: relative to the current folder, else to the root; ``clips.csv`` by default."""
    if not name:
        name = "clips.csv"
        if not (root / name).is_file():
            raise CorpusError(
                f"corpus.table names no CSV, and {root} has no clips.csv; it looks like\n{EXAMPLE}"
            )
    for path in (Path(name), root / name):
        if path.is_file():
            return path
    raise CorpusError(
        f"there is no table {name}, neither in {Path.cwd()} nor in {root}; name yours in corpus.table"
    )


def read_rows(table: Path, root: Root) -> Iterator[Clip]:
    """The table's clips in order, each with its path as its id."""
    seen: dict[str, int] = {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = _columns(next(reader, []), table)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                clip = _row(cells, columns, root)
                if clip.path in seen:
                    raise CorpusError(f"{clip.path} is named before, in row {seen[clip.path]}")
                seen[clip.path] = reader.line_num
                yield clip
        except UnicodeDecodeError as error:
            raise CorpusError(f"{table} is not UTF-8 ({error.reason}); save it as CSV UTF-8") from None
        except (csv.Error, CorpusError) as error:
            raise CorpusError(f"{table} row {max(reader.line_num, 1)}: {error}") from None


def attribute_ranges(clips: list[Clip], source: object = "table") -> dict[str, tuple[float, float]]:
    """The smallest of `RANGES` holding all attribute values, for each attribute that occurs.

    >>> attribute_ranges([Clip("a", "a.mp4", "s", attributes={"valence": 0.2, "arousal": -0.4})])
    {'valence': (-1.0, 1.0), 'arousal': (-1.0, 1.0)}
    """
    names = [a for a in ATTRIBUTES if any(a in c.attributes for c in clips)]
    values = [v for c in clips for v in c.attributes.values()]
    if not values:
        return {}
    low, high = min(values), max(values)
    for bounds in RANGES:
        if bounds[0] <= low and high <= bounds[1]:
            return {name: bounds for name in names}
    known = ", ".join(f"{a:g}..{b:g}" for a, b in RANGES)
    raise CorpusError(f"{source}: attributes go from {low:g} to {high:g}; rescale them to one of {known}")


class Root:
    """Checks that paths stay under a root; parents are resolved once, not once a clip."""

    def __init__(self, root: Path):
        self.given = os.path.abspath(root)
        self.real = os.path.realpath(root)
        self._real_folder = lru_cache(maxsize=65536)(os.path.realpath)

    def relative(self, text: str) -> str:
        """A cell as a path relative to the root, POSIX and normalised.

        Raises:
            CorpusError: where it leads out of the root, directly or by a link.
        """
        if _CONTROL.search(text):
            raise CorpusError(f"path {text!r} holds control characters")
        text = text.replace("\\", "/")
        if os.path.isabs(text):
            normal = posixpath.normpath(text)
            base = next((b for b in (self.given, self.real) if normal.startswith(b.rstrip("/") + "/")), None)
            if base is None:
                raise CorpusError(f"path {text} lies outside corpus.root {self.given}")
            normal = posixpath.relpath(normal, base)
        else:
            normal = posixpath.normpath(text)
        if _DRIVE.match(normal):
            raise CorpusError(f"path {text} lies outside corpus.root {self.given}")
        if normal in (".", "..") or normal.startswith("../"):
            raise CorpusError(f"path {text} does not name a file under corpus.root")
        folder, _, name = normal.rpartition("/")
        real = f"{self._real_folder(f'{self.real}/{folder}')}/{name}"
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not real.startswith(self.real.rstrip("/") + "/"):
            raise CorpusError(f"path {text} is a link that leads outside corpus.root, to {real}")
        return normal


def _columns(header: list[str], table: Path) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise CorpusError("columns are separated by semicolons or tabs; save the table with commas")
    for name in names:
        close = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.8)
        if name not in COLUMNS and close:
            raise CorpusError(f"unknown column {name!r}; did you mean {close[0]!r}?")
    for name in COLUMNS:
        if names.count(name) > 1:
            raise CorpusError(f"column {name!r} is there twice")
    if missing := [name for name in REQUIRED if name not in names]:
        raise CorpusError(f"no column {', '.join(missing)}; a table looks like\n{EXAMPLE}")
    return {name: names.index(name) for name in COLUMNS if name in names}


def _row(cells: list[str], columns: dict[str, int], root: Root) -> Clip:
    if len(cells) <= max(columns.values()):
        raise CorpusError(f"{len(cells)} cells, too few for the header; quote cells that hold commas")
    cell = {name: cells[index].strip() for name, index in columns.items()}
    for name in ("path", "speaker"):
        if not cell[name]:
            raise CorpusError(f"{name} is blank")
    attributes = {name: _number(name, cell[name]) for name in ATTRIBUTES if cell.get(name)}
    if not cell["label"] and not attributes:
        raise CorpusError("label is blank and there are no attributes")
    path = root.relative(cell["path"])
    return Clip(
        path, path, cell["speaker"], cell["label"] or None, None, attributes, cell.get("fold") or None
    )


def _check_speakers(clips: list[Clip], table: Path) -> None:
    """Two spellings of one speaker would put that speaker on both sides of a split."""
    spellings: dict[str, str] = {}
    for name in sorted({clip.speaker for clip in clips}):
        other = spellings.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if other != name:
            raise CorpusError(f"{table}: speakers {other!r} and {name!r} differ in spelling alone; use one")


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise CorpusError(f"{name} is {text!r}, not a number") from None
    if not math.isfinite(value):
        raise CorpusError(f"{name} is {text}; leave the cell blank where there is no rating")
    return value


def _name_clips(rows: list[Clip]) -> Iterator[Clip]:
    stems = Counter(posixpath.splitext(clip.path)[0] for clip in rows)
    paths = {clip.path for clip in rows}
    for clip in rows:
        stem = posixpath.splitext(clip.path)[0]
        # A stem that is a path too (`a.mp4` of `a.mp4.wav`) could meet that clip's id.
        taken = stems[stem] > 1 or stem in paths
        if taken:
            yield clip
        else:
            yield Clip(stem, clip.path, clip.speaker, clip.label, None, clip.attributes, clip.fold)
