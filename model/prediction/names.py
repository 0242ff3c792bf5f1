"""The names of the files that hold the results of predictions."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.atomic_files import short_name

VIDEO_NAMES = (".mp4", ".m4v", ".mov")  # suffixes under which players open MP4 files, which deiii writes


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
        ConfigError: says which names are possible.

    >>> check_video_name("out/a.mp4")
    """
    if Path(target).suffix.lower() not in VIDEO_NAMES:
        name = Path(target).with_suffix(".mp4")
        more = ", or name a folder" if folder else ""
        raise ConfigError(f"overlay videos are MP4 files: write --overlay {name}{more}")


def _same_name(name: str) -> str:
    """Return a key that is equal for names that the file systems of macOS or Windows treat as one name."""
    return unicodedata.normalize("NFC", name).casefold()
