"""Read a split that somebody else published as lists of file names into a protocol of the kind ``clips``.

Two forms are read: a folder of lists, one for each part and fold (``fold_1/train.csv``,
``split01/test.csv``, ``cremad_test_fold_1.jsonl``); or a table with a column that names the part
(``FileName, ..., Split_Set``), one table for each fold or with a column ``fold``. Lists are CSV with any
separator, with or without a header, plain text, JSON, JSON Lines or Kaldi's ``wav.scp``. Nothing else of a
list is used but names, parts and folds; labels come from the corpus.

>>> fold_of("data/fold_1/cremad_train_fold_1.jsonl")
1
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deiii.data.audit.list_rows import SPLITS, list_rows
from deiii.data.corpora.files import clip_key
from deiii.data.corpora.protocol import PARTS, Protocol, SplitError
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.counts import counted, examples
from deiii.data.tools.text.decoding import CHECK_LETTERS, GUESSED, decode
from deiii.data.tools.text.part_names import part_of, part_of_folders

SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".list", ".json", ".jsonl", ".scp")
KALDI = ("wav.scp", "video.scp")
MAX_BYTES = 256_000_000
_FOLD = re.compile(r"(?:fold|split|cv|set|session|consensus|partition)[-_ ]?(\d{1,3})(?!\d)", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"[-_](\d{1,3})$")
_CELL = re.compile(r"\D*?(\d+)(?:\.0+)?")  # a fold in a table: 1, 1.0 (of pandas), fold1, Session_2
_log = logging.getLogger(__name__)
LEFT_OUT = 4  # values and files that a line names

Entry = tuple[int | None, str, str]  # fold, part and name of a clip


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
    left_out: list[str] = []
    for file in files:
        found: dict[tuple[int | None, str], list[str]] = defaultdict(list)
        for fold, part, clip in _entries(file, root, left_out):
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
        raise SplitError(_nothing_found(root, left_out))
    if left_out:
        number = counted(len(left_out), "file")
        _log.warning(
            "%s: left out %s without clips in a part: %s", root, number, examples(left_out, LEFT_OUT)
        )
    return _protocol(root, name or root.stem, folds, used, digest.hexdigest())


def _nothing_found(root: Path, left_out: Sequence[str]) -> str:
    """Return the message for lists without clips in a part."""
    looked = f"none of {counted(len(left_out), 'file')} ({examples(left_out, LEFT_OUT)}) has clips"
    found = looked if left_out else f"there is no list ({', '.join(SUFFIXES)}) that has clips"
    return (
        f"{root}: {found} in a part of a split: call the files train, val and test, or use a table "
        f"with a column {', '.join(SPLITS[:3])}"
    )


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
    # Parts may use one name for several clips: MELD numbers the dialogues of each part from 0.
    clips = max(sum(map(len, fold.values())) for fold in parts)
    clips = max(clips, len({c for fold in parts for names in fold.values() for c in names}))
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
    found = [p for p in root.rglob("*") if p.is_file() and _is_list(p)]
    return sorted(p for p in found if not any(piece.startswith(".") for piece in p.relative_to(root).parts))


def _is_list(file: Path) -> bool:
    """Return whether a file's name is that of a list; of Kaldi's tables, those of recordings are lists."""
    suffix = file.suffix.lower()
    return suffix in SUFFIXES and (suffix != ".scp" or file.name.lower() in KALDI)


def _entries(file: Path, root: Path, left_out: list[str]) -> list[Entry]:
    """Return the clips of one file with their parts and folds.

    Args:
        file: the list.
        root: the folder of all lists, or the file.
        left_out: gets the file if it names no part or has no clips.
    """
    if file.stat().st_size > MAX_BYTES:
        raise SplitError(f"{file} is larger than {MAX_BYTES} bytes, the limit for a list")
    relative = file.name if file == root else file.relative_to(root).as_posix()
    part, fold = part_of(file.name) or part_of_folders(relative), fold_of(relative)
    try:
        text, encoding = decode(file.read_bytes())
        rows = list_rows(text, file.suffix.lower())
    except (ValueError, csv.Error, RecursionError) as error:
        if part is None and file != root:
            left_out.append(f"{relative} (no list: {error})")
            return []
        raise SplitError(f"{file} cannot be read as a list: {error}") from None
    if encoding == GUESSED:
        _log.warning(CHECK_LETTERS, file)
    # Where a column names parts, a row without one (holdout, unused) is in none, whatever the file's name.
    if any(part_of(row.part) for row in rows):
        part = None
    elif part is None:
        left_out.append(relative)
        return []
    found: list[Entry] = []
    words: dict[str | None, Counter[str]] = defaultdict(Counter)
    for row in rows:
        own_part = part_of(row.part) or part
        word = row.part if own_part is None or part_of(row.part) else ""
        words[own_part if row.name else None][word if row.name else "no name"] += 1
        if own_part and row.name:
            found.append((_fold(row.fold, file) if row.fold else fold, own_part, row.name))
    _log_parts(file, words)
    if not found:
        left_out.append(f"{relative} (no clips)")
    return found


def _log_parts(file: Path, words: Mapping[str | None, Mapping[str, int]]) -> None:
    """Log the words of a column that are joined to one part, and those that name no part.

    Args:
        file: the list.
        words: the number of rows for each cell, by part; ``None`` for rows that are in no part.
    """
    for part in PARTS:
        joined = [f"{word} {number}" for word, number in sorted(words.get(part, {}).items())]
        if len({word.casefold() for word in words.get(part, {})}) > 1:
            _log.warning(
                "%s: %s are joined to one part, %s; remove the rows of those that you do not use",
                file,
                examples(joined, LEFT_OUT),
                part,
            )
    if left := words.get(None):
        named = examples([f"{word or 'blank'} {number}" for word, number in sorted(left.items())], LEFT_OUT)
        _log.warning("%s: %s left out, in no part: %s", file, counted(sum(left.values()), "row"), named)


def _fold(cell: str, file: Path) -> int:
    """Return the number of the fold in a cell."""
    found = _CELL.fullmatch(cell)
    if not found:
        raise SplitError(f"{file}: the fold {cell!r} is not a number; number the folds in that column")
    return int(found[1])
