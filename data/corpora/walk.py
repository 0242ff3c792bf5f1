"""The visible files below a folder, and the symbolic links that lead to them.

>>> [file.path.name for file in walk(Path("recordings"))]  # doctest: +SKIP
['001.mp4', '002.mp4']
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from deiii.data.tools.counts import counted, examples
from deiii.data.tools.text.printable import printable_name


class File(NamedTuple):
    """A file below a folder.

    Attributes:
        path: its path relative to the folder.
        through: the link to a folder in its path, relative to the folder; empty without one.
        is_link: whether the file itself is a link.
        real_folder: the path of its folder without any link.
    """

    path: Path
    through: str
    is_link: bool
    real_folder: str

    @property
    def real(self) -> str:
        """Its path without any link; the disk is asked for a link only."""
        path = os.path.join(self.real_folder, self.path.name)
        return os.path.realpath(path) if self.is_link else path


def walk(root: Path, unread: Callable[[OSError], object] | None = None) -> Iterator[File]:
    """Yield every visible file below a folder; each real folder once, so that a loop of links ends.

    A folder that several paths lead to is listed by a path without links where there is one.

    Args:
        root: the folder.
        unread: called with the error of each folder that cannot be listed.
    """
    seen: set[str] = set()
    links: list[tuple[str, str]] = [(str(root), "")]
    while links:  # folders without a link in their path come first, so that they keep their own names
        further: list[tuple[str, str]] = []
        for start, through in links:
            waiting = [start]
            while waiting:
                folder = waiting.pop()
                real = os.path.realpath(folder)
                if real in seen:
                    continue
                seen.add(real)
                entries = _entries(folder, unread)
                relative = Path(folder).relative_to(root)
                for entry in entries:
                    if not _is_folder(entry):
                        yield File(relative / entry.name, through, entry.is_symlink(), real)
                    elif entry.is_symlink():
                        further.append((entry.path, (relative / entry.name).as_posix()))
                inside = [e.path for e in entries if _is_folder(e) and not e.is_symlink()]
                waiting += reversed(inside)
        links = further


def _entries(folder: str, unread: Callable[[OSError], object] | None) -> list[os.DirEntry[str]]:
    """Return what a folder holds, without hidden entries, sorted by name."""
    try:
        with os.scandir(folder) as found:
            visible = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        if unread is not None:
            unread(error)
        return []
    visible = [entry for entry in visible if not (entry.name.startswith("__MACOSX") and _is_folder(entry))]
    return sorted(visible, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; a link that leads nowhere is a file."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def followed_note(root: Path, files: Iterable[File]) -> str:
    """Return a line on the links that were followed to recordings; empty without any.

    A link to a folder is named if recordings were found through it. A link to a recording is named if it
    leads out of the folder.

    Args:
        root: the folder.
        files: the recordings in it.
    """
    found = list(files)
    through = Counter(file.through for file in found if file.through)
    words = []
    for link, number in through.items():
        words.append(f"{link} (to {os.path.realpath(root / link)}, {counted(number, 'recording')})")
    words += [
        f"{file.path.as_posix()} (to {file.real})" for file in found if file.is_link and leads_out(root, file)
    ]
    many = counted(len(words), "symbolic link is", "symbolic links are")
    return f"{printable_name(root)}: {many} followed: {examples(words)}" if words else ""


def leads_out(root: Path, file: File) -> bool:
    """Return whether a file lies outside a folder, because of a link; a link that leads nowhere does not."""
    whole, real = os.path.realpath(root), file.real
    return os.path.commonpath([whole, real]) != whole and os.path.lexists(real)


def link_notes(root: Path, files: Iterable[File]) -> list[str]:
    """Return `followed_note` and `same_file_note` of the recordings in a folder, without empty lines."""
    found = list(files)
    notes = [followed_note(root, found)]
    if any(file.is_link for file in found):
        found.sort(key=lambda file: file.is_link)  # a link is another name of the file, not the reverse
        twice = same_file_note((file.path.as_posix(), file.real) for file in found)
        notes += [f"{printable_name(root)}: {twice}"] if twice else []
    return [note for note in notes if note]


def same_file_note(files: Iterable[tuple[str, str]]) -> str:
    """Return a line on the files that are there under several names; empty without any.

    Args:
        files: name of each file, and its path without links.

    >>> same_file_note([("a.mp4", "/disk/a.mp4"), ("c.mp4", "/disk/c.mp4")])
    ''
    """
    names: dict[str, list[str]] = {}
    for name, real in files:
        names.setdefault(real, []).append(name)
    again = [(other, first) for first, *others in names.values() for other in others]
    if not again:
        return ""
    many = counted(len(again), "link leads to a recording", "links lead to recordings")
    own = (
        "it counts as a recording of its own" if len(again) == 1 else "each counts as a recording of its own"
    )
    return f"{many} that {'is' if len(again) == 1 else 'are'} there already, and {own}: " + examples(
        [f"{other} is {first}" for other, first in again]
    )
