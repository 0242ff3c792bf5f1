"""Read a split that somebody else published as lists of file names into a protocol of the kind ``clips``.

Two forms are read: a folder of lists, one for each part and fold (``fold_1/train.csv``,
``split01/test.csv``, ``cremad_test_fold_1.jsonl``); or a table with a column that names the part
(``FileName, ..., Split_Set``), one table for each fold or with a column ``fold``. Lists are CSV with any
separator, with or without a header, plain text, JSON or JSON Lines. Nothing else of a list is used but names,
parts and folds; labels come from the corpus.

>>> part_of("cremad_train_fold_1.jsonl"), fold_of("data/fold_1/cremad_train_fold_1.jsonl")
('train', 1)
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deiii.data.corpora.protocol import PARTS, Protocol, SplitError, clip_key
from deiii.data.corpora.protocol import SUFFIXES as OF_CLIPS
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.counts import counted

SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".list", ".json", ".jsonl")
MAX_BYTES = 256_000_000
NAMES = (
    "filename", "file_name", "file", "filepath", "file_path", "path", "wav", "wav_path", "audio",
    "audio_path", "video", "video_path", "clip", "clip_id", "utterance", "utt", "utt_id", "key", "name", "id",
)  # fmt: skip
SPLITS = ("split_set", "split", "set", "subset", "part", "partition", "phase", "usage")
FOLDS = ("fold", "fold_id", "cv", "session_fold")
WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val", "devel": "val",
    "development": "val",
    "test": "test", "testing": "test", "tst": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_FOLD = re.compile(r"(?:fold|split|cv|set|session|consensus|partition)[-_ ]?(\d{1,3})(?!\d)", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"[-_](\d{1,3})$")
_CELL = re.compile(r"\D*?(\d+)(?:\.0+)?")  # a fold in a table: 1, 1.0 (of pandas), fold1, Session_2
_CLIP = re.compile(rf"\s*(.+?(?:{'|'.join(map(re.escape, sorted(OF_CLIPS)))}))(?=\s|$)", re.IGNORECASE)

Entry = tuple[int | None, str, str]  # fold, part and name of a clip


def part_of(text: str) -> str | None:
    """Return the part that a file's name, or a cell, names; ``None`` if it names none, or several."""
    found = {WORDS[word] for word in re.split(r"[^a-z]+", Path(text).stem.lower()) if word in WORDS}
    return found.pop() if len(found) == 1 else None


def fold_of(path: str) -> int | None:
    """Return the number of the fold in a path, as written there; ``None`` if there is none."""
    for piece in reversed(Path(path).with_suffix("").parts):
        if found := _FOLD.search(piece):
            return int(found[1])
    found = _LAST_NUMBER.search(Path(path).stem)
    return int(found[1]) if found else None


def read_lists(path: str | Path, name: str | None = None) -> Protocol:
    """Return the protocol in a folder of lists, or in one table.

    Args:
        path: the folder or the file.
        name: name of the protocol; that of the folder or file where not given.

    Raises:
        SplitError: nothing there is such a list, a fold lacks train or test, or two files disagree; names the
            file.
    """
    root = Path(path)
    files = _files(root)
    folds: dict[int | None, dict[str, list[str]]] = defaultdict(dict)
    origin: dict[tuple[int | None, str], Path] = {}
    digest = hashlib.sha256()
    used: list[Path] = []
    for file in files:
        found: dict[tuple[int | None, str], list[str]] = defaultdict(list)
        for fold, part, clip in _entries(file, root):
            found[fold, part].append(clip)
        for (fold, part), clips in found.items():
            before = folds[fold].setdefault(part, clips)
            other = origin.setdefault((fold, part), file)
            if {clip_key(c) for c in before} != {clip_key(c) for c in clips}:
                raise SplitError(
                    f"{other} and {file} list different clips for the part {part}"
                    f"{'' if fold is None else f' of fold {fold}'}; keep one of them in the folder"
                )
        if found:
            digest.update(file.read_bytes())
            used.append(file)
    if not folds:
        looked = f"{len(files)} lists" if files else "no lists"
        raise SplitError(
            f"{root} has {looked} ({', '.join(SUFFIXES)}) that name a part of a split: call the files train, "
            f"val and test, or use a table with a column {', '.join(SPLITS[:3])}"
        )
    return _protocol(root, name or root.stem, folds, used, digest.hexdigest())


def write_protocol(path: str | Path, protocol: Protocol) -> None:
    """Write a protocol of the kind ``clips`` as YAML that `load_protocol` reads."""
    head: dict[str, Any] = {"name": protocol.name, "about": protocol.about, "kind": protocol.kind}
    head |= {"validation": protocol.validation, "source": dict(protocol.source)}
    lines = [f"{key}: {_text(value)}" for key, value in head.items()]
    lines.append("folds:")
    for parts in protocol.parts:
        start = "  - "
        for part in PARTS:
            if part in parts:
                lines.append(f"{start}{part}:")
                lines += [f"      - {_text(clip)}" for clip in parts[part]]
                start = "    "
    write_text(path, "\n".join(lines) + "\n")


