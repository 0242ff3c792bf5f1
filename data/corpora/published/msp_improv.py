"""MSP-IMPROV (Busso et al. 2017, https://doi.org/10.1109/TAFFC.2016.2515617; by licence from UT Dallas).

Clips lie in ``session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.avi``: sentence and intended emotion
(S01A), actor (F01: the woman of session 1), kind of recording (P, R, S or T) and turn. One text file,
named ``Evalution.txt`` in the release, holds the ratings, under names with another prefix:

    UTD-IMPROV-S01A-F01-P-FM01.avi; A; A:2.250000; V:2.500000; D:2.750000 ; N:3.000000;

with a line for each rater below. The consensus letters A, H, S and N become classes. A clip with O (other)
or X (no agreement) has no class, only attributes. ``A``, ``V`` and ``D`` are means on scales from 1 to 5;
naturalness (``N``) is not used.

Which end of the activation scale is active is not documented, and published attributes do not settle it: of
S01A-F01-P-FM01 they are activation 2.0, valence 2.8, dominance 2.8. The table decides: people who are angry
or happy are more active than people who are sad, so the end at which angry and happy clips lie is the active
one (`activation_direction`). Where the table is too small to decide, high values are taken as passive, as in
earlier versions. `Corpus.notes` states what was found and whether the values were reversed.

`Clip.speaker` is the actor in the name (F01), as is usual with this corpus; the meaning of the letters
before the turn's number is not documented. In the default protocol both actors of a session belong to one
fold, so neither these letters nor a partner's voice in the background can leak into training.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.published.rated import rated_without_file, recordings
from deiii.data.tools.counts import counted, examples

LETTERS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
CLASSES = tuple(LETTERS.values())
NO_CLASS = ("O", "X")
ATTRIBUTES = {"A": "arousal", "V": "valence", "D": "dominance"}
LOW, HIGH = 1.0, 5.0
# Values of a clip as other projects published them.
PUBLISHED = ("S01A-F01-P-FM01", {"A": 2.0, "V": 2.8, "D": 2.8})
FEWEST = 10  # clips of a kind that are needed to compare means
ERRORS = 3.0  # standard errors by which two means must differ
ROUNDING = 0.051  # largest rounding error of a published value
EXAMPLE = "session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.avi"
TABLES = ("Evalution.txt", "Evaluation.txt")

_ID = r"S\d{2}[AHNS]-[FM]\d{2}-[PRST]-[FM]{2}\d{2,3}"
_NAME = re.compile(rf"(?:MSP|UTD)-IMPROV-({_ID})", re.IGNORECASE)
_LINE = re.compile(rf"(?:MSP|UTD)-IMPROV-({_ID})\.(?:avi|mp4|wav)\s*;(.*)", re.IGNORECASE)
_LOOKS_ALIKE = re.compile(r"(?:MSP|UTD)-IMPROV", re.IGNORECASE)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rating:
    """One clip's consensus letter and mean attributes, as they are in the table."""

    letter: str
    attributes: dict[str, float]


def scan(config: CorpusConfig) -> Corpus:
    """Return MSP-IMPROV clips with consensus classes and arousal, valence and dominance in 1..5.

    Rated clips without a file are kept (they end as ``missing``), except those of sessions without any
    file.

    Raises:
        CorpusError: for a folder without such files, or a missing or malformed rating table.
    """
    files = recordings(config.root, "msp_improv", EXAMPLE, _id)
    root = Path(config.root)
    table = _find_table(root)
    ratings = read_ratings(table)
    absent = rated_without_file(files, ratings, table, _session, "msp_improv", "clip")
    files |= {i: _expected_path(i) for i in absent}
    turned, words = activation_direction(ratings)
    clips = tuple(_clip(i, path, ratings.get(i), turned) for i, path in sorted(files.items()))
    ranges = {name: (LOW, HIGH) for name in ATTRIBUTES.values()}
    notes = (f"msp_improv: {table.name}: {words}",)
    return Corpus("msp_improv", str(root), CLASSES, clips, ranges, protocol="msp_improv-loso", notes=notes)


def read_ratings(path: Path) -> dict[str, Rating]:
    """Return ratings by clip id (``S01A-F01-P-FM01``), with the letters and direction of the table.

    Raises:
        CorpusError: for a malformed table; the message names the line.
    """
    ratings: dict[str, Rating] = {}
    unread: list[str] = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            match = _LINE.match(line.strip())
            if match is None:
                if _LOOKS_ALIKE.match(line.strip()):
                    unread.append(f"line {number} ({line.strip()[:40]})")
                continue  # a rater's line or a blank one
            try:
                rating = _rating(match[2])
            except ValueError as error:
                raise CorpusError(f"{path} line {number}: {error}") from None
            clip_id = match[1].upper()
            if ratings.setdefault(clip_id, rating) != rating:
                raise CorpusError(f"{path} line {number}: a second, different rating of {clip_id}")
    if not ratings:
        raise CorpusError(
            f"{path} holds no line such as "
            "'UTD-IMPROV-S01A-F01-P-FM01.avi; A; A:2.250000; V:2.500000; D:2.750000 ; N:3.000000;'"
        )
    if unread:
        lines = counted(len(unread), "line that names", "lines that name")
        _log.warning("%s: left out %s no clip of the corpus: %s", path, lines, examples(unread))
    return ratings


