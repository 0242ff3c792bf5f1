"""Rows of stages that are kept for a while in memory, or all of them in a temporary file."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence

import numpy as np

from deiii.data.tools.os_errors import name_written_file

Rows = dict[str, np.ndarray]


class Recent:
    """The newest rows of one stage, in the blocks in which they came."""

    def __init__(self) -> None:
        self._blocks: list[Rows] = []
        self._joined: Rows | None = None

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Append rows of all fields."""
        if len(rows["time"]):
            self._blocks.append(dict(rows))
            self._joined = None

    def forget(self, before_s: float) -> None:
        """Free blocks that end before a time in s."""
        kept = [block for block in self._blocks if block["time"][-1] >= before_s]
        if len(kept) < len(self._blocks):
            self._blocks, self._joined = kept, None

    def rows(self) -> Rows:
        """Return all rows that are kept; empty where there are none."""
        if self._joined is None and self._blocks:
            self._joined = {n: np.concatenate([b[n] for b in self._blocks]) for n in self._blocks[0]}
        return self._joined or {}


class DiskRows:
    """Rows of one array in a temporary file without a name; indexed by a sequence of row numbers.

    Args:
        folder: folder in which the file is made.

    >>> import tempfile
    >>> rows = DiskRows(tempfile.gettempdir())
    >>> rows.append(np.arange(6).reshape(3, 2))
    >>> rows[[2, 0]].tolist(), len(rows)
    ([[4, 5], [0, 1]], 3)
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self._folder = folder
        with tempfile.TemporaryFile(dir=os.fspath(folder)) as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)  # a prediction holds the rows and is never closed
        self._count = 0
        self._dtype = np.dtype(np.uint8)
        self._shape: tuple[int, ...] = ()

    def append(self, rows: np.ndarray) -> None:
        """Add rows; all have one type and shape."""
        self._dtype, self._shape = rows.dtype, rows.shape[1:]
        data = memoryview(np.ascontiguousarray(rows).tobytes())
        with name_written_file(self._folder):
            while data:
                data = data[os.write(self._file, data) :]
        self._count += len(rows)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        size = self._dtype.itemsize * math.prod(self._shape)
        parts = [os.pread(self._file, size, int(row) * size) for row in rows]
        return np.frombuffer(b"".join(parts), self._dtype).reshape(-1, *self._shape)
