"""Find media files below a corpus root."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from deiii.data.corpora.clips import CorpusError

VIDEO = (".mp4", ".mov", ".avi", ".mkv", ".flv", ".mpg")
AUDIO = (".flac", ".wav")


def root_folder(root: str, corpus: str, example: str) -> Path:
    """The corpus root as a path.

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


def media_files(root: Path, suffixes: Iterable[str]) -> list[str]:
    """Files with one of the suffixes (any case), as POSIX paths relative to the root, sorted.

    Hidden files and folders are skipped: macOS writes a file ``._name.mp4``, which is not a video, beside
    every file that it unzips. Links to folders are not followed, because they can form a loop.
    """
    wanted = tuple(s.lower() for s in suffixes)
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith((".", "__MACOSX"))]
        relative = Path(folder).relative_to(root)
        for name in names:
            if name.lower().endswith(wanted) and not name.startswith("."):
                found.append((relative / name).as_posix())
    return sorted(found)


def examples(paths: Iterable[str], most: int = 3) -> str:
    """The first ``most`` paths as text for a message."""
    paths = list(paths)
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


def only_one(found: dict[str, str], clip_id: str, path: str, corpus: str) -> None:
    """Add a clip's file to ``found``. Raises CorpusError if the clip has a file already."""
    if clip_id in found:
        raise CorpusError(
            f"{corpus}: {clip_id} is there twice, as {found[clip_id]} and {path}; "
            "keep one of the two copies under corpus.root"
        )
    found[clip_id] = path
