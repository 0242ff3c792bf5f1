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
    """Return a name for each file's results: its stem, with folder and suffix where that is not unique.

    Names that differ in case, or in how an accent is encoded, are one name on some file systems.

    >>> unique_names([Path("a/1.mp4"), Path("b/1.mp4"), Path("b/2.mp4")])
    ['a-1.mp4', 'b-1.mp4', '2']
    >>> unique_names([Path("a/Clip.mp4"), Path("b/clip.mp4")])
    ['a-Clip.mp4', 'b-clip.mp4']
    """
    stems = Counter(_same_name(f.stem) for f in files)
    names = [f.stem if stems[_same_name(f.stem)] == 1 else "-".join(f.parts[-2:]).strip("/") for f in files]
    names = [short_name(name) for name in names]
    again = Counter(map(_same_name, names))
    return [n if again[_same_name(n)] == 1 else f"{i:03d}-{n}" for i, n in enumerate(names)]


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
