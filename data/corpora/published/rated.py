"""What corpora of sessions with ratings in tables of their own have in common: IEMOCAP and MSP-IMPROV.

A clip is named by its id in its file's name and in the tables; one id may have a video and an audio file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from deiii.data.corpora.clips import CorpusError
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
from deiii.data.tools.counts import counted, examples

_log = logging.getLogger(__name__)


def recordings(
    given: str,
    corpus: str,
    example: str,
    clip_id: Callable[[str], str | None],
    expected: Callable[[str], bool] = lambda stem: False,
) -> dict[str, str]:
    """Return the files of a corpus by clip id: the videos, or the audio files where there is no video.

    Args:
        given: the setting ``corpus.root``.
        corpus: the adapter's name, for messages.
        example: path of a file that the folder should hold, for messages.
        clip_id: returns the id in a file's name without suffix; ``None`` for other files.
        expected: whether such another file belongs to the corpus; the remaining ones are logged.

    Raises:
        CorpusError: there is no such folder, no such file, or a clip has two files of one kind.
    """
    root = root_folder(given, corpus, example)
    paths = corpus_files(root, VIDEO + AUDIO)
    video: dict[str, str] = {}
    audio: dict[str, str] = {}
    strange: list[str] = []
    for path in paths:
        stem = PurePosixPath(path).stem
        if (found := clip_id(stem)) is not None:
            only_one(video if path.lower().endswith(VIDEO) else audio, found, path, corpus)
        elif not expected(stem):
            strange.append(path)
    files = video or audio
    if not files:
        there = nothing_there(root, paths)
        raise CorpusError(f"{corpus}: no files such as {example} under {given}; {there}")
    log_left_out(corpus, strange, f"with names unlike {PurePosixPath(example).name}")
    log_audio_alone(corpus, audio, video)
    return files


def rated_without_file(
    files: Mapping[str, str],
    rated: Iterable[str],
    source: Path,
    session: Callable[[str], str],
    corpus: str,
    noun: str,
) -> set[str]:
    """Return the rated clips that have no file, except those of sessions without any file; both are logged.

    Args:
        files: path of each clip that has a file, by id.
        rated: ids of the rated clips.
        source: what rates them, for messages.
        session: returns the session of an id.
        corpus: the adapter's name, for messages.
        noun: what the corpus calls a clip, for messages.

    Raises:
        CorpusError: no clip with a file is rated.
    """
    names = set(rated)
    if not names & files.keys():
        raise CorpusError(
            f"{corpus}: {source} rates none of the {noun}s ({len(files)}), such as {min(files)}"
        )
    sessions = {session(name) for name in files}
    absent = {name for name in names - files.keys() if session(name) in sessions}
    if absent:
        those = counted(len(absent), f"rated {noun} has", f"rated {noun}s have")
        _log.warning("%s: %s no file: %s", corpus, those, examples(sorted(absent)))
    if others := sorted(names - files.keys() - absent):
        _log.warning(
            "%s: %s left out, because their sessions have no file at all: %s",
            corpus,
            counted(len(others), f"rated {noun}"),
            examples(others),
        )
    return absent
