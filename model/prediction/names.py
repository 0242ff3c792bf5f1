"""The names of the files that hold the results of predictions."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.files import is_below, real_folder
from deiii.data.tools.atomic_files import short_name

VIDEO_NAMES = (".mp4", ".m4v", ".mov")  # suffixes under which players open MP4 files, which deiii writes
# What `deiii predict` writes beside overlay videos: files for all media, and what follows the name of one.
_TABLES = frozenset({"predictions.csv", "live.jsonl"})
_ENDING = re.compile(r"(?:\.json|\.vtt|\.tsv|-timeline\.(?:csv|png)|-segments\.csv|-person\d+\.(?:png|vtt))$")


def unique_names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file's results: its stem, with folders and suffix where that is not unique.

    A name has as many folders as it needs to differ from the other names. Names that differ in case, or in
    how an accent is encoded, are one name on some file systems. Files that cannot be told apart in this way
    are numbered.

    >>> unique_names([Path("a/1.mp4"), Path("b/1.mp4"), Path("b/2.mp4")])
    ['a-1.mp4', 'b-1.mp4', '2']
    >>> unique_names([Path("a/Clip.mp4"), Path("b/clip.mp4")])
    ['a-Clip.mp4', 'b-clip.mp4']
    >>> unique_names([Path("anna/sad/1.mp4"), Path("ben/sad/1.mp4")])
    ['anna-sad-1.mp4', 'ben-sad-1.mp4']
    """
    stems = Counter(_same_name(f.stem) for f in files)
    depths = [0 if stems[_same_name(f.stem)] == 1 else 1 for f in files]  # folders in the name
    while True:
        names = [_name(f, depth) for f, depth in zip(files, depths, strict=True)]
        again = Counter(map(_same_name, names))
        equal = [i for i, name in enumerate(names) if again[_same_name(name)] > 1]
        deeper = [i for i in equal if depths[i] < len(_parts(files[i])) - 1]
        if not deeper:
            return [f"{i:03d}-{name}" if i in set(equal) else name for i, name in enumerate(names)]
        for i in deeper:
            depths[i] += 1


def _name(file: Path, folders: int) -> str:
    """Return a file's stem, or its name after that of so many of its folders."""
    return short_name("-".join(_parts(file)[-folders - 1 :]) if folders else file.stem)


def _parts(file: Path) -> tuple[str, ...]:
    """Return the parts of a path without the root."""
    return file.parts[1:] if file.anchor else file.parts


def check_video_name(target: str | Path, folder: bool = True) -> None:
    """Refuse the name of an overlay video without a suffix of MP4 files.

    Args:
        target: the name.
        folder: whether the command also takes a folder.

    Raises:
        ConfigError: it has another suffix; the message states a possible name.

    >>> check_video_name("out/a.mp4")
    """
    if Path(target).suffix.lower() not in VIDEO_NAMES:
        name = Path(target).with_suffix(".mp4")
        more = ", or name a folder" if folder else ""
        raise ConfigError(f"overlay videos are MP4 files: write --overlay {name}{more}")


def without_results(
    paths: Iterable[str], out: Path, files: Sequence[Path], names: Collection[str]
) -> list[str]:
    """Return the files that `deiii predict` did not write, as far as their names and folders show.

    Args:
        paths: paths of files, without links.
        out: folder of the results. If it holds no media file, all of its files are results.
        files: the media files.
        names: names of their results (`unique_names`).
    """
    results = os.path.realpath(out)
    mixed = any(real_folder(str(file)) == results for file in files)

    def is_result(path: str) -> bool:
        folder, name = os.path.split(path)
        if not mixed:
            return is_below(folder, results)
        ending = _ENDING.search(name)
        return folder == results and (
            name in _TABLES or ending is not None and name[: ending.start()] in names
        )

    return [path for path in paths if not is_result(path)]


def _same_name(name: str) -> str:
    """Return a key that is equal for names that the file systems of macOS or Windows treat as one name."""
    return unicodedata.normalize("NFC", name).casefold()
