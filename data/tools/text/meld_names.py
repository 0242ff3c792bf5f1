"""Names of the files of MELD, which its tables give as two numbers.

>>> meld_name(0, 3)
'dia0_utt3'
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from deiii.data.tools.text.column_names import PATHS, column_name

COLUMNS = ("dialogue_id", "utterance_id")  # as `column_name` returns them


def meld_name(dialogue: object, utterance: object) -> str:
    """Return the name of a file without suffix; numbers may be written as 3.0, as programs do with gaps.

    >>> meld_name("0.0", 3)
    'dia0_utt3'
    """
    return f"dia{_whole(dialogue)}_utt{_whole(utterance)}"


def _whole(number: object) -> str:
    return re.sub(r"\.0+$", "", str(number).strip())


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
