"""Map many shard files into memory without keeping file handles open.

PyTorch closes the handle of a file once it is mapped, while Python's ``mmap`` keeps one for each map. So
thousands of shards need no handles. Maps are read-only and share the page cache with all other processes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from deiii.data.cache.shards import FieldLayout

MOST_MAPS = 16_384  # Linux allows a process 65,530 maps by default

Entry = tuple[np.ndarray, dict[FieldLayout, np.ndarray]]  # a whole file, and views of its fields


class MapError(OSError):
    """A shard file cannot be mapped, or differs from what its index states."""


class Maps:
    """A cache of the most recently used file maps; it can be used from several threads.

    Args:
        most: number of maps to keep.

    >>> Maps().field(path, size, layout)[3:5]                    # doctest: +SKIP
    """

    def __init__(self, most: int = MOST_MAPS):
        self.most = most
        self._maps: OrderedDict[Path, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._maps)

    def file(self, path: Path, size: int) -> np.ndarray:
        """Return a whole file as uint8 [size]; stays valid for as long as the caller holds it.

        Raises:
            MapError: if the file is missing or has another size.
        """
        return self._entry(path, size)[0]

    def field(self, path: Path, size: int, layout: FieldLayout) -> np.ndarray:
        """Return a field of a shard as a read-only view; the same object while its file stays mapped.

        Raises:
            MapError: if the file is missing or has another size.
        """
        whole, views = self._entry(path, size)
        view = views.get(layout)
        if view is None:
            part = whole[layout.offset : layout.offset + layout.nbytes]
            view = views[layout] = part.view(layout.dtype).reshape(layout.shape)
        return view

    def _entry(self, path: Path, size: int) -> Entry:
        with self._lock:
            if path in self._maps:
                self._maps.move_to_end(path)
                return self._maps[path]
        fresh: Entry = (map_file(path, size), {})
        with self._lock:
            entry = self._maps.setdefault(path, fresh)  # another thread may have mapped it meanwhile
            while len(self._maps) > self.most:
                self._maps.popitem(last=False)
        return entry


def map_file(path: Path, size: int) -> np.ndarray:
    """Map a file read-only as uint8 [size]. Raises MapError if it is missing or has another size."""
    import torch  # here, because features in memory are read without PyTorch (`deiii.runtime`)

    try:
        found = path.stat().st_size
    except OSError as error:
        raise MapError(f"{path} cannot be read ({error.strerror}); run `deiii verify`") from None
    if found != size:
        raise MapError(f"{path} has {found} bytes, its index states {size}; run `deiii verify`")
    try:
        whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    except RuntimeError as error:
        raise MapError(f"{path} cannot be mapped: {error}") from None
    whole.flags.writeable = False
    return whole
