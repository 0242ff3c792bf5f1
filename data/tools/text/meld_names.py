"""Names of the files of MELD, which its tables give as two numbers.

>>> meld_name(0, 3)
'dia0_utt3'
"""

from __future__ import annotations

import re
from collections.abc import Iterable

COLUMNS = ("dialogue_id", "utterance_id")  # as `column_name` returns them
PATHS = (
    "filename", "file_name", "file", "filepath", "file_path", "path", "wav", "wav_path", "audio",
    "audio_path", "video", "video_path", "clip", "clip_id",
)  # fmt: skip


def meld_name(dialogue: object, utterance: object) -> str:
    """Return the name of a file without suffix."""
    return f"dia{dialogue}_utt{utterance}"


def has_meld_names(columns: Iterable[str]) -> bool:
    """Return whether columns, as `column_name` returns them, are MELD's, and none of them names a file."""
    columns = set(columns)
    return columns.issuperset(COLUMNS) and not columns & set(PATHS)


def with_meld_names(cells: list[list[str]]) -> list[list[str]]:
    """Return the rows of a table, after a column ``file_name`` if it has MELD's columns.

    Args:
        cells: the rows, header first.

    >>> with_meld_names([["Utterance", "Dialogue_ID", "Utterance_ID"], ["Hi", "0", "3"]])[1]
    ['dia0_utt3', 'Hi', '0', '3']
    """
    header = [column_name(name) for name in cells[0]]
    if not has_meld_names(header):
        return cells
    dialogue, utterance = map(header.index, COLUMNS)
    last = max(dialogue, utterance)
    names = [meld_name(row[dialogue], row[utterance]) if len(row) > last else "" for row in cells[1:]]
    return [["file_name", *cells[0]], *([name, *row] for name, row in zip(names, cells[1:], strict=True))]


def column_name(name: str) -> str:
    """Return the name of a column without case, blanks and signs.

    >>> column_name(" Split Set ")
    'split_set'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")
