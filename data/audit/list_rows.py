"""Read the rows of a published list of clips: text, CSV, JSON, JSON Lines, or Kaldi's ``wav.scp``.

A row has the name of a clip and the cells that name its part and fold; a cell that the list lacks is empty.

>>> table_rows("a.mp4;a.wav;3;training\\nb.mp4;b.wav;1;testing\\n")
[ListRow(name='a.mp4', part='training', fold=''), ListRow(name='b.mp4', part='testing', fold='')]
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deiii.data.corpora.files import SUFFIXES as OF_CLIPS
from deiii.data.tools.text.column_names import IDS, PATHS, column_name
from deiii.data.tools.text.meld_names import COLUMNS, has_meld_names, meld_name, with_meld_names
from deiii.data.tools.text.part_names import WORDS, part_of

# A list may also have the folder in a column called path.
NAMES = ("filename", "file_name", "file", *PATHS, *IDS)
SPLITS = ("split_set", "split", "set", "subset", "part", "partition", "phase", "usage")
FOLDS = ("fold", "fold_id", "cv", "session_fold")
_CLIP = re.compile(rf"\s*(.+?(?:{'|'.join(map(re.escape, sorted(OF_CLIPS)))}))(?=\s|$)", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also divides at characters of texts, such as U+2028
_FOLD_KEY = re.compile(r"(?:[a-z]+[-_ ]?)?(\d{1,3})", re.IGNORECASE)  # 1, fold1, Session_2


@dataclass(frozen=True)
class ListRow:
    """One clip of a list.

    Attributes:
        name: name or path of its file.
        part, fold: the cells that name them; empty where there are none.
    """

    name: str
    part: str = ""
    fold: str = ""


def list_rows(text: str, suffix: str) -> list[ListRow]:
    """Return the rows of a list.

    Args:
        text: content of the file.
        suffix: suffix of its name, in small letters.

    Raises:
        ValueError: the text is not such a list, or a quotation mark in it is not closed.
        csv.Error: a cell is too long.
    """
    if suffix == ".jsonl":
        return list(_items([json.loads(line) for line in _lines(text)]))
    if suffix == ".json":
        return list(_json_rows(json.loads(text)))
    if suffix == ".scp":
        return list(map(_kaldi_row, _lines(text)))
    return table_rows(text)


def table_rows(text: str) -> list[ListRow]:
    """Return the rows of a CSV with any separator or of plain text, with or without a header.

    Raises:
        ValueError: a quotation mark opens a cell and is not closed, so that the cell would hold other rows.
        csv.Error: a cell is too long.
    """
    lines = _lines(text)
    if not lines:
        return []
    separator = _separator(lines)
    if separator is None:
        cells = [line.split() for line in lines]
    else:
        cells = [
            [cell.strip() for cell in row]
            for row in _csv_rows(text, separator)
            if any(cell.strip() for cell in row)
        ]
    if not cells:  # rows of empty cells
        return []
    cells = with_meld_names(cells)
    header = {column_name(name): number for number, name in reversed(list(enumerate(cells[0])))}
    columns = {
        key: next((header[name] for name in names if name in header), None)
        for key, names in (("name", NAMES), ("part", SPLITS), ("fold", FOLDS))
    }
    if columns["name"] is None:  # no header, or none that is known: the first column
        if separator is None:  # names may hold blanks
            cells = [
                [found[1], *line[found.end() :].split()] if (found := _CLIP.match(line)) else line.split()
                for line in lines
            ]
        columns = {"name": 0, "part": _column_of_parts(cells), "fold": None}
    else:
        cells = cells[1:]
    return [
        ListRow(*(row[i] if i is not None and i < len(row) else "" for i in columns.values()))
        for row in cells
    ]


def _separator(lines: Sequence[str]) -> str | None:
    """Return the sign between the cells of lines; ``None`` for blanks, or lines of one cell."""
    bars = {line.count("|") for line in lines}
    if len(bars) == 1 and 0 not in bars and not lines[0].rstrip().endswith("|"):  # it ends a command of Kaldi
        return "|"
    return next((s for s in "\t;," if s in lines[0]), None)


def _csv_rows(text: str, separator: str) -> list[list[str]]:
    """Return the cells of a CSV; raises ValueError where a quotation mark that is not closed hides rows."""
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    if any(end in cell for row in rows for cell in row for end in "\r\n"):
        strict = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        try:
            for _ in strict:
                pass
        except csv.Error:
            raise ValueError(
                f"a cell before the end of line {strict.line_num} begins with a quotation mark that is not "
                "closed, so that other rows would be part of it; remove or double the mark"
            ) from None
    return rows


def _column_of_parts(cells: list[list[str]]) -> int | None:
    """Return the last column that names a part in each row of a list without a header; else ``None``."""
    width = min(map(len, cells))
    return next((n for n in range(width - 1, 0, -1) if all(part_of(row[n]) for row in cells)), None)


def _kaldi_row(line: str) -> ListRow:
    """Return the file in a line of Kaldi, or its first word where no file is named.

    The line is ``utterance path`` or ``utterance command path |``.
    """
    key, *words = line.split()
    paths = [word for word in words if f".{word.rpartition('.')[2].lower()}" in OF_CLIPS]
    return ListRow(paths[-1] if paths else key)


def _lines(text: str) -> list[str]:
    return [line for line in _LINE_END.split(text) if line.strip()]


def _json_rows(tree: Any) -> Iterator[ListRow]:
    """Yield the clips of a list, of an object of parts or folds, or of an object of clips by name."""
    if isinstance(tree, list) and tree and all(isinstance(item, dict) and _parts_in(item) for item in tree):
        tree = {str(number): item for number, item in enumerate(tree)}
    if not isinstance(tree, dict):
        yield from _items(tree)
    elif _parts_in(tree):
        for part, items in tree.items():
            if isinstance(items, (list, dict)):
                yield from (replace(row, part=part) for row in _json_rows(items))
    elif folds := {
        key: (found[1], item)
        for key, item in tree.items()
        if isinstance(item, dict) and _parts_in(item) and (found := _FOLD_KEY.fullmatch(key))
    }:
        if left := sorted(tree.keys() - folds.keys()):
            raise ValueError(f"{left[0]!r} stands beside folds and is none; remove it")
        for number, item in folds.values():
            yield from (replace(row, fold=number) for row in _json_rows(item))
    elif tree and all(isinstance(value, str) and part_of(value) for value in tree.values()):
        yield from (ListRow(name, part) for name, part in tree.items())
    else:
        yield from _items(
            [{"key": key, **value} if isinstance(value, dict) else key for key, value in tree.items()]
        )


def _parts_in(tree: Mapping[str, Any]) -> bool:
    """Return whether an object has a list or an object under the name of a part."""
    return any(key.lower() in WORDS and isinstance(value, (list, dict)) for key, value in tree.items())


def _items(items: Any) -> Iterator[ListRow]:
    if not isinstance(items, list):
        raise ValueError("it holds neither a list nor an object of clips")
    for item in items:
        if isinstance(item, str):
            yield ListRow(item)
        elif isinstance(item, dict):
            lower = {column_name(str(key)): value for key, value in item.items()}
            name = next((lower[key] for key in NAMES if isinstance(lower.get(key), str)), "")
            if has_meld_names(lower):
                name = meld_name(*(lower[key] for key in COLUMNS))
            part = next((str(lower[key]) for key in SPLITS if lower.get(key) is not None), "")
            fold = next((str(lower[key]) for key in FOLDS if lower.get(key) is not None), "")
            yield ListRow(name, part, fold)
        else:
            raise ValueError(f"{item!r} is neither a name nor an object")
