"""Find media files below a corpus root, and compare names of files."""

from __future__ import annotations

import logging
import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from deiii.data.corpora.clips import CorpusError
from deiii.data.tools.counts import counted, examples

# All suffixes that count as recordings, for every corpus and for prediction. Where a corpus has a clip in
# several formats, the first in this order is taken.
VIDEO = (
    ".mp4", ".mov", ".avi", ".mkv", ".flv", ".mpg",
    ".mpeg", ".m4v", ".webm", ".wmv", ".asf", ".mts", ".m2ts", ".ts", ".vob",
    ".3gp", ".3g2", ".ogv", ".mxf", ".dv",
)  # fmt: skip
AUDIO = (
    ".flac", ".wav",
    ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".wma",
    ".aif", ".aiff", ".aifc", ".au", ".sph", ".amr", ".caf",
)  # fmt: skip
# Suffixes of clips in published lists.
SUFFIXES = frozenset((*VIDEO, *AUDIO, ".npy", ".npz", ".pt", ".h5", ".pkl"))
_RAVDESS = re.compile(r"(?<![\d-])\d\d((?:-\d\d){6})(?![\d-])")
_MSP_IMPROV = re.compile(r"(?:MSP|UTD)-IMPROV-(S\d{2}[AHNS]-[FM]\d{2}-[PRST]-[FM]{2}\d{2,3})", re.IGNORECASE)
_log = logging.getLogger(__name__)
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


def root_folder(root: str, corpus: str, example: str) -> Path:
    """Return the corpus root as a path.

    Args:
        root: the setting ``corpus.root``.
        corpus: the adapter's name, for messages.
        example: path of a file that the folder should hold, for messages.

    Raises:
        CorpusError: if it is not a folder.
    """
    path = Path(root)
    if not path.is_dir():
        what = "a file" if path.exists() else "nothing"
        raise CorpusError(
            f"{corpus}: corpus.root={root} should be a folder holding for example {example}; "
            f"there is {what} at {path.absolute()}"
        )
    return path


def remedy_by_init(root: str | os.PathLike[str], table: str | os.PathLike[str]) -> str:
    """Return the end of a message on a table in another form than deiii's: the command that reads it.

    >>> remedy_by_init("/clips", "a b.csv")
    "; `deiii init /clips --table 'a b.csv'` reads tables in other forms and writes one for deiii"
    """
    words = shlex.join([os.fspath(root), "--table", os.fspath(table)])
    return f"; `deiii init {words}` reads tables in other forms and writes one for deiii"


def media_files(root: Path, suffixes: Iterable[str]) -> list[str]:
    """Return files with one of the suffixes (any case), as POSIX paths relative to the root, sorted.

    Hidden files and folders are skipped: macOS writes a file ``._name.mp4``, which is not a video, beside
    every file that it unzips. Links to folders are followed. A folder that several paths lead to is
    listed once, by a path without links where there is one, so that a loop of links ends. A folder that
    cannot be listed is left out, with a warning in the log.
    """
    wanted = tuple(s.lower() for s in suffixes)
    found = _walk(root, _log_unread)
    return sorted(path.as_posix() for path in found if path.name.lower().endswith(wanted))


def _log_unread(error: OSError) -> None:
    """Log a folder that cannot be listed, for example without the permission to read it."""
    _log.warning(
        "%s cannot be listed (%s), and its recordings are left out; check its permissions and the disk",
        error.filename,
        error.strerror,
    )


