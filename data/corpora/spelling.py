"""Spellings of one word in a table: which ones mean the same, and which one stands for all of them.

A table that people edit by hand has ``happy``, ``Happy`` and ``happy`` with an invisible character in it; one
that a program wrote has ``1`` and ``1.0``. Without folding, each of them would be a class of its own.

>>> fold_labels([(2, "Happy"), (3, "happy"), (4, "happy")])[0]
{'Happy': 'happy', 'happy': 'happy'}
"""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from deiii.data.corpora.clips import CorpusError
from deiii.data.tools.counts import counted, examples

# Words that programs write for a missing value.
MISSING = {
    "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "nat", "inf", "-inf", "undefined",
    "#value!", "#ref!", "#name?", "#div/0!", "#null!", "#num!",
}  # fmt: skip
# What corpora write where the speaker of a clip is not known (MSP-Podcast: Unknown).
UNKNOWN_SPEAKERS = {"unknown", "unknown speaker", "unk", "?", "??", "???", "-", "--"}
JOINERS = "\u200c\u200d"  # invisible, but part of the spelling in Persian and Indian scripts and in emoji
# Invisible characters that Unicode does not class as format characters (Cf).
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
# Cyrillic and Greek letters that look like Latin ones, and letters of Persian for which Arabic keyboards have
# other code points.
LOOKALIKES = str.maketrans("аеорсухіјѕԁһӏкмнтвαεικνορτυχيىك", "aeopcyxijsdhlkmhtbaeikvoptuxییک")
# Different characters for one sign: dashes, quotes, the Turkish i, lengthened Arabic letters.
VARIANTS = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u00ad\uff0d\ufe63", "-")
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u00b4`", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
    | {"\u0131": "i", "\u0640": None}
)
# The second form, 1.0e+00, is numpy's; 1e3 without a point may be a name.
NUMBER = re.compile(r"[-+]?\d{1,60}([.,]\d{1,60})?|[-+]?\d{1,60}\.\d{1,60}e[-+]?\d{1,2}")
AMBIGUOUS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")  # 1,000 may be a thousand, or 1 with three decimals
AS_TEXT = re.compile(r"=\"(.*)\"|'([-+]?\d[\d.,]*)")  # how spreadsheets keep a number as text
# Between words, at least one of them of letters: very happy, very_happy, very-happy.
SEPARATORS = re.compile(r"(?<=[^\W\d_])[ _-]+(?=[^\W_])|(?<=[^\W_])[ _-]+(?=[^\W\d_])")
LAST_SIGNS = re.compile(r"(?<=[\w\"'])[.,;:]+$")  # happy. and happy; but not happy?, which may mean a doubt
_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")  # of s01, which is s1
SEVERAL = re.compile(r"\s*[;|/,+&]\s*")  # between the labels of a cell that holds several
SEGMENT_COLUMNS = ("start", "begin", "onset", "from", "end", "stop", "offset", "to", "duration")
MOST_NAMED = 4
MOST_ROWS = 5  # that a message names
Place = TypeVar("Place", int, str)  # the place of a label: a row of a table, or a file


def clean(text: str) -> str:
    """Return the text of a cell with single blanks and composed letters (NFC).

    Invisible characters are removed, and so are the signs by which spreadsheets mark a number as text.

    >>> clean(" very\\u00a0 hap\\u200bpy "), clean('="01"')
    ('very happy', '01')
    """
    if text.isascii() and text.isprintable():
        text = " ".join(text.split())
        found = AS_TEXT.fullmatch(text)
        return text if found is None else (found[1] or found[2] or "").strip()
    spaced = "".join(" " if unicodedata.category(c) in ("Cc", "Zs", "Zl", "Zp") else c for c in text)
    shown = "".join(c for c in spaced if c in JOINERS or not _invisible(c))
    return unicodedata.normalize("NFC", " ".join(shown.split()))


def spelling_key(text: str) -> str:
    """Return a text that is equal for all spellings of one word.

    Spellings may differ in case, width, invisible characters, forms of dashes and quotes, number formats,
    separators between words, quotes around the word and a full stop, comma, semicolon or colon after it.

    >>> spelling_key("HAPPY") == spelling_key("hap\\u200bpy"), spelling_key("1.0")
    (True, '1')
    >>> spelling_key("very_happy."), spelling_key('"very-happy"')
    ('very happy', 'very happy')
    """
    visible = "".join(c for c in unicodedata.normalize("NFKC", clean(text)) if not _invisible(c))
    key = unicodedata.normalize("NFKC", " ".join(visible.split()).casefold())
    key = key.translate(VARIANTS).replace("i\u0307", "i")  # lower case of the Turkish capital \u0130
    key = LAST_SIGNS.sub("", key)
    if len(key) > 2 and key[0] == key[-1] and key[0] in "\"'":
        key = LAST_SIGNS.sub("", key[1:-1].strip())
    if NUMBER.fullmatch(key) and not AMBIGUOUS.fullmatch(key):
        return str(Fraction(key.replace(",", ".")))
    return SEPARATORS.sub(" ", key)


def name_key(text: str) -> str:
    """Return a text that is equal for all spellings of a speaker or fold, also with zeros before numbers.

    >>> name_key("Actor_01") == name_key("actor 1"), name_key("s10") == name_key("s1")
    (True, False)
    """
    return _ZEROS.sub("", spelling_key(text))


def is_unknown_speaker(text: str) -> bool:
    """Return whether the name of a speaker states that nobody knows who it is.

    >>> is_unknown_speaker("Unknown"), is_unknown_speaker("anna")
    (True, False)
    """
    return spelling_key(text) in UNKNOWN_SPEAKERS


def unknown_speakers(speakers: Iterable[str]) -> list[str]:
    """Return a line for each name that stands for unknown speakers; one speaker for each clip is given."""
    number = Counter(filter(is_unknown_speaker, speakers))
    return [
        f"speaker {name!r} ({counted(clips, 'clip')}) counts as one person; if these are several people, or "
        "others of the table, remove the rows, or let `deiii init` give each such clip a speaker of its own"
        for name, clips in number.items()
    ]


def refuse_spellings(what: str, names: Iterable[str], remedy: str) -> None:
    """Refuse two names that differ in spelling alone.

    Args:
        what: what the names are of, for the message.
        names: all names.
        remedy: how to make one name of them.

    Raises:
        CorpusError: names both.

    >>> refuse_spellings("classes", ["happy", "sad"], "rename one")
    """
    seen: dict[str, str] = {}
    key_of = name_key if what == "speakers" else spelling_key
    for name in names:
        other = seen.setdefault(key_of(name), name)
        if other != name:
            raise CorpusError(f"the {what} {other!r} and {name!r} differ in spelling alone; {remedy}")


def require_values(name: str, cells: Iterable[tuple[int, str]]) -> None:
    """Refuse what programs write for a missing value: it would become a class, a speaker or a fold.

    Args:
        name: the column.
        cells: row numbers and cells.

    Raises:
        CorpusError: names the rows.
    """
    found = [(row, text) for row, text in cells if spelling_key(text) in MISSING]
    if not found:
        return
    remedy = {
        "label": "write the label, leave the cell blank if the row has attributes, or remove the row; "
        "if it is a class of yours, give it another name",
        "fold": "write the fold of every clip, or remove the column",
    }
    rows = examples((row for row, _ in found), MOST_ROWS)
    raise CorpusError(
        f"row{'s' if len(found) > 1 else ''} {rows}: {name} is {found[0][1]!r}, "
        f"which stands for a missing value; {remedy.get(name, f'write the {name} or remove the row')}"
    )


def fold_labels(labels: Iterable[tuple[Place, str]], place: str = "row") -> tuple[dict[str, str], list[str]]:
    """Return the class of each spelling, and a line for each class that has several.

    The most frequent spelling stands for all; of equally frequent ones the one in small letters, then the
    shortest.

    Args:
        labels: row numbers and cells as they stand in the table; no blank ones. Elsewhere than in tables,
            the paths of files and their labels.
        place: what the numbers are, for the lines.

    Returns:
        the class by cell, and the lines, which name rows.

    Raises:
        CorpusError: two labels look alike but are written in different alphabets, or one is a number that
            can be read as two others.
    """
    rows: dict[str, list[Place]] = defaultdict(list)
    for row, text in labels:
        rows[text].append(row)
    groups: dict[str, list[str]] = defaultdict(list)
    for text in rows:
        groups[spelling_key(text)].append(text)
    _refuse_lookalikes("labels", {key: rows[texts[0]][0] for key, texts in groups.items()}, place)
    classes: dict[str, str] = {}
    notes: list[str] = []
    for texts in groups.values():
        count: Counter[str] = Counter()
        for text in texts:
            count[clean(text)] += len(rows[text])
        name = min(count, key=lambda word: (-count[word], *_preference(word)))
        classes |= dict.fromkeys(texts, name)
        other = {text: rows[text] for text in texts if text != name}
        # Blanks around a label are reported only if rows differ in them.
        if other and (len(texts) > 1 or " ".join(texts[0].split()) != name):
            notes.append(f"{_spellings(other, place)} read as {name!r}")
    keys = {key: classes[texts[0]] for key, texts in groups.items()}
    for text in rows:
        inside = [keys[part] for part in map(spelling_key, SEVERAL.split(clean(text))) if part in keys]
        if inside and classes[text] not in inside:
            notes.append(
                f"{_spellings({text: rows[text]}, place)} a class of its own, beside {', '.join(inside)}; "
                "give each clip one label, or rename it with corpus.classes"
            )
    return classes, sorted(notes)


def _preference(word: str) -> tuple[bool, bool, int, str]:
    """Return a sort key for equally frequent spellings; those without joiners come first."""
    return any(c in word for c in JOINERS), word != word.lower(), len(word), word


def check_spellings(what: str, names: Mapping[str, int]) -> None:
    """Refuse two spellings of one speaker or fold, because a split could put them into different parts.

    Args:
        what: ``speakers`` or ``folds``.
        names: each name with the first row that has it.

    Raises:
        CorpusError: names both spellings and their rows.
    """
    seen: dict[str, str] = {}
    for name in sorted(names, key=lambda name: names[name]):
        other = seen.setdefault(name_key(name), name)
        if other != name:
            raise CorpusError(
                f"{what} {other!r} (row {names[other]}) and {name!r} (row {names[name]}) differ in spelling "
                "alone; use one"
            )
    _refuse_lookalikes(what, {spelling_key(name): row for name, row in names.items()})


def _refuse_lookalikes(what: str, keys: Mapping[str, Place], place: str = "row") -> None:
    for key, row in keys.items():
        if AMBIGUOUS.fullmatch(key):
            readings = (key.replace(",", ""), str(Fraction(key.replace(",", "."))))
            if both := [reading for reading in readings if reading in keys]:
                raise CorpusError(
                    f"{what} {key!r} ({place} {row}) can mean {' or '.join(readings)}, and {both[0]!r} "
                    f"({place} {keys[both[0]]}) is there too; write the number without a comma"
                )
    seen: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: keys[key]):
        other = seen.setdefault(key.translate(LOOKALIKES), key)
        if other != key:
            raise CorpusError(
                f"{what} {ascii(other)} ({place} {keys[other]}) and {ascii(key)} ({place} {keys[key]}) look "
                "alike but have letters of different alphabets; use one"
            )


def _spellings(rows: Mapping[str, Sequence[Place]], place: str) -> str:
    """Return spellings with their rows, as ``'HAPPY' (rows 4, 9) and 'Happy' (row 2) are``."""
    named = []
    for text, where in sorted(rows.items(), key=lambda item: item[1][0])[:MOST_NAMED]:
        shown = repr(text) if text == clean(text) else ascii(text)
        named.append(f"{shown} ({place}{'s' if len(where) > 1 else ''} {examples(where, MOST_ROWS)})")
    more = f" and {len(rows) - MOST_NAMED} more spellings" if len(rows) > MOST_NAMED else ""
    return f"{', '.join(named)}{more} {'are' if len(rows) > 1 else 'is'}"


def _invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or character in BLANK


class NamesOnDisk:
    """Finds files whose names differ from a table's in Unicode normalisation or invisible characters alone.

    macOS returns names in decomposed form (NFD); tables and other systems mostly have composed ones (NFC).

    Args:
        root: the folder that paths are relative to.
    """

    def __init__(self, root: str | Path):
        self.root = str(root)
        self._listing = lru_cache(maxsize=4096)(self._names)

    def find(self, path: str) -> str:
        """Return the path as it is on the disk, or the path as given if there is no such file.

        Args:
            path: relative to the root, with forward slashes.

        >>> NamesOnDisk(".").find("nothing here")
        'nothing here'
        """
        if path.isascii() or os.path.lexists(f"{self.root}/{path}"):
            return path
        found = ""
        for part in path.split("/"):
            if not os.path.lexists(f"{self.root}/{found}{part}"):
                part = self._listing(found).get(_same_name(part), "")
                if not part:
                    return path
            found += f"{part}/"
        return found.rstrip("/")

    def _names(self, folder: str) -> dict[str, str]:
        try:
            names = sorted(os.listdir(f"{self.root}/{folder}"))
        except OSError:
            return {}
        count = Counter(map(_same_name, names))
        return {_same_name(name): name for name in names if count[_same_name(name)] == 1}


def _same_name(name: str) -> str:
    return unicodedata.normalize("NFC", "".join(c for c in name if not _invisible(c)))


def segment_hint(columns: Iterable[str], table: str | os.PathLike) -> str:
    """Return what to do about a table whose rows are segments of longer recordings, else an empty text.

    Args:
        columns: names of the table's columns, in lower case.
        table: path of the table.

    >>> segment_hint(["path", "speaker", "label", "onset_s"], "a.csv")[:48]
    '; the column onset_s suggests segments of longer'
    >>> segment_hint(["path", "speaker", "label"], "a.csv")
    ''
    """
    times = [name for name in columns if re.split(r"[^a-z]", name)[0] in SEGMENT_COLUMNS]
    if not times:
        return ""
    return (
        f"; the column {times[0]} suggests segments of longer recordings, but a clip is a whole file: "
        f"`deiii cut {shlex.quote(os.fspath(table))} OUT` cuts them into files and writes their table"
    )
