"""Finding media files under a corpus root."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from deiii.data.corpora.clips import CorpusError

VIDEO = (".mp4", ".mov", ".avi", ".mkv", ".flv", ".mpg")
AUDIO = (".flac", ".wav")


def root_folder(root: str, corpus: str, example: str) -> Path:
    """The corpus root as a path.

    Raises:
        CorpusError: where it is not a folder.
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
    """Files with one of the suffixes (any case), relative to the root, POSIX, sorted.

    Hidden files and folders are passed over: macOS leaves ``._name.mp4`` beside every file it
    unzips, which is no video. Links to folders are not followed, so a loop cannot hang the scan.
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
    """The first few paths as text for a message."""
    paths = list(paths)
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


def only_one(found: dict[str, str], clip_id: str, path: str, corpus: str) -> None:
    """Record a clip's file, refusing a second one under the same id."""
    if clip_id in found:
        raise CorpusError(
            f"{corpus}: {clip_id} is there twice, as {found[clip_id]} and {path}; "
            "keep one of the two copies under corpus.root"
        )
    found[clip_id] = path
