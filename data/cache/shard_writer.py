"""Writing a shard: clips are collected, the file is written, read back and published when it is whole.

>>> with ShardWriter(path, "logmel", key, {}) as shard:          # doctest: +SKIP
...     shard.add("a", Outcome(Status.OK), {"logmel": x, "time": t}, source="…")
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deiii.data.cache.outcomes import Outcome
from deiii.data.cache.shards import FORMAT, KINDS, ClipRow, ShardError, content_digest, read_info
from deiii.data.tools.atomic_files import TEMPORARY, publish
from deiii.data.tools.canonical_json import canonical_json

ALIGN = 4096  # fields start on memory pages
SPOOL_BYTES = 64 << 20  # a field larger than this waits on disk, not in memory
BLOCK_BYTES = 32 << 20  # written and read at a time


@dataclass
class ShardWriter:
    """Collects the clips of one shard and publishes the file when the ``with`` block ends well.

    Args:
        path: final name of the file.
        stage, key: whose result it is.
        provenance: readable settings, kept as canonical JSON in an attribute.
    """

    path: Path
    stage: str
    key: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}{TEMPORARY}")
        self._spools: dict[str, tempfile.SpooledTemporaryFile] = {}
        self._specs: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        self._clips: list[ClipRow] = []
        self._rows = 0

    def add(self, clip_id: str, outcome: Outcome, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Append a clip. All arrays have the same number of rows; none where not usable."""
        if outcome.usable != bool(arrays):
            raise ValueError(f"{clip_id}: a clip has arrays if and only if its outcome is usable")
        lengths = {len(a) for a in arrays.values()}
        if len(lengths) > 1:
            raise ValueError(f"{clip_id}: fields of different lengths: {sorted(lengths)}")
        rows = lengths.pop() if lengths else 0
        if arrays and not self._specs:
            self._specs = {n: (a.dtype, a.shape[1:]) for n, a in sorted(arrays.items())}
            for name, (dtype, _) in self._specs.items():
                if dtype.kind not in KINDS:
                    raise ValueError(f"field {name!r} cannot hold {dtype}")
                self._spools[name] = tempfile.SpooledTemporaryFile(
                    max_size=SPOOL_BYTES, dir=self.path.parent, suffix=TEMPORARY, prefix="."
                )
        for name, array in arrays.items():
            if self._specs.get(name) != (array.dtype, array.shape[1:]):
                raise ValueError(
                    f"{clip_id}: field {name!r} is {array.dtype} {array.shape[1:]} unlike before"
                )
            whole = memoryview(np.ascontiguousarray(array)).cast("B")
            for start in range(0, len(whole), BLOCK_BYTES):
                self._spools[name].write(whole[start : start + BLOCK_BYTES])
        if arrays and set(arrays) != set(self._specs):
            raise ValueError(f"{clip_id}: fields {sorted(arrays)} differ from {sorted(self._specs)}")
        self._clips.append(
            ClipRow(
                clip_id, self._rows, self._rows + rows,
                str(outcome.status), outcome.reason, float(outcome.fraction), source,
            )
        )  # fmt: skip
        self._rows += rows

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                with _disk_troubles(self._temporary):
                    self._write()
                info = read_info(self._temporary)  # what was written can be read
                if content_digest(self._temporary, info) != info.digest:
                    raise ShardError(f"{self.path}: written bytes read back differently; check the disk")
                publish(self._temporary, self.path)
        finally:
            for spool in self._spools.values():
                spool.close()
            self._temporary.unlink(missing_ok=True)

    def _require_room(self) -> None:
        """Raise OSError where the disk has clearly no room: HDF5 would say so late and in many words."""
        rows = sum(d.itemsize * int(np.prod(t, dtype=int)) for d, t in self._specs.values())
        needed = self._rows * rows + ALIGN * (len(self._specs) + 4)
        if shutil.disk_usage(self.path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._temporary))

    def _write(self) -> None:
        self._require_room()
        with h5py.File(
            self._temporary, "w", libver=("v110", "v110"), alignment_threshold=1024, alignment_interval=ALIGN
        ) as file:
            for name, (dtype, tail) in self._specs.items():
                dataset = file.create_dataset(name, (self._rows, *tail), dtype)
                spool, item = self._spools[name], dtype.itemsize * int(np.prod(tail, dtype=int))
                spool.seek(0)
                step = max(1, BLOCK_BYTES // max(1, item))
                for start in range(0, self._rows, step):
                    rows = min(step, self._rows - start)
                    block = np.frombuffer(spool.read(rows * item), dtype)
                    dataset[start : start + rows] = block.reshape(rows, *tail)
            clips = self._clips
            file["offsets"] = np.array([0] + [c.stop for c in clips], np.int64)
            for name, values in {
                "clip_id": [c.id for c in clips],
                "status": [c.status for c in clips],
                "reason": [c.reason for c in clips],
                "source": [c.source for c in clips],
            }.items():
                encoded = [v.encode() for v in values]
                length = max([1, *map(len, encoded)])
                file.create_dataset(name, data=np.array(encoded, f"S{length}"))
            file["fraction"] = np.array([c.fraction for c in clips], np.float64)
            file.attrs["format"] = FORMAT
            file.attrs["stage"] = self.stage
            file.attrs["key"] = self.key
            file.attrs["provenance"] = canonical_json(dict(self.provenance))
            file.flush()
        info = read_info(self._temporary, with_digest=False)
        with h5py.File(self._temporary, "r+") as file:
            file.attrs["digest"] = content_digest(self._temporary, info)


@contextmanager
def _disk_troubles(path: Path) -> Iterator[None]:
    """Raise as OSError what HDF5 tells of a full or vanished disk in words alone, or as RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if not number:
            raise
        # HDF5 objects that cannot be flushed complain once more as they go; let them go here, unheard.
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            one: BaseException | None = error
            while one is not None:
                traceback.clear_frames(one.__traceback__)
                one = one.__context__
        finally:
            sys.unraisablehook = hook
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
