"""Find the columns of a table of segments by their names.

>>> segment_columns(["wav", "t_start", "t_end", "emotion"])["begin"]
(1, 1.0)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from deiii.data.tools.counts import examples
from deiii.data.tools.text.column_names import column_name
from deiii.pipeline.init.vocabulary import COLUMNS

BEGIN = ("begin", "start", "onset", "from", "in", "anfang", "beg", "von", "since", "tmin", "t0")
END = ("end", "stop", "offset", "to", "out", "ende", "bis", "until", "tmax", "t1")
LENGTH = ("duration", "length", "dur", "dauer")
LATER = ("offset",)  # the begin in tables with a duration and no other begin
IN_MS = frozenset({"ms", "msec", "msecs", "millis", "millisecond", "milliseconds"})
FRAMES = frozenset({"frame", "frames", "sample", "samples"})
UNKNOWN = frozenset(
    {"min", "mins", "minute", "minutes", "minuten", "h", "hour", "hours", "stunden", "us", "usec", "ns"}
)  # units that are not read
CLOCK_FORMS = frozenset({"hh", "mm", "ss", "s", "sec"})  # in the name of a column with hours:minutes:seconds
NO_TIME = frozenset({"file", "filename", "path", "name", "folder", "id"})  # ``Begin File`` is no time
SHORT = frozenset({"from", "in", "to", "out", "von", "bis", "t0", "t1"})  # mean a time as the first word only
KEPT = ("speaker", "label", "valence", "arousal", "dominance", "fold", "sex")
EXAMPLE = "path,start,end,speaker,label\ninterview.mp4,12.5,15.0,anna,happy"
_COMPOUND = re.compile(r"(begin|start|stop|end)(times?|s|secs?|seconds?|ms|msecs?)")

Columns = dict[str, tuple[int, float]]


class ColumnError(ValueError):
    """A table lacks a column, or has columns whose meaning is not certain; the message names them."""


def segment_columns(header: Sequence[str], needs_path: bool = True) -> Columns:
    """Return number and unit (s per unit of its numbers) of each column that is used.

    Times are in the columns whose name begins with a word such as ``start`` or ``end``, or else contains one
    (``t_start``). Where a table has ``offset`` and a duration alone, the segment begins at the offset.

    Args:
        header: names of the columns.
        needs_path: whether the table must name the recordings.

    Returns:
        keyed by ``path``, ``begin``, ``end``, ``length``, and those of `KEPT`.

    Raises:
        ColumnError: a column is missing, has another unit, or several could be meant.
    """
    columns: Columns = {}
    words = [_words(name) for name in header]
    for wanted, names in (("begin", BEGIN), ("end", END), ("length", LENGTH)):
        if (found := _times(header, words, wanted, names)) is not None:
            columns[wanted] = found
    if "begin" not in columns and "length" in columns:
        if (found := _times(header, words, "begin", LATER)) is not None:
            columns["begin"] = found
            columns.pop("end", None)  # the same column
    for wanted in ("path", *KEPT):
        places = {"_".join(parts): n for n, parts in reversed(list(enumerate(words)))}
        if (name := next((name for name in COLUMNS[wanted] if name in places), None)) is not None:
            columns[wanted] = places[name], 1.0
    lacking = []
    if "path" not in columns and needs_path:
        lacking.append("the recording (path, or --recording FILE for all rows)")
    lacking += [] if "begin" in columns else ["the begin (start)"]
    lacking += [] if "end" in columns or "length" in columns else ["the end (end, or duration)"]
    if lacking:
        raise ColumnError(
            f"no column for {' and '.join(lacking)} among {', '.join(header[:8])}; a table of segments looks "
            f"like\n{EXAMPLE}"
        )
    return columns


def unused_columns(header: Sequence[str], columns: Columns) -> list[str]:
    """Return the names of the columns that are not used, without those of times in other forms.

    Args:
        header: names of the columns.
        columns: the columns that are used, as `segment_columns` returned them.

    >>> header = ["path", "start", "start_frame", "end", "sentiment"]
    >>> unused_columns(header, segment_columns(header))
    ['sentiment']
    """
    used = {number for number, _ in columns.values()}
    times = {*BEGIN, *END, *LENGTH}
    return [name for n, name in enumerate(header) if n not in used and name and not times & set(_words(name))]


def _words(name: str) -> list[str]:
    """Return the words in the name of a column; ``starttime`` has two."""
    words = column_name(name).split("_")
    found = [_COMPOUND.fullmatch(word) for word in words]
    return [
        part for word, two in zip(words, found, strict=True) for part in (two.groups() if two else [word])
    ]


def _times(
    header: Sequence[str], words: Sequence[list[str]], wanted: str, names: Sequence[str]
) -> tuple[int, float] | None:
    """Return number and unit of the column with the times that are wanted; ``None`` if there is none."""
    times = [n for n, parts in enumerate(words) if not NO_TIME & set(parts)]
    fitting = [n for n in times if words[n][0] in names]
    if not fitting:
        fitting = [n for n in times if (set(names) - SHORT) & set(words[n])]
        if len({words[n][0] for n in fitting}) > 1:  # e.g. of a word and of a sentence
            raise ColumnError(
                f"the columns {examples(header[n] for n in fitting)} could each be the {wanted}; rename the "
                f"one that is meant to {names[0]}"
            )
    in_s = [n for n in fitting if not _other_unit(words[n])]
    if fitting and not in_s:
        raise ColumnError(
            f"the column {header[fitting[0]]!r} has {_other_unit(words[fitting[0]])}; give times in s"
        )
    if not in_s:
        return None
    # ELAN writes each time in several forms, each in a column.
    first = min(in_s, key=lambda n: _is_in_ms(words[n]))
    return first, 0.001 if _is_in_ms(words[first]) else 1.0


def _is_in_ms(words: Sequence[str]) -> bool:
    """Return whether a column has times in ms, by the words of its name; ELAN's ``ss.msec`` is in s."""
    return bool(IN_MS & set(words)) and "ss" not in words


def _other_unit(words: Sequence[str]) -> str:
    """Return the unit of a column that is neither s nor ms, by the words of its name; else an empty text."""
    if FRAMES & set(words):
        return "frame numbers"
    unit = UNKNOWN & set(words)
    return f"the unit {min(unit)!r}" if unit and not CLOCK_FORMS & set(words) else ""
