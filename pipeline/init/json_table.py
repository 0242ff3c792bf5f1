r"""Read a table in JSON: one flat record for each recording, as JSON lines or as one list.

>>> read_records('{"file": "a.mp4", "emotion": "happy"}\n{"file": "b.mp4", "emotion": "sad", "take": 2}\n')
[['file', 'emotion', 'take'], ['a.mp4', 'happy', ''], ['b.mp4', 'sad', '2']]
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from deiii.pipeline.init.found import InitError

LINES = (".jsonl", ".ndjson")
SUFFIXES = (*LINES, ".json")
REMEDY = "deiii reads a list of flat records, or one record in each line; otherwise export it as CSV"
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also divides at characters of texts, such as U+2028


class NotJson(InitError):
    """A file with the suffix of JSON is damaged, or is none."""


def read_records(text: str) -> list[list[str]]:
    """Return the rows of a table, header first; a record without a column has an empty cell.

    Columns are in the order in which the records name them first. ``null`` and NaN are empty cells; lists and
    objects stay in JSON.

    Args:
        text: a list of objects, or one object in each line that is not blank.

    Raises:
        NotJson: it is not JSON.
        InitError: it is something else than such records.
    """
    columns: dict[str, None] = {}
    records = _records(text)
    for record in records:
        if not isinstance(record, dict):
            raise InitError(f"{_short(record)} is no record; {REMEDY}")
        columns |= dict.fromkeys(record)
    if len(columns) < 2:
        raise InitError(f"its records have {'one column' if columns else 'no columns'}; {REMEDY}")
    return [list(columns), *([_cell(record.get(name)) for name in columns] for record in records)]


def _records(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NotJson(f"it is not JSON ({error}); correct it, or export it as CSV") from None
        return list(found)
    records = []
    for number, line in enumerate(_LINE_END.split(text), 1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                why = getattr(error, "msg", None) or str(error)
                raise NotJson(f"line {number} is not JSON ({why}); correct it, or export it as CSV") from None
    return records


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]} ..."