def _text(value: Any) -> str:
    """Return a value as JSON, which is also valid YAML."""
    return json.dumps(value, ensure_ascii=False)


def _protocol(
    root: Path,
    name: str,
    folds: Mapping[int | None, Mapping[str, Sequence[str]]],
    used: Sequence[Path],
    digest: str,
) -> Protocol:
    order = sorted(folds, key=lambda fold: (fold is not None, fold or 0))
    parts = []
    for fold in order:
        lacking = [part for part in ("train", "test") if not folds[fold].get(part)]
        if lacking:
            where = "the lists have" if fold is None else f"fold {fold} has"
            raise SplitError(f"{root}: {where} no {' and no '.join(lacking)} part")
        parts.append({part: tuple(dict.fromkeys(folds[fold][part])) for part in PARTS if part in folds[fold]})
    given = all("val" in fold for fold in parts)
    clips = len({clip_key(c) for fold in parts for names in fold.values() for c in names})
    return Protocol(
        name=name,
        about=f"{counted(len(parts), 'foreign fold')} of {counted(clips, 'clip')}",
        kind="clips",
        validation="given" if given else "speakers",
        parts=tuple(parts),
        source={"files": f"{len(used)} lists of {root.name}", "sha256": digest},
    )


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise SplitError(f"there is no folder and no file {root}")
    found = [p for p in root.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES]
    return sorted(p for p in found if not any(piece.startswith(".") for piece in p.relative_to(root).parts))


def _entries(file: Path, root: Path) -> Iterator[Entry]:
    """Yield the clips of one file with their parts and folds; nothing from a file that names no part."""
    if file.stat().st_size > MAX_BYTES:
        raise SplitError(f"{file} is larger than {MAX_BYTES} bytes, the limit for a list")
    relative = file.name if file == root else file.relative_to(root).as_posix()
    part, fold = part_of(file.name), fold_of(relative)
    if part is None and file != root:
        part = next((p for piece in reversed(Path(relative).parts[:-1]) if (p := part_of(piece))), None)
    try:
        text = file.read_text(encoding="utf-8-sig")
        json_file = file.suffix.lower() in (".json", ".jsonl")
        rows = list(_json_rows(text, file.suffix.lower()) if json_file else _table_rows(text))
    except (UnicodeDecodeError, ValueError, csv.Error, RecursionError) as error:
        raise SplitError(f"{file} cannot be read as a list: {error}") from None
    # Where a column names parts, a row without one (holdout, unused) is in none, whatever the file's name.
    if any(part_of(row.get("part", "")) for row in rows):
        part = None
    for row in rows:
        own_part = part_of(row.get("part", "")) or part
        if own_part and row["name"]:
            yield _fold(row["fold"], file) if row.get("fold") else fold, own_part, row["name"]


def _fold(cell: str, file: Path) -> int:
    """Return the number of the fold in a cell."""
    found = _CELL.fullmatch(cell)
    if not found:
        raise SplitError(f"{file}: the fold {cell!r} is not a number; number the folds in that column")
    return int(found[1])


def _table_rows(text: str) -> Iterator[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return
    separator = next((s for s in "\t;," if s in lines[0]), None)
    if separator is None:
        cells = [line.split() for line in lines]
    else:
        cells = [
            [c.strip() for c in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
        ]
    header = {name.strip().lower(): i for i, name in enumerate(cells[0])}
    columns = {
        key: next((header[name] for name in names if name in header), None)
        for key, names in (("name", NAMES), ("part", SPLITS), ("fold", FOLDS))
    }
    if columns["name"] is None:  # no header, or none that is known: the first column
        columns = {"name": 0, "part": None, "fold": None}
        if separator is None:  # names may hold blanks
            cells = [[found[1]] if (found := _CLIP.match(line)) else line.split() for line in lines]
    else:
        cells = cells[1:]
    for row in cells:
        yield {key: row[i] if i is not None and i < len(row) else "" for key, i in columns.items()}


def _json_rows(text: str, suffix: str) -> Iterator[dict[str, str]]:
    if suffix == ".jsonl":
        tree: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        tree = json.loads(text)
    if isinstance(tree, dict):
        by_part = {
            key: value for key, value in tree.items() if key.lower() in WORDS and isinstance(value, list)
        }
        if by_part:
            for part, items in by_part.items():
                for row in _items(items):
                    yield {**row, "part": part}
            return
        tree = [{"key": key, **value} if isinstance(value, dict) else key for key, value in tree.items()]
    yield from _items(tree)


def _items(items: Any) -> Iterator[dict[str, str]]:
    if not isinstance(items, list):
        raise ValueError("it holds neither a list nor an object of clips")
    for item in items:
        if isinstance(item, str):
            yield {"name": item}
        elif isinstance(item, dict):
            lower = {str(key).lower(): value for key, value in item.items()}
            name = next((lower[key] for key in NAMES if isinstance(lower.get(key), str)), "")
            part = next((str(lower[key]) for key in SPLITS if lower.get(key) is not None), "")
            fold = next((str(lower[key]) for key in FOLDS if lower.get(key) is not None), "")
            yield {"name": name, "part": part, "fold": fold}
        else:
            raise ValueError(f"{item!r} is neither a name nor an object")
