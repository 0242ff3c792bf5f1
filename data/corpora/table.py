"""Any corpus that a CSV table describes.

The columns ``path``, ``speaker`` and ``label`` are required; ``valence``, ``arousal``, ``dominance``,
``fold`` and ``sex`` (of the speaker, for the report) are optional; other columns are ignored. The table is
UTF-8, with or without a byte-order mark and with any line ends. Paths are relative to ``corpus.root`` and may
not leave it.

The range of the attributes is the smallest of `RANGES` that holds all values of all attributes. It is not
the observed range, which would carry information about the test clips into training.
"""

from __future__ import annotations

import csv
import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from deiii.data.config.schema import CorpusConfig
from deiii.data.config.schema_preprocess import USUAL_TABLE
from deiii.data.config.suggest import nearest
from deiii.data.corpora.clips import KNOWN_SEXES, SEXES, Clip, Corpus, CorpusError, FormError
from deiii.data.corpora.files import remedy_by_init, root_folder
from deiii.data.corpora.spelling import (
    MOST_NAMED,
    VARIANTS,
    NamesOnDisk,
    check_spellings,
    clean,
    fold_labels,
    require_values,
    segment_hint,
    unknown_speakers,
)

REQUIRED = ("path", "speaker", "label")
ATTRIBUTES = ("valence", "arousal", "dominance")
COLUMNS = (*REQUIRED, *ATTRIBUTES, "fold", "sex")
RANGES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (1.0, 7.0), (1.0, 9.0))
SEPARATORS = ";\t|"
SEPARATOR = "columns are separated by semicolons, tabs or bars; save the table with commas"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:(/|$)")  # a Windows path from another machine
EXAMPLE = "path,speaker,label\nclips/anna-01.mp4,anna,happy"


def scan(config: CorpusConfig, media: bool = True) -> Corpus:
    """Return the clips of ``config.table``; the classes are its labels, sorted.

    Clip ids are paths without their suffix, or with it for clips that differ in nothing else. A file may be
    missing (its clip ends as ``missing``), but not all files. Spellings of one label that differ in case,
    blanks, invisible characters or number format are one class; `Corpus.notes` has a line for each.

    Args:
        config: names the table and the root.
        media: if false, accept a table of which no media file exists, as after preprocessing.

    Raises:
        CorpusError: for missing columns, blank or malformed cells, cells such as ``nan``, a clip named twice,
            values outside every range, speakers or folds in several spellings, or paths that leave the root.
    """
    root = root_folder(config.root, "table", "clips/anna-01.mp4")
    table = find_table(config.table, root)
    numbered = list(read_rows(table, Root(root)))
    rows = [clip for _, clip, _ in numbered]
    if not rows:
        raise CorpusError(f"{table} has no rows below its header; a table looks like\n{EXAMPLE}")
    if media and not any(os.path.exists(root / clip.path) for clip in rows):
        raise CorpusError(
            f"{table}: none of its files exists, first {root / rows[0].path}; paths are relative to "
            f"corpus.root and end with the suffix of the file{remedy_by_init(root, table)}"
        )
    try:
        for column in ("label", "speaker", "fold"):
            require_values(column, ((row, getattr(clip, column) or "") for row, clip, _ in numbered))
        check_spellings("speakers", _first_rows((row, clip.speaker) for row, clip, _ in numbered))
        check_spellings("folds", _first_rows((row, clip.fold) for row, clip, _ in numbered if clip.fold))
        unknown = _check_sexes((row, clip) for row, clip, _ in numbered)
        folded, notes = fold_labels((row, clip.label) for row, clip, _ in numbered if clip.label is not None)
    except CorpusError as error:
        raise CorpusError(f"{table}: {error}") from None
    named = [replace(clip, label=folded.get(clip.label or "", None)) for clip in _name_clips(rows)]
    named = [clip if clip.sex in KNOWN_SEXES else replace(clip, sex="") for clip in named]
    clips = sorted(named, key=lambda c: c.id)
    classes = tuple(sorted({c.label for c in clips if c.label is not None}))
    name = "table-" + re.sub(r"[^A-Za-z0-9_-]+", "_", table.stem)  # each table gets a cache of its own
    ranges = attribute_ranges(clips, table)
    said = [f"{table}: label {note}" for note in notes] + [f"{table}: sex {note}" for note in unknown]
    said += [f"{table}: {words}" for words in unknown_speakers(clip.speaker for clip in clips)]
    plain = {clip.speaker for _, clip, given in numbered if not given}
    cleaned = _first_rows(
        (row, f"{given!a} is read as {clip.speaker!r}")
        for row, clip, given in numbered
        # Blanks around a name are reported only if other rows have the name without them.
        if given and (clip.speaker in plain or " ".join(given.split()) != clip.speaker)
    )
    said += [f"{table}: speaker {words} (row {row})" for words, row in list(cleaned.items())[:MOST_NAMED]]
    return Corpus(name, str(root), classes, tuple(clips), ranges, notes=tuple(said))


