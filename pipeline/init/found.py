"""The result of examining a folder of recordings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from deiii.data.corpora.clips import UNKNOWN
from deiii.data.corpora.spelling import is_unknown_speaker
from deiii.data.tools.counts import counted
from deiii.data.tools.text.printable import printable_name

NO_SPEAKER = (
    "the speaker of a clip is not known, so each clip counts as a speaker of its own: one person's clips may "
    "be both trained on and tested on, and the scores are then too high for people that the network has not "
    "met. Write the speakers into the table, or give --speaker REGEX"
)


class InitError(ValueError):
    """A folder or table that `deiii init` cannot interpret; the message states what to do."""


@dataclass(frozen=True)
class Row:
    """One recording: the columns of deiii's table. Attributes, fold and sex are in ``more``."""

    path: str
    speaker: str
    label: str
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A proposal for the config and the table.

    Attributes:
        how: how speaker and label are known, in words.
        rows: rows of the table to write; empty for a corpus with an adapter.
        config: the name of the config of a corpus with an adapter; else empty.
        corpus: settings of the corpus that differ from those of this config, or all that are needed.
        notes: what the user should check.
        table: the table that is in deiii's form already, which is used as it is; else empty.
        sources: tables that the rows were read from; they are never overwritten.
    """

    how: str
    rows: tuple[Row, ...] = ()
    config: str = ""
    corpus: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    table: str = ""
    sources: tuple[Path, ...] = ()


def with_speakers(found: Found, speaker_of: Callable[[str], str | None] | None) -> Found:
    """Return the proposal with the speakers that a function of the path returns, and unknown ones numbered.

    Args:
        found: its rows may have empty speakers.
        speaker_of: the speaker in a path, or ``None`` where the path has none; it wins over the rows.

    Raises:
        InitError: the function returns the speaker of some recordings only.
    """
    rows = found.rows
    if speaker_of is not None:
        named = [replace(row, speaker=speaker_of(row.path) or "") for row in rows]
        if lacking := [row.path for row in named if not row.speaker]:
            raise InitError(
                f"--speaker finds nothing in {len(lacking)} of {len(rows)} paths, first {lacking[0]}; change "
                "the regular expression so that it fits all of them"
            )
        rows = tuple(named)
    rows = tuple(replace(row, speaker="") if is_unknown_speaker(row.speaker) else row for row in rows)
    unknown = [row for row in rows if not row.speaker]
    if not unknown:
        return replace(found, rows=rows)
    note = NO_SPEAKER
    if len(unknown) < len(rows):
        note = f"{len(unknown)} of {len(rows)} recordings have no speaker, first {unknown[0].path}: {note}"
    rows = tuple(row if row.speaker else replace(row, speaker=unknown_speaker(row.path)) for row in rows)
    return replace(found, rows=rows, notes=(*found.notes, note))


def unknown_speaker(path: str) -> str:
    """Return a name for the unknown speaker of a recording; it depends on the path without suffix alone.

    >>> unknown_speaker("happy/1.mp4") == unknown_speaker("happy/1.wav")
    True
    """
    stem = PurePosixPath(path).with_suffix("").as_posix()
    return UNKNOWN + hashlib.sha256(stem.encode(errors="surrogateescape")).hexdigest()[:12]


def with_counts(names: Iterable[str], most: int = 5) -> str:
    """Return names with their numbers of occurrences, the most frequent first.

    >>> with_counts(["sad", "happy", "sad"]), with_counts(["a\\tb"])
    ('sad: 2 clips, happy: 1', 'a\\\\tb: 1 clip')
    """
    count = sorted(Counter(map(printable_name, names)).items(), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{name}: {number}" for name, number in count[:most]]
    words[:1] = [f"{name}: {counted(number, 'clip')}" for name, number in count[:1]]
    if len(count) > most:
        words.append(f"and {len(count) - most} more")
    return ", ".join(words)