def corpus_files(root: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the `media_files` of a corpus.

    Raises:
        CorpusError: names a path that is not UTF-8, which tables and indices cannot hold.
    """
    found = media_files(root, suffixes)
    for path in found:
        try:
            path.encode()
        except UnicodeEncodeError:
            shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise CorpusError(
                f"{root}: the name of {shown} is not UTF-8; rename the file or its folder"
            ) from None
    return found


class MediaError(ValueError):
    """There is no media file to work on; the message says what was looked for."""


def expand_folders(words: Iterable[str]) -> list[str]:
    """Replace each folder by the media files in it and below it; other words, also missing files, stay.

    A folder without media files stays where it is one of several words, as in ``clips/*``: it then gets an
    outcome like any file that is not a recording. A file that several paths lead to, as ``a.mp4`` and
    ``clips/../a.mp4``, is listed once; a link to a file counts as a file of its own.

    Raises:
        MediaError: the only word is a folder that holds no media files.

    >>> expand_folders(["a.mp4", "a.mp4"])
    ['a.mp4']
    """
    files: list[str] = []
    words = list(words)
    for word in words:
        if not os.path.isdir(word):
            files.append(word)
            continue
        inside = media_files(Path(word), VIDEO + AUDIO)
        if not inside and len(words) == 1:
            raise MediaError(f"{word} holds no media files ({', '.join(VIDEO + AUDIO)})")
        files += [str(Path(word) / name) for name in inside] or [word]
    found: dict[str, str] = {}
    for file in files:
        folder, name = os.path.split(file)
        found.setdefault(os.path.join(os.path.realpath(folder), name), file)
    return list(found.values())


def passed_over(root: Path) -> str:
    """Return a sentence that counts the files below the root that are not recordings; empty without any.

    >>> passed_over(Path("raw/ravdess"))  # doctest: +SKIP
    'also there: 24 .zip (unpack them first), 1 .csv'
    """
    counts = Counter(path.suffix.lower() for path in _walk(root))
    others = [(suffix, n) for suffix, n in counts.most_common() if suffix and suffix not in VIDEO + AUDIO]
    others.sort(key=lambda pair: pair[0] not in ARCHIVES)
    words = [f"{n} {s}{_unpack(n) if s in ARCHIVES else ''}" for s, n in others]
    return f"also there: {examples(words, 5)}" if words else ""


def _unpack(number: int) -> str:
    return f" (unpack {'it' if number == 1 else 'them'} first)"


def log_left_out(corpus: str, paths: Sequence[str], why: str) -> None:
    """Log the files below a corpus root that are no clips; nothing without any.

    Args:
        corpus: the adapter's name.
        paths: the files, relative to the root.
        why: the reason, as it follows the number of files.
    """
    if paths:
        _log.warning("%s: %s left out, %s: %s", corpus, counted(len(paths), "file"), why, examples(paths))


def log_audio_alone(corpus: str, audio: Mapping[str, str], video: Mapping[str, str]) -> None:
    """Log the audio of clips without a video, which is left out where other clips have one; else nothing.

    Args:
        corpus: the adapter's name.
        audio, video: the files by clip id, relative to the root.
    """
    alone = [audio[clip_id] for clip_id in sorted(audio.keys() - video.keys())] if video else []
    log_left_out(corpus, alone, "audio of clips without a video, while other clips have one")


def holds_archives(root: Path) -> bool:
    """Return whether an archive that may hold recordings lies under the root."""
    return any(path.suffix.lower() in ARCHIVES for path in _walk(root))


def nothing_there(root: Path, paths: Sequence[str]) -> str:
    """Describe the content of a folder without files of the corpus, for the end of a message."""
    found = f"found {examples(paths)}" if paths else "found no media files at all"
    others = passed_over(root)
    return f"{found}; {others}" if others else found


def _walk(root: Path, unread: Callable[[OSError], object] | None = None) -> Iterator[Path]:
    """Yield every visible file under the root, relative to it; each real folder once.

    Args:
        root: the folder.
        unread: called with the error of each folder that cannot be listed.
    """
    seen: set[str] = set()
    links: list[str] = [str(root)]
    while links:  # folders without a link in their path come first, so that they keep their own names
        further: list[str] = []
        for start in links:
            for folder, folders, names in os.walk(start, onerror=unread):
                real = os.path.realpath(folder)
                if real in seen:
                    folders.clear()
                    continue
                seen.add(real)
                visible = [f for f in sorted(folders) if not f.startswith((".", "__MACOSX"))]
                linked = [f for f in visible if os.path.islink(os.path.join(folder, f))]
                further += [os.path.join(folder, f) for f in linked]
                folders[:] = [f for f in visible if f not in linked]
                relative = Path(folder).relative_to(root)
                yield from (relative / name for name in names if not name.startswith("."))
        links = further


def only_one(found: dict[str, str], clip_id: str, path: str, corpus: str) -> None:
    """Add a clip's file to ``found``. Raises CorpusError if the clip has a file already."""
    if clip_id in found:
        raise CorpusError(
            f"{corpus}: {clip_id} is there twice, as {found[clip_id]} and {path}; "
            "keep one of the two copies under corpus.root"
        )
    found[clip_id] = path


def clip_key(name: str) -> str:
    """Return a name without folder, suffix, case and RAVDESS's modality: equal for all names of one clip.

    The files 01, 02 and 03 of one RAVDESS code are one take: with video and audio, video alone, audio alone.
    Letters are composed (NFC), because macOS returns file names with decomposed ones.

    >>> clip_key("AudioWAV/1001_DFA_ANG_XX.wav"), clip_key("Actor_01/03-01-06-01-02-01-01.wav")
    ('1001_dfa_ang_xx', '-01-06-01-02-01-01')
    """
    last = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/")).name
    stem, dot, suffix = last.rpartition(".")
    stem = stem if dot and f".{suffix.lower()}" in SUFFIXES else last
    found = _RAVDESS.search(stem) or _MSP_IMPROV.search(stem)
    return (found[1] if found else stem).casefold()
