"""Find the recordings that the cells of a table mean."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from deiii.data.tools.counts import examples
from deiii.data.tools.text.part_names import part_of_folders
from deiii.pipeline.init.found import InitError


class Media:
    """Finds the recording that a cell of a table means.

    Args:
        paths: the recordings below the corpus's folder, relative to it.
        root: the corpus's folder.
    """

    def __init__(self, paths: Sequence[str], root: Path):
        self.root = root
        self.paths = set(paths)
        self.part: str | None = None
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            pure = PurePosixPath(path)
            stem = pure.with_suffix("").as_posix()
            for key in {path, stem, pure.name, pure.stem}:
                self._by_key[key.casefold()].append(path)

    def of_part(self, part: str | None) -> Media:
        """Return the same recordings, to which names in a list of one part of a split refer.

        Of several recordings of one name, those in folders of that part are meant.
        """
        other = copy.copy(self)
        other.part = part
        return other

    @staticmethod
    def stem(path: str) -> str:
        """Return a path without suffix, which a video and its audio share."""
        return PurePosixPath(path).with_suffix("").as_posix()

    def find(self, cell: str, folder: str = "") -> str | None:
        """Return the recording, or ``None`` where there is none.

        The cell is a path relative to the corpus's folder or to the table's, an absolute one below the
        corpus's folder or from another machine, or a name with or without suffix; with ``/`` or ``\\``.

        Raises:
            InitError: a name that several recordings have.
        """
        text = cell.replace("\\", "/").removeprefix("./")
        root = f"{self.root.as_posix().rstrip('/')}/"
        if text.startswith(root):
            text = text[len(root) :]
        pieces = [piece for piece in text.split("/") if piece and not re.fullmatch(r"[A-Za-z]:", piece)]
        tries = ([[*folder.split("/"), *pieces]] if folder else []) + [pieces[n:] for n in range(len(pieces))]
        for words in tries:
            if found := self._one("/".join(words), cell):
                return found
        return None

    def _one(self, key: str, cell: str) -> str | None:
        if key in self.paths:
            return key
        found = self._by_key.get(key.casefold(), [])
        if len(found) > 1 and self.part:
            found = [path for path in found if part_of_folders(path) == self.part] or found
        stems = {PurePosixPath(path).with_suffix("") for path in found}
        if len(stems) > 1:
            raise InitError(f"{cell!r} may be {examples(sorted(found))}; write the folders of each file too")
        return found[0] if found else None
