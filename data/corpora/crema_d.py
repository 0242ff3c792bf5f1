"""CREMA-D (Cao et al. 2014, https://github.com/CheyneyComputerScience/CREMA-D).

File names are ``1001_DFA_ANG_XX``: actor, sentence, acted emotion, intensity. The videos lie in
``VideoFlash/*.flv`` (or ``VideoMP4/*.mp4`` after conversion), or in no folder.

``corpus.labels=perceived`` uses the ratings of the whole clip (the multimodal columns), not those of the
audio alone or the face alone. Two files hold them:

- ``processedResults/tabulatedVotes.csv`` has the number of votes for each emotion (rows
  ``100000 * 3 + clip`` are the multimodal ones): `Clip.soft` is each emotion's share of the votes.
- ``processedResults/summaryTable.csv`` has the winners only (``A:N`` is a tie): `Clip.soft` is
  even among the winners. Its levels are mean intensities, not votes, and are not used.

If both are there, the first is used. A tie has no single perceived class: its label is None, and its soft
label is used in training and scoring.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.files import AUDIO, VIDEO, media_files, nothing_there, only_one, root_folder

LETTERS = {"A": "angry", "D": "disgust", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad"}
CODES = {"ANG": "A", "DIS": "D", "FEA": "F", "HAP": "H", "NEU": "N", "SAD": "S"}
CLASSES = tuple(LETTERS.values())
EXAMPLE = "VideoFlash/1001_DFA_ANG_XX.flv"
BROKEN = ("1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX")
MULTIMODAL = 3  # query type of the ratings of audio and video together

Votes = tuple[str, dict[str, float]]  # a clip's id, and the number of votes by letter

_NAME = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(XX?|LO|MD|HI)", re.IGNORECASE)


def scan(config: CorpusConfig) -> Corpus:
    """CREMA-D clips with acted or perceived labels.

    Raises:
        CorpusError: for a folder without such files, a clip with two files of one format, or missing or
            malformed rating tables if ``config.labels`` is ``perceived``.
    """
    root = root_folder(config.root, "crema_d", EXAMPLE)
    paths = media_files(root, VIDEO + AUDIO)
    found = _one_file_each(paths)
    if not found:
        there = nothing_there(root, paths)
        raise CorpusError(f"crema_d: no files such as {EXAMPLE} under {config.root}; {there}")
    votes = read_votes(root) if config.labels == "perceived" else {}
    clips = tuple(_clip(i, p, config.labels, votes.get(i)) for i, p in sorted(found.items()))
    if config.labels == "perceived" and not any(c.soft for c in clips):
        raise CorpusError(
            f"crema_d: the rating tables name none of the {len(clips)} clips, such as {clips[0].id}"
        )
    return Corpus("crema_d", str(root), CLASSES, clips, protocol="crema_d-5fold", labels=config.labels)


def read_votes(root: Path) -> dict[str, tuple[float, ...]]:
    """Perceived distribution over `CLASSES` by clip id, from the first table that exists.

    Raises:
        CorpusError: if there is no table, or it is malformed; the message names the row.
    """
    for name, parse in (("tabulatedVotes.csv", _tabulated), ("summaryTable.csv", _summary)):
        for path in (root / "processedResults" / name, root / name):
            if path.is_file():
                return _read(path, parse)
    raise CorpusError(
        f"crema_d: corpus.labels=perceived needs processedResults/tabulatedVotes.csv or summaryTable.csv "
        f"under {root}; both come with the corpus's repository"
    )


def _read(path: Path, parse: Callable[[dict[str, str]], Votes | None]) -> dict[str, tuple[float, ...]]:
    votes: dict[str, tuple[float, ...]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                entry = parse(row)
                if entry is None:
                    continue
                clip_id, counts = entry
                if clip_id in votes:
                    raise ValueError(f"{clip_id} is there twice")
                total = sum(counts.values())
                if total <= 0:
                    raise ValueError(f"no votes for {clip_id}")
                votes[clip_id] = tuple(counts[letter] / total for letter in LETTERS)
        except KeyError as error:
            raise CorpusError(f"{path} has no column {error}; is it a Git LFS pointer?") from None
        except (ValueError, TypeError, AttributeError, csv.Error) as error:
            raise CorpusError(f"{path} row {reader.line_num}: {error}") from None
    return votes


def _tabulated(row: dict[str, str]) -> Votes | None:
    """A row of tabulatedVotes.csv; ``None`` if it is not about audio and video together."""
    if int(row[""]) // 100_000 != MULTIMODAL:
        return None
    counts = {letter: float(int(row[letter])) for letter in LETTERS}
    if min(counts.values()) < 0:
        raise ValueError("a negative number of votes")
    return row["fileName"].strip(), counts


def _summary(row: dict[str, str]) -> Votes:
    """A row of summaryTable.csv: one vote for each winner."""
    winners = row["MultiModalVote"].strip().split(":")
    if unknown := set(winners) - set(LETTERS):
        raise ValueError(f"unknown vote {', '.join(sorted(unknown))!r} (known: {', '.join(LETTERS)})")
    return row["FileName"].strip(), {letter: float(letter in winners) for letter in LETTERS}


def _one_file_each(paths: list[str]) -> dict[str, str]:
    """The file of each clip: of several video formats the first in `VIDEO`; audio only without any video."""
    by_format: dict[str, dict[str, str]] = {suffix: {} for suffix in VIDEO + AUDIO}
    for path in paths:
        file = PurePosixPath(path)
        match = _NAME.fullmatch(file.stem)
        if match:
            level = "XX" if match[4].upper() == "X" else match[4].upper()  # the release has 1040_ITH_SAD_X
            clip_id = "_".join([match[1], match[2].upper(), match[3].upper(), level])
            only_one(by_format[file.suffix.lower()], clip_id, path, "crema_d")
    video: dict[str, str] = {}
    for suffix in reversed(VIDEO):
        video |= by_format[suffix]
    audio: dict[str, str] = {}
    for suffix in reversed(AUDIO):
        audio |= by_format[suffix]
    return video or audio


def _clip(clip_id: str, path: str, labels: str, soft: tuple[float, ...] | None) -> Clip:
    speaker, _, code, _ = clip_id.split("_")
    notes = ["known to be faulty at its source"] if clip_id in BROKEN else []
    label: str | None = LETTERS[CODES[code]]
    if labels == "perceived":
        top = [c for c, share in zip(CLASSES, soft or (), strict=False) if share == max(soft or (0,))]
        label = top[0] if len(top) == 1 else None
        notes += [] if soft else ["the rating tables do not name it"]
    return Clip(clip_id, path, speaker, label, soft, note="; ".join(notes))
