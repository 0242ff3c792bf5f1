"""RAVDESS (Livingstone & Russo 2018, https://doi.org/10.5281/zenodo.1188976).

The file name ``MM-VC-EM-IN-ST-RE-AC.ext`` holds the numbers of modality, vocal channel, emotion, intensity,
statement, repetition and actor of a clip. Files may lie in any folders (``Actor_01/``,
``Video_Speech_Actor_01/Actor_01/`` as unzipped, or none).
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.files import (
    AUDIO,
    VIDEO,
    corpus_files,
    log_left_out,
    nothing_there,
    only_one,
    root_folder,
)
from deiii.data.tools.counts import examples

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
MODALITIES = {"audio-video": 1, "video-only": 2, "audio-only": 3}
CHANNELS = {"speech": (1,), "song": (2,), "both": (1, 2)}
HIGHEST = (3, 2, 8, 2, 2, 2, 24)  # highest value of each field; the lowest is 1
EXAMPLE = "Actor_12/01-01-06-01-02-01-12.mp4"

_LOOKS_ALIKE = re.compile(r"\d+(?:-\d+){4,}")
_ACTOR_FOLDER = re.compile(r"Actor_(\d{2})", re.IGNORECASE)


def scan(config: CorpusConfig) -> Corpus:
    """Return RAVDESS clips of ``config.modality`` and ``config.channel``.

    The classes are always all eight of the corpus, so that class numbers are the same in every run, although
    songs have no disgust and no surprise.

    Raises:
        CorpusError: for a folder without such files, two files of one clip, or a file in another actor's
            folder.
    """
    root = root_folder(config.root, "ravdess", EXAMPLE)
    modality = MODALITIES[config.modality]
    channels = CHANNELS[config.channel]
    suffixes = AUDIO if config.modality == "audio-only" else VIDEO
    paths = corpus_files(root, VIDEO + AUDIO)
    found: dict[str, str] = {}
    clips: list[Clip] = []
    odd: list[str] = []
    strange: list[str] = []
    unpublished: list[str] = []
    others: set[tuple[str, str]] = set()
    for path in paths:
        fields = parse_name(path)
        if fields is None:
            (odd if _LOOKS_ALIKE.fullmatch(PurePosixPath(path).stem) else strange).append(path)
            continue
        _check_folder(path, fields[6])
        if fields[0] != modality or fields[1] not in channels:
            others.add((_name(MODALITIES, fields[0]), "speech" if fields[1] == 1 else "song"))
            continue
        if not path.lower().endswith(suffixes):
            unpublished.append(path)  # for example audio that somebody extracted from a video
            continue
        clip_id = PurePosixPath(path).stem
        only_one(found, clip_id, path, "ravdess")
        clips.append(Clip(clip_id, path, f"actor-{fields[6]:02d}", CLASSES[fields[2] - 1]))
    if not clips:
        raise CorpusError(_nothing_found(config, paths, odd, others))
    log_left_out("ravdess", odd, "with fields out of range")
    log_left_out("ravdess", strange, f"with names unlike {PurePosixPath(EXAMPLE).name}")
    log_left_out("ravdess", unpublished, f"in other formats than those of {config.modality}")
    clips.sort(key=lambda c: c.id)
    return Corpus("ravdess", str(root), CLASSES, tuple(clips), protocol="ravdess-6fold")


def parse_name(path: str) -> tuple[int, ...] | None:
    """Return the seven fields of a RAVDESS file name, or ``None`` for another name.

    >>> parse_name("Actor_12/01-01-06-01-02-01-12.mp4")
    (1, 1, 6, 1, 2, 1, 12)
    """
    parts = PurePosixPath(path).stem.split("-")
    if len(parts) != 7 or not all(re.fullmatch(r"[0-9]{2}", p) for p in parts):
        return None
    fields = tuple(int(p) for p in parts)
    return fields if all(1 <= f <= high for f, high in zip(fields, HIGHEST, strict=True)) else None


def _check_folder(path: str, actor: int) -> None:
    folder = _ACTOR_FOLDER.fullmatch(PurePosixPath(path).parent.name)
    if folder and int(folder[1]) != actor:
        raise CorpusError(
            f"ravdess: {path} names actor {actor:02d} but lies in the folder of another; "
            "one of the two is wrong, unpack the archive again"
        )


def _nothing_found(
    config: CorpusConfig, paths: list[str], odd: list[str], others: set[tuple[str, str]]
) -> str:
    want = f"ravdess: no file such as {EXAMPLE} ({config.modality}, {config.channel}) under {config.root}; "
    if others:
        there = ", ".join(f"corpus.modality={m} corpus.channel={c}" for m, c in sorted(others))
        return want + f"there are files for {there}"
    if odd:
        return want + f"similar names have fields out of range: {examples(odd)}"
    return want + nothing_there(Path(config.root), paths)


def _name(table: dict[str, int], number: int) -> str:
    return next(name for name, value in table.items() if value == number)
