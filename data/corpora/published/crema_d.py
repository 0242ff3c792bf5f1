"""CREMA-D (Cao et al. 2014, https://github.com/CheyneyComputerScience/CREMA-D).

File names are ``1001_DFA_ANG_XX``: actor, sentence, acted emotion, intensity. The videos lie in
``VideoFlash/*.flv`` (or ``VideoMP4/*.mp4`` after conversion), or in no folder.

``corpus.labels`` is ``acted``, or names the votes of raters: those who heard the voice alone (``voice``), who
saw the face alone (``face``), or who heard and saw both (``multimodal``; ``perceived`` is its old name). Two
files hold the ratings:

- ``processedResults/tabulatedVotes.csv`` has the number of votes for each emotion. Rows ``100000 + clip``
  are about the voice, ``200000 + clip`` about the face, ``300000 + clip`` about both: `Clip.soft` is each
  emotion's share of the votes.
- ``processedResults/summaryTable.csv`` has the winners only (``A:N`` is a tie): `Clip.soft` is
  even among the winners. Its levels are mean intensities, not votes, and are not used.

If both are there, the first is used. A tie has no single class: its label is None, its soft label is used in
training, and it is not scored. `Corpus.notes` counts the ties. With acted labels the tables are optional;
where they are there, the votes are kept, because they set the ceiling that is printed beside a result.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.files import (
    AUDIO,
    VIDEO,
    corpus_files,
    log_audio_alone,
    log_left_out,
    nothing_there,
    only_one,
    root_folder,
)
from deiii.data.corpora.targets.classes import winner
from deiii.data.tools.counts import counted

LETTERS = {"A": "angry", "D": "disgust", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad"}
CODES = {"ANG": "A", "DIS": "D", "FEA": "F", "HAP": "H", "NEU": "N", "SAD": "S"}
CLASSES = tuple(LETTERS.values())
EXAMPLE = "VideoFlash/1001_DFA_ANG_XX.flv"
BROKEN = ("1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX")
CHANNELS = {
    "voice": "VoiceVote",
    "face": "FaceVote",
    "multimodal": "MultiModalVote",
}  # columns of summaryTable.csv
QUERIES = {1: "voice", 2: "face", 3: "multimodal"}  # values in tabulatedVotes.csv
SEXES = {"female": "female", "male": "male"}
PERCEIVED = {"perceived": "multimodal"}  # names of earlier versions

Row = tuple[str, dict[str, dict[str, float]]]  # a clip's id, and by channel the votes by letter
Votes = dict[str, dict[str, tuple[float, ...]]]  # votes for each of `CLASSES`, keyed by clip id and channel

_NAME = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(XX?|LO|MD|HI)", re.IGNORECASE)
_log = logging.getLogger(__name__)


def scan(config: CorpusConfig) -> Corpus:
    """Return CREMA-D clips with acted labels or those of raters.

    Raises:
        CorpusError: for a folder without such files, a clip with two files of one format, or missing or
            malformed rating tables if ``config.labels`` is not ``acted``.
    """
    root = root_folder(config.root, "crema_d", EXAMPLE)
    paths = corpus_files(root, VIDEO + AUDIO)
    found = _one_file_each(paths)
    if not found:
        there = nothing_there(root, paths)
        raise CorpusError(f"crema_d: no files such as {EXAMPLE} under {config.root}; {there}")
    channel = PERCEIVED.get(config.labels, config.labels)
    kind, votes = _optional_votes(root) if channel == "acted" else read_votes(root)
    sexes = _sexes(root)
    clips = tuple(_clip(i, p, channel, votes.get(i, {}), sexes) for i, p in sorted(found.items()))
    notes: tuple[str, ...] = ()
    if channel != "acted":
        rated = sum(c.soft is not None for c in clips)
        if not rated:
            raise CorpusError(
                f"crema_d: the rating tables name no clip of the {len(clips)}, such as {clips[0].id}"
            )
        ties = sum(c.soft is not None and c.label is None for c in clips)
        notes = (
            f"crema_d: raters tie in {ties} of {counted(rated, 'clip')} (corpus.labels={config.labels}); "
            "these are trained on with the shares of the votes, and not scored",
        )
    return Corpus(
        "crema_d", str(root), CLASSES, clips,
        protocol="crema_d-5fold", labels=config.labels, votes=kind if votes else "", notes=notes,
    )  # fmt: skip


def read_votes(root: Path) -> tuple[str, Votes]:
    """Return the votes by clip and channel, from the first table that exists, and what they are.

    Returns:
        ``counts`` (of raters) or ``winners`` (1 for each winner), and the votes for `CLASSES`.

    Raises:
        CorpusError: if there is no table, or it is malformed; the message names the row.
    """
    tables = (("tabulatedVotes.csv", "counts", _tabulated), ("summaryTable.csv", "winners", _summary))
    for name, kind, parse in tables:
        for path in (root / "processedResults" / name, root / name):
            if path.is_file():
                return kind, _read(path, parse)
    raise CorpusError(
        f"crema_d: corpus.labels other than acted needs processedResults/tabulatedVotes.csv or "
        f"summaryTable.csv under {root}; both come with the corpus's repository"
    )


def _optional_votes(root: Path) -> tuple[str, Votes]:
    """Return the votes (`read_votes`), or none if no table can be read: acted labels need no votes."""
    try:
        return read_votes(root)
    except CorpusError as error:
        if any(root.glob("processedResults/*.csv")):
            _log.warning("crema_d: no human ceiling is printed, because %s", error)
        return "", {}


def _read(path: Path, parse: Callable[[dict[str, str]], Row]) -> Votes:
    """Read the votes of a table, row by row.

    Raises:
        CorpusError: the file is not such a table; names the row.
    """
    votes: Votes = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                _add_row(votes, *parse(row))
        except UnicodeDecodeError:
            raise CorpusError(
                f"{path} is not UTF-8 text, so it is not the table that CREMA-D comes with; download it again"
            ) from None
        except KeyError as error:
            raise CorpusError(f"{path} has no column {error}; is it a Git LFS pointer?") from None
        except (ValueError, TypeError, AttributeError, csv.Error) as error:
            raise CorpusError(f"{path} row {reader.line_num}: {error}") from None
    return votes


def _add_row(votes: Votes, clip_id: str, channels: Mapping[str, Mapping[str, float]]) -> None:
    """Add the votes of one row to those of its clip.

    Raises:
        ValueError: the clip has votes of a channel already, or a channel has none.
    """
    own = votes.setdefault(clip_id, {})
    for channel, counts in channels.items():
        if channel in own:
            raise ValueError(f"{clip_id} is there twice")
        if sum(counts.values()) <= 0:
            raise ValueError(f"no votes for {clip_id}")
        own[channel] = tuple(counts[letter] for letter in LETTERS)


def _tabulated(row: dict[str, str]) -> Row:
    """Return a row of tabulatedVotes.csv: the votes of one channel."""
    query = int(row[""]) // 100_000
    if query not in QUERIES:
        raise ValueError(f"the row number {row['']} is of none of the queries {', '.join(map(str, QUERIES))}")
    counts = {letter: float(int(row[letter])) for letter in LETTERS}
    if min(counts.values()) < 0:
        raise ValueError("a negative number of votes")
    return row["fileName"].strip(), {QUERIES[query]: counts}


def _summary(row: dict[str, str]) -> Row:
    """Return a row of summaryTable.csv: one vote for each winner of each channel."""
    channels = {}
    for channel, column in CHANNELS.items():
        winners = row[column].strip().split(":")
        if unknown := set(winners) - set(LETTERS):
            raise ValueError(f"unknown vote {', '.join(sorted(unknown))!r} (known: {', '.join(LETTERS)})")
        channels[channel] = {letter: float(letter in winners) for letter in LETTERS}
    return row["FileName"].strip(), channels


def _one_file_each(paths: list[str]) -> dict[str, str]:
    """Return the file of each clip: the first of the formats in `VIDEO`, or audio if no clip has a video."""
    strange: list[str] = []
    by_format: dict[str, dict[str, str]] = {suffix: {} for suffix in VIDEO + AUDIO}
    for path in paths:
        file = PurePosixPath(path)
        match = _NAME.fullmatch(file.stem)
        if match:
            level = "XX" if match[4].upper() == "X" else match[4].upper()  # the release has 1040_ITH_SAD_X
            clip_id = "_".join([match[1], match[2].upper(), match[3].upper(), level])
            only_one(by_format[file.suffix.lower()], clip_id, path, "crema_d")
        else:
            strange.append(path)
    video: dict[str, str] = {}
    for suffix in reversed(VIDEO):
        video |= by_format[suffix]
    audio: dict[str, str] = {}
    for suffix in reversed(AUDIO):
        audio |= by_format[suffix]
    if video or audio:
        log_left_out("crema_d", strange, f"with names unlike {PurePosixPath(EXAMPLE).name}")
    log_audio_alone("crema_d", audio, video)
    return video or audio


def _sexes(root: Path) -> dict[str, str]:
    """Return the sex of each actor by ``VideoDemographics.csv``; empty if that cannot be read."""
    try:
        with (root / "VideoDemographics.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return {row["ActorID"].strip(): SEXES.get(row["Sex"].strip().lower(), "") for row in rows}
    except (OSError, KeyError, AttributeError, UnicodeError, csv.Error):
        return {}


def _clip(
    clip_id: str, path: str, channel: str, votes: dict[str, tuple[float, ...]], sexes: dict[str, str]
) -> Clip:
    speaker, _, code, _ = clip_id.split("_")
    notes = ["known to be faulty at its source"] if clip_id in BROKEN else []
    label: str | None = LETTERS[CODES[code]]
    soft = None
    if channel != "acted":
        label = None
        counts = votes.get(channel)
        if counts is None:
            notes += ["the rating tables do not name it"]
        else:
            soft = tuple(count / sum(counts) for count in counts)
            label = winner(CLASSES, soft)
    note = "; ".join(notes)
    return Clip(clip_id, path, speaker, label, soft, note=note, votes=votes, sex=sexes.get(speaker, ""))