def find_table(name: str | None, root: Path) -> Path:
    """Return the path of the table: relative to the current folder, or else to the root.

    Args:
        name: the setting ``corpus.table``; `USUAL_TABLE` in the root if empty.
        root: the corpus root.

    Raises:
        CorpusError: there is no such file.
    """
    if not name:
        name = USUAL_TABLE
        if not (root / name).is_file():
            raise CorpusError(
                f"corpus.table names no CSV, and {root} has no {name}; it looks like\n{EXAMPLE}"
            )
    for path in (Path(name), root / name):
        if path.is_file():
            return path
    raise CorpusError(
        f"there is no table {name}, neither in {Path.cwd()} nor in {root}; name yours in corpus.table"
    )


def read_rows(table: Path, root: Root) -> Iterator[tuple[int, Clip, str]]:
    """Yield the clips of the table in order, each after its row number.

    The id of a clip is its path as the table has it, its path the one on the disk; labels are as in the
    table. The third item is the speaker's cell if it differs from the speaker's name, else empty.

    Raises:
        CorpusError: for a malformed table; the message names the row.
    """
    seen: dict[str, int] = {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            columns = _columns(header)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if _names(cells) == _names(header):
                    raise CorpusError("the header is there again, as in joined tables; remove this row")
                if any(cell[0].isspace() and cell.lstrip()[:1] == '"' for cell in cells if cell):
                    raise CorpusError("a quoted cell begins with a blank; remove the blanks after the commas")
                if any(cell.strip() for cell in cells[len(header) :]):
                    raise CorpusError(
                        f"{len(cells)} cells, the header has {len(header)}; quote cells that hold commas"
                    )
                clip = _row(cells, columns, root)
                if clip.path in seen:
                    hint = segment_hint(_names(header), table) or "; remove one of the two rows"
                    raise CorpusError(f"{clip.path} is named before, in row {seen[clip.path]}{hint}")
                seen[clip.path] = reader.line_num
                given = cells[columns["speaker"]]
                yield reader.line_num, clip, "" if given == clip.speaker else given
        except UnicodeDecodeError as error:
            why = f"{table} is not UTF-8 ({error.reason}); save it as CSV UTF-8"
            raise CorpusError(f"{why}{remedy_by_init(root.given, table)}") from None
        except (csv.Error, CorpusError) as error:
            where, why = max(reader.line_num, 1), str(error)
            if where == 1 and isinstance(error, csv.Error):  # usual if the file has another separator
                why = f"{error}; {SEPARATOR if _other_separator(table) else 'save the table as CSV UTF-8'}"
            form = isinstance(error, FormError) or SEPARATOR in why
            hint = remedy_by_init(root.given, table) if form else ""
            raise CorpusError(f"{table} row {where}: {why}{hint}") from None


def attribute_ranges(clips: list[Clip], source: object = "table") -> dict[str, tuple[float, float]]:
    """Return the smallest of `RANGES` that holds all attribute values, for each attribute that occurs.

    Raises:
        CorpusError: no range holds all values.

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
    """Check that paths stay below a root; each folder is resolved once, not once for each clip."""

    def __init__(self, root: Path):
        self.given = os.path.abspath(root)
        self.real = os.path.realpath(root)
        self._real_folder = lru_cache(maxsize=65536)(os.path.realpath)
        self._names = NamesOnDisk(self.real)

    def on_disk(self, path: str) -> str:
        """Return the spelling on the disk of a path that `relative` returned, or the path if no file exists.

        Raises:
            CorpusError: where the file is a link out of the root.
        """
        found = self._names.find(path)
        return path if found == path else self.relative(found)

    def relative(self, text: str) -> str:
        """Return the path in a cell as a normalised POSIX path relative to the root.

        Raises:
            CorpusError: if it leads out of the root, names no file, or holds control characters.
        """
        if _CONTROL.search(text):
            raise CorpusError(f"path {text!r} holds control characters; rename the file")
        text = text.replace("\\", "/")
        if os.path.isabs(text):
            normal = posixpath.normpath(text)
            base = next((b for b in (self.given, self.real) if normal.startswith(b.rstrip("/") + "/")), None)
            if base is None:
                raise FormError(f"path {text} lies outside corpus.root {self.given}")
            normal = posixpath.relpath(normal, base)
        else:
            normal = posixpath.normpath(text)
        if _DRIVE.match(normal):
            raise FormError(f"path {text} lies outside corpus.root {self.given}")
        if normal in (".", "..") or normal.startswith("../"):
            raise CorpusError(f"path {text} does not name a file under corpus.root")
        folder, _, name = normal.rpartition("/")
        real = f"{self._real_folder(f'{self.real}/{folder}')}/{name}"
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not real.startswith(self.real.rstrip("/") + "/"):
            raise CorpusError(f"link {text} leads outside corpus.root, to {real}; copy the file into it")
        return normal


def _names(cells: list[str]) -> list[str]:
    """Return the names of columns in a header, without blank ones at the end."""
    names = [clean(cell).lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _other_separator(table: Path) -> bool:
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline(4096)
    return any(sign in header for sign in SEPARATORS)


def _columns(header: list[str]) -> dict[str, int]:
    names = _names(header)
    if names[:1] and names[0].startswith("sep="):
        raise FormError("the line sep= is for spreadsheets; remove it")
    if len(names) == 1 and any(sign in header[0] for sign in SEPARATORS):
        raise FormError(SEPARATOR)
    if any("\0" in name for name in header) or "".join(header).startswith("PK\x03\x04"):
        raise CorpusError("this is not text in UTF-8; save the table as CSV UTF-8")
    for name in names:
        close = nearest(name, COLUMNS, cutoff=0.8)  # only a misspelt column is an error
        if name not in COLUMNS and close:
            raise CorpusError(f"unknown column {name!r}; did you mean {close!r}?")
    for name in COLUMNS:
        if names.count(name) > 1:
            raise CorpusError(f"column {name!r} is there twice")
    if missing := [name for name in REQUIRED if name not in names]:
        raise FormError(f"no column {', '.join(missing)}; the first row is, for example, path,speaker,label")
    return {name: names.index(name) for name in COLUMNS if name in names}


def _row(cells: list[str], columns: dict[str, int], root: Root) -> Clip:
    if len(cells) <= max(columns.values()):
        raise CorpusError(f"{len(cells)} cells, too few for the header; quote cells that hold commas")
    cell = {name: clean(cells[index]) for name, index in columns.items() if name != "path"}
    cell["path"] = cells[columns["path"]].strip()
    for name, remedy in (("path", ""), ("speaker", "; write one name per person")):
        if not cell[name]:
            raise CorpusError(f"{name} is blank{remedy}")
    attributes = {name: _number(name, cell[name]) for name in ATTRIBUTES if cell.get(name)}
    if not cell["label"] and not attributes:
        raise CorpusError("label is blank and there are no attributes")
    path = root.relative(cell["path"])
    label = cells[columns["label"]] if cell["label"] else None
    fold = cell.get("fold") or None
    word = cell.get("sex") or ""
    sex = SEXES.get(word.casefold(), word)
    return Clip(path, root.on_disk(path), cell["speaker"], label, None, attributes, fold, sex=sex)


def _check_sexes(numbered: Iterable[tuple[int, Clip]]) -> list[str]:
    """Refuse a speaker of two sexes; returns a note on each word that is not understood.

    Raises:
        CorpusError: names the rows.
    """
    known: dict[str, tuple[int, str]] = {}
    unknown: dict[str, int] = {}
    for row, clip in numbered:
        if clip.sex in KNOWN_SEXES:
            first, sex = known.setdefault(clip.speaker, (row, clip.sex))
            if sex != clip.sex:
                raise CorpusError(
                    f"speaker {clip.speaker} is {sex} in row {first} and {clip.sex} in row {row}; correct one"
                )
        elif clip.sex:
            unknown.setdefault(clip.sex, row)
    return [
        f"{word!r} is not understood and left out; write female or male (row {row})"
        for word, row in list(unknown.items())[:MOST_NAMED]
    ]


def _first_rows(cells: Iterable[tuple[int, str]]) -> dict[str, int]:
    first: dict[str, int] = {}
    for row, text in cells:
        first.setdefault(text, row)
    return first


def _number(name: str, text: str) -> float:
    text = text.translate(VARIANTS)
    try:
        if "_" in text:  # Python would ignore it between digits
            raise ValueError
        value = float(text)
    except ValueError:
        kind, hint = (FormError, "; write decimals with a point") if "," in text else (CorpusError, "")
        raise kind(f"{name} is {text!r}, not a number{hint}") from None
    if not math.isfinite(value):
        raise CorpusError(f"{name} is {text}; leave the cell blank where there is no rating")
    return value


def _name_clips(rows: list[Clip]) -> Iterator[Clip]:
    """Yield the clips with their ids: the path without its suffix if no other clip could have that id."""
    stems = Counter(posixpath.splitext(clip.id)[0] for clip in rows)
    paths = {clip.id for clip in rows}
    for clip in rows:
        stem = posixpath.splitext(clip.id)[0]
        # The stem of `a.mp4.wav` is `a.mp4`, which can be the path of another clip.
        taken = stems[stem] > 1 or stem in paths
        yield clip if taken else replace(clip, id=stem)
