"""Shard files mapped into memory, many at a time, without holding file handles.

torch's file mapping closes the handle once the map exists (Python's own ``mmap`` keeps one each),
so thousands of shards cost no handles. The maps are private and read-only to us, and share the
page cache with every other process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from deiii.data.cache.shards import FieldLayout

MOST_MAPS = 16_384  # Linux allows a process 65,530 by default


class MapError(OSError):
    """A shard file cannot be mapped, or is not what its index says."""


class Maps:
    """The most recently used file maps; safe to use from several threads.

    >>> Maps().field(path, size, layout)[3:5]                    # doctest: +SKIP
    """

    def __init__(self, most: int = MOST_MAPS):
        self.most = most
        self._maps: OrderedDict[Path, tuple[np.ndarray, dict[FieldLayout, np.ndarray]]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._maps)

    def file(self, path: Path, size: int) -> np.ndarray:
        """A whole file as uint8 [size]; stays valid for as long as the caller holds it.

        Raises:
            MapError: where the file is gone or has another size.
        """
        return self._entry(path, size)[0]

    def field(self, path: Path, size: int, layout: FieldLayout) -> np.ndarray:
        """One field of a shard as a read-only view; the same object while its file stays mapped."""
        whole, views = self._entry(path, size)
        view = views.get(layout)
        if view is None:
            part = whole[layout.offset : layout.offset + layout.nbytes]
            view = views[layout] = part.view(layout.dtype).reshape(layout.shape)
        return view

    def _entry(self, path: Path, size: int) -> tuple[np.ndarray, dict[FieldLayout, np.ndarray]]:
        with self._lock:
            if path in self._maps:
                self._maps.move_to_end(path)
                return self._maps[path]
        fresh = map_file(path, size), {}
        with self._lock:
            entry = self._maps.setdefault(path, fresh)  # another thread may have been quicker
            while len(self._maps) > self.most:
                self._maps.popitem(last=False)
        return entry


def map_file(path: Path, size: int) -> np.ndarray:
    """Map a file read-only as uint8 [size]. Raises MapError."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise MapError(f"{path} cannot be read ({error.strerror}); run `deiii verify`") from None
    if found != size:
        raise MapError(f"{path} has {found} bytes, its index says {size}; run `deiii verify`")
    try:
        whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    except RuntimeError as error:
        raise MapError(f"{path} cannot be mapped: {error}") from None
    whole.flags.writeable = False
    return whole