def activation_direction(ratings: Mapping[str, Rating]) -> tuple[bool, str]:
    """Return whether low values of the table's activation are active, and what was found in words.

    Args:
        ratings: ratings of the whole table, keyed by clip id.

    >>> low = {f"S01A-F01-P-FM{i:02d}": Rating("A", {"A": 2.0 + i / 50}) for i in range(10)}
    >>> low |= {f"S01S-F01-P-FM{i:02d}": Rating("S", {"A": 4.0 - i / 50}) for i in range(10)}
    >>> activation_direction(low)[0]
    True
    """
    active = [r.attributes["A"] for r in ratings.values() if r.letter in "AH" and "A" in r.attributes]
    calm = [r.attributes["A"] for r in ratings.values() if r.letter == "S" and "A" in r.attributes]
    published = _compare_published(ratings)
    turned_words = {True: "arousal is 6 - A", False: "arousal is A"}
    if min(len(active), len(calm)) < FEWEST:
        return True, (
            f"the direction of activation is not checked, because it rates only {len(active)} angry or happy "
            f"and {len(calm)} sad clips; low values are taken as active, {turned_words[True]}; {published}"
        )
    gap = fmean(active) - fmean(calm)
    error = math.sqrt(variance(active) / len(active) + variance(calm) / len(calm))
    means = f"activation is {fmean(active):.2f} for angry and happy clips and {fmean(calm):.2f} for sad ones"
    if abs(gap) <= ERRORS * error:
        return True, f"{means}, which does not tell its direction; low values are taken as active, " + (
            f"{turned_words[True]}; {published}"
        )
    turned = gap < 0
    end = "low" if turned else "high"
    return turned, f"{means}, so {end} values are active: {turned_words[turned]}; {published}"


def _compare_published(ratings: Mapping[str, Rating]) -> str:
    """Compare the table with what is published of one clip."""
    clip, wanted = PUBLISHED
    said = ", ".join(f"{name} {value:.1f}" for name, value in wanted.items())
    if clip not in ratings:
        return f"{clip}, of which {said} are published, is not in it"
    own = ratings[clip].attributes
    found = ", ".join(f"{name} {own[name]:.2f}" for name in wanted if name in own) or "nothing"
    same = {name for name, value in wanted.items() if name in own and abs(own[name] - value) <= ROUNDING}
    opposite = "A" in own and abs(LOW + HIGH - own["A"] - wanted["A"]) <= ROUNDING
    if same == set(wanted):
        kind = "the published values have the table's direction"
    elif same >= {"V", "D"} and opposite:
        kind = "the published activation runs the other way"
    else:
        kind = "the two are not the same ratings"
    return f"{clip} has {found} there, published are {said}: {kind}"


def _rating(text: str) -> Rating:
    letter, *pairs = [part.strip() for part in text.strip().rstrip(";").split(";")]
    if letter not in LETTERS and letter not in NO_CLASS:
        raise ValueError(f"unknown class {letter!r} (known: {', '.join([*LETTERS, *NO_CLASS])})")
    attributes = {}
    for pair in pairs:
        name, sep, value = pair.partition(":")
        if not sep:
            raise ValueError(f"{pair!r} is not a rating such as A:2.250000")
        if name.strip() not in ATTRIBUTES:
            continue
        number = float(value)
        if math.isnan(number):
            continue  # nobody rated it
        if not LOW <= number <= HIGH:
            raise ValueError(f"{pair!r} is outside {LOW:g} to {HIGH:g}")
        attributes[name.strip()] = number
    return Rating(letter, attributes)


def _id(stem: str) -> str | None:
    found = _NAME.fullmatch(stem)
    return found and found[1].upper()


def _clip(clip_id: str, path: str, rating: Rating | None, turned: bool) -> Clip:
    speaker, session = clip_id.split("-")[1], _session(clip_id)
    if rating is None:
        return Clip(clip_id, path, speaker, fold=session, note="the evaluation file does not rate it")
    values = {ATTRIBUTES[name]: value for name, value in rating.attributes.items()}
    if turned and "arousal" in values:  # the table's activation runs from active to passive
        values["arousal"] = LOW + HIGH - values["arousal"]
    return Clip(clip_id, path, speaker, LETTERS.get(rating.letter), attributes=values, fold=session)


def _session(clip_id: str) -> str:
    return f"session{int(clip_id.split('-')[1][1:])}"


def _expected_path(clip_id: str) -> str:
    sentence, _, kind, _ = clip_id.split("-")
    return f"{_session(clip_id)}/{sentence}/{kind}/MSP-IMPROV-{clip_id}.avi"


def _find_table(root: Path) -> Path:
    for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir())):
        for name in TABLES:
            if (folder / name).is_file():
                return folder / name
    raise CorpusError(
        f"msp_improv: no {' or '.join(TABLES)} in {root}; it comes with the corpus: copy it there"
    )
