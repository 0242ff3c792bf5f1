"""Find media files below a corpus root, and compare names of files."""

from __future__ import annotations

import logging
import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.walk import File, followed_note, link_notes, same_file_note, walk
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
    return [file.path.as_posix() for file in found_files(root, suffixes)]


def found_files(root: Path, suffixes: Iterable[str]) -> list[File]:
    """Return what `media_files` returns, with the links that lead to each file."""
    wanted = tuple(s.lower() for s in suffixes)
    found = [file for file in walk(root, _log_unread) if file.path.name.lower().endswith(wanted)]
    return sorted(found, key=lambda file: file.path.as_posix())


def _log_unread(error: OSError) -> None:
    """Log a folder that cannot be listed, for example without the permission to read it."""
    _log.warning(
        "%s cannot be listed (%s), and its recordings are left out; check its permissions and the disk",
        error.filename,
        error.strerror,
    )


def corpus_files(root: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the `media_files` of a corpus; warnings in the log name the links that were followed.

    Raises:
        CorpusError: names a path that is not UTF-8, which tables and indices cannot hold.
    """
    files = found_files(root, suffixes)
    found = [file.path.as_posix() for file in files]
    for path in found:
        try:
            path.encode()
        except UnicodeEncodeError:
            shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise CorpusError(
                f"{root}: the name of {shown} is not UTF-8; rename the file or its folder"
            ) from None
    for note in link_notes(root, files):
        _log.warning("%s", note)
    return found


class MediaError(ValueError):
    """There is no media file to work on; the message says what was looked for."""


class Expanded(NamedTuple):
    """The files that words name, and what users should know about them.

    Attributes:
        files: the files.
        notes: lines on links and on files with two names; empty if there is nothing to say.
        others: paths of the files in the named folders that are not recordings.
    """

    files: list[str]
    notes: list[str]
    others: list[str]

    def said(self, results: str | Path) -> list[str]:
        """Return the notes and `others_note`; ``results`` is the folder of the command's results."""
        below = os.path.join(os.path.realpath(results), "")
        note = others_note(path for path in self.others if not path.startswith(below))
        return [*self.notes, note] if note else self.notes


def expand_folders(words: Iterable[str]) -> Expanded:
    """Replace each folder by the media files in it and below it; other words, also missing files, stay.

    A folder without media files stays where it is one of several words, as in ``clips/*``: it then gets an
    outcome like any file that is not a recording. A file that several paths lead to, as ``a.mp4`` and
    ``clips/../a.mp4``, is listed once; a link to a file counts as a file of its own, and a note names it.

    Raises:
        MediaError: the only word is a folder that holds no media files.

    >>> expand_folders(["a.mp4", "a.mp4"]).files
    ['a.mp4']
    """
    files: list[str] = []
    notes: list[str] = []
    others: dict[str, None] = {}
    words = list(words)
    for word in words:
        if not os.path.isdir(word):
            files.append(word)
            continue
        every = list(walk(Path(word), _log_unread))
        inside = sorted(str(file.path) for file in every if _is_media(file.path.name))
        if not inside and len(words) == 1:
            also = passed_over(Path(word))
            raise MediaError(
                f"{word} holds no media files ({', '.join(VIDEO + AUDIO)}){f'; {also}' if also else ''}"
            )
        files += [str(Path(word) / name) for name in inside] or [word]
        others |= {
            os.path.join(f.real_folder, f.path.name): None for f in every if not _is_media(f.path.name)
        }
        notes.append(followed_note(Path(word), (file for file in every if _is_media(file.path.name))))
    found: dict[str, str] = {}
    for file in files:
        folder, name = os.path.split(file)
        found.setdefault(os.path.join(os.path.realpath(folder), name), file)
    links = [path for path in found if os.path.islink(path)]
    if links:
        # Links come last: a link is another name of the file, not the reverse.
        names = sorted(found, key=set(links).__contains__)
        notes.append(same_file_note((found[path], os.path.realpath(path)) for path in names))
    return Expanded(list(found.values()), list(dict.fromkeys(filter(None, notes))), list(others))


def without_drawn(words: Sequence[str], named: Expanded, folder: str | Path | None, about: str) -> Expanded:
    """Leave out the videos that an earlier command drew: media files in the folder of its results.

    None is left out if the user named that folder, a folder in it, or the file itself.

    Args:
        words: the media files and folders that the user named.
        named: what `expand_folders` returned for them.
        folder: folder of the results; ``None`` without one.
        about: the results in words.

    Raises:
        MediaError: all media files are such videos.

    >>> without_drawn(["a.mp4"], expand_folders(["a.mp4"]), "drawn", "the drawn videos").files
    ['a.mp4']
    """
    if folder is None or not os.path.isdir(folder):
        return named
    place = os.path.realpath(folder)
    if any(os.path.isdir(word) and is_below(os.path.realpath(word), place) for word in words):
        return named
    drawn = [file for file in named.files if file not in words and is_below(real_folder(file), place)]
    if not drawn:
        return named
    files = [file for file in named.files if file not in drawn]
    if not files:
        raise MediaError(f"all media files lie in {folder}, the folder of {about}; name another one")
    many = counted(len(drawn), "video was", "videos were")
    note = f"{many} left out because {folder} is the folder of {about}: {examples(sorted(drawn))}"
    return Expanded(files, [note, *named.notes], named.others)


def real_folder(file: str) -> str:
    """Return the folder of a file without links.

    >>> real_folder("/a.mp4")
    '/'
    """
    return os.path.realpath(os.path.dirname(file) or ".")


def is_below(path: str, folder: str) -> bool:
    """Return whether a path without links is a folder or lies in it.

    >>> is_below("/a/b", "/a"), is_below("/ab", "/a")
    (True, False)
    """
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_media(name: str) -> bool:
    return name.lower().endswith(VIDEO + AUDIO)


def others_note(paths: Iterable[str]) -> str:
    """Return a line that counts the files of named folders that are not recordings; empty without any.

    >>> others_note(["a/1.txt", "a/2.TXT", "a/photo.jpg", "a/README"])
    '4 files without the suffix of audio or video were left out: 2 .txt, 1 .jpg, 1 without a suffix'
    """
    counts = Counter(Path(path).suffix.lower() for path in paths)
    number = sum(counts.values())
    if not number:
        return ""
    return (
        f"{counted(number, 'file')} without the suffix of audio or video {'was' if number == 1 else 'were'} "
        f"left out: {_by_suffix(counts)}"
    )


def _by_suffix(counts: Mapping[str, int]) -> str:
    """Return numbers of files by suffix in words: archives first, then the most frequent."""
    others = sorted(counts.items(), key=lambda pair: (pair[0] not in ARCHIVES, -pair[1], not pair[0]))
    words = [f"{n} {s or 'without a suffix'}{_unpack(n) if s in ARCHIVES else ''}" for s, n in others]
    return examples(words, 5)


def passed_over(root: Path) -> str:
    """Return words that count the files below the root with a suffix of another kind; empty without any.

    >>> passed_over(Path("raw/ravdess"))  # doctest: +SKIP
    'also there: 24 .zip (unpack them first), 1 .csv'
    """
    suffixes = [file.path.suffix.lower() for file in walk(root)]
    counts = Counter(suffix for suffix in suffixes if suffix and suffix not in VIDEO + AUDIO)
    return f"also there: {_by_suffix(counts)}" if counts else ""


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
    return any(file.path.suffix.lower() in ARCHIVES for file in walk(root))


def nothing_there(root: Path, paths: Sequence[str]) -> str:
    """Describe the content of a folder without files of the corpus, for the end of a message."""
    found = f"found {examples(paths)}" if paths else "found no media files at all"
    others = passed_over(root)
    return f"{found}; {others}" if others else found


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
