"""IEMOCAP (Busso et al. 2008, https://doi.org/10.1007/s10579-008-9076-6; by licence from USC).

Two actors, a woman and a man, talk in each of five sessions. A clip is one turn. For example, the file
``Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M003.wav`` has a turn of the man (``_M003``) of session
1. The letter after the number of the session (``Ses01F``) is not the speaker but the actor who wore markers
in that dialogue. `Clip.speaker` is the session with the letter of the turn, ``Ses01M``.

``Session1/dialog/EmoEvaluation/Ses01F_impro01.txt`` rates the turns of a dialogue, one line for each:

    [6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]

that is begin and end in the dialogue, turn, class on which the raters agree, and means of valence, activation
(here called arousal) and dominance on scales from 1 to 5. Turns with ``xxx`` (no agreement) or ``oth``
(another emotion) have no class, only attributes. Lines of single raters below are not used.

The recordings of a turn alone are audio. Videos (``dialog/avi``) show a whole dialogue with both actors in
one picture; they are not read. A video of a single turn is used where its file has the turn's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.files import media_files
from deiii.data.corpora.published.rated import rated_without_file, recordings
from deiii.data.tools.counts import counted, examples

CODES = {
    "ang": "angry", "hap": "happy", "exc": "excited", "sad": "sad", "neu": "neutral", "fru": "frustrated",
    "fea": "fearful", "sur": "surprised", "dis": "disgusted",
}  # fmt: skip
CLASSES = tuple(CODES.values())
NO_CLASS = ("xxx", "oth")
ATTRIBUTES = ("valence", "arousal", "dominance")  # in the order of the table
LOW, HIGH = 1.0, 5.0
EXAMPLE = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
TABLES = "EmoEvaluation"  # folder; its subfolders have the ratings of single raters

_DIALOGUE = r"Ses(?P<session>\d{2})[FM]_(?:impro|script)\d{2}[a-z]?(?:_\d[a-z]?)?"
_TURN = re.compile(rf"(?P<dialogue>{_DIALOGUE})_(?P<sex>[FM])\d{{3}}")
_WHOLE = re.compile(_DIALOGUE)
_LINE = re.compile(r"\[[^\]]*\]\s+(?P<turn>\S+)\s+(?P<code>\S+)\s+\[(?P<means>[^\]]*)\]")


@dataclass(frozen=True)
class Rating:
    """The class of one turn, ``None`` without one, and its mean attributes within the scale."""

    label: str | None
    attributes: dict[str, float]


def scan(config: CorpusConfig) -> Corpus:
    """Return the turns of IEMOCAP with classes and valence, arousal and dominance from 1 to 5.

    Rated turns without a file are kept (they end as ``missing``), except those of sessions without any
    file.

    Raises:
        CorpusError: for a folder without such files, or missing or malformed ratings.
    """
    files = recordings(config.root, "iemocap", EXAMPLE, _turn, lambda stem: bool(_WHOLE.fullmatch(stem)))
    root = Path(config.root)
    ratings, beyond = read_ratings(root)
    absent = rated_without_file(files, ratings, root, _session, "iemocap", "turn")
    other = min(files.values())
    files |= {turn: _expected_path(turn, other) for turn in absent}
    clips = tuple(_clip(turn, path, ratings.get(turn)) for turn, path in sorted(files.items()))
    notes: tuple[str, ...] = ()
    if beyond:
        those = counted(len(beyond), "mean")
        notes = (f"iemocap: left out {those} beyond {LOW:g} to {HIGH:g}: {examples(sorted(beyond))}",)
    ranges = {name: (LOW, HIGH) for name in ATTRIBUTES}
    return Corpus("iemocap", str(root), CLASSES, clips, ranges, protocol="iemocap-5fold", notes=notes)


def read_ratings(root: Path) -> tuple[dict[str, Rating], list[str]]:
    """Return the ratings below a folder by turn, and the means that are not within the scale, in words.

    Raises:
        CorpusError: there are none, or one is malformed; the message names file and line.
    """
    texts = media_files(root, [".txt"])
    tables = [root / path for path in texts if PurePosixPath(path).parent.name == TABLES]
    if not tables:
        raise CorpusError(
            f"iemocap: no folder {TABLES} with text files under {root}; it comes with the corpus, for "
            f"example as Session1/dialog/{TABLES}/Ses01F_impro01.txt: copy it there"
        )
    ratings: dict[str, Rating] = {}
    beyond: list[str] = []
    for table in tables:
        for number, line in enumerate(table.read_text("utf-8-sig", errors="replace").splitlines(), 1):
            found = _LINE.match(line.strip())
            if found is None or not _TURN.fullmatch(found["turn"]):
                continue  # a rater's line, the header or a blank one
            turn = found["turn"]
            try:
                rating, outside = _rating(found["code"], found["means"])
            except ValueError as error:
                raise CorpusError(f"{table} line {number}: {error}") from None
            if ratings.setdefault(turn, rating) != rating:
                raise CorpusError(f"{table} line {number}: a second, different rating of {turn}")
            beyond += [f"{turn} {what}" for what in outside]
    if not ratings:
        raise CorpusError(
            f"{tables[0].parent} has no line such as "
            "'[6.2901 - 8.2357] Ses01F_impro01_F000 neu [2.5000, 2.5000, 2.5000]'"
        )
    return ratings, beyond


def _rating(code: str, means: str) -> tuple[Rating, list[str]]:
    code = code.lower()
    if code not in CODES and code not in NO_CLASS:
        raise ValueError(f"unknown class {code!r} (known: {', '.join([*CODES, *NO_CLASS])})")
    values = [float(text) for text in means.split(",")]
    if len(values) != len(ATTRIBUTES):
        raise ValueError(f"[{means}] should be three numbers: {', '.join(ATTRIBUTES)}")
    named = dict(zip(ATTRIBUTES, values, strict=True))
    within = {name: value for name, value in named.items() if LOW <= value <= HIGH}
    return Rating(CODES.get(code), within), [f"{n} {v:g}" for n, v in named.items() if n not in within]


def _turn(stem: str) -> str | None:
    return stem if _TURN.fullmatch(stem) else None


def _clip(turn: str, path: str, rating: Rating | None) -> Clip:
    letter = _part(turn, "sex")
    speaker, session = f"Ses{_part(turn, 'session')}{letter}", _session(turn)
    sex = {"F": "female", "M": "male"}[letter]
    if rating is None:
        note = "the evaluation files do not rate it"
        return Clip(turn, path, speaker, fold=session, note=note, sex=sex)
    return Clip(turn, path, speaker, rating.label, attributes=rating.attributes, fold=session, sex=sex)


def _part(turn: str, name: str) -> str:
    found = _TURN.fullmatch(turn)
    if found is None:
        raise ValueError(f"{turn!r} is not the name of a turn")
    return found[name]


def _session(turn: str) -> str:
    return f"session{int(_part(turn, 'session'))}"


def _expected_path(turn: str, other: str) -> str:
    """Return where the file of a turn should be, from the path of the file of another turn."""
    dialogue = _part(turn, "dialogue")
    path = (
        f"Session{int(_part(turn, 'session'))}/sentences/wav/{dialogue}/{turn}{PurePosixPath(other).suffix}"
    )
    before, found, _ = other.partition("Session")  # the corpus may be in a folder below the root
    return f"{before}{path}" if found else path
