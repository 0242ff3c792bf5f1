"""Write shards: collect clips, write the file, read it back, and publish it under its final name.

>>> with ShardWriter(path, "logmel", key, {}) as shard:          # doctest: +SKIP
...     shard.add("a", Outcome(Status.OK), {"logmel": x, "time": t}, source="…")
"""

from __future__ import annotations

import errno
import math
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

import h5py
import numpy as np

from deiii.data.cache.outcomes import Outcome
from deiii.data.cache.shards import (
    FORMAT,
    KINDS,
    ClipRow,
    FieldLayout,
    ShardError,
    ShardInfo,
    digest_of,
    read_info,
    structure_digest,
)
from deiii.data.tools.atomic_files import TEMPORARY, publish, remove_unfinished, temporary_path
from deiii.data.tools.os_errors import hdf5_errors, name_written_file
from deiii.data.tools.text.canonical_json import canonical_json

ALIGN = 4096  # bytes; fields start on memory pages
SPOOL_BYTES = 64 << 20  # a larger field waits on disk, not in memory
BLOCK_BYTES = 32 << 20  # bytes written at a time
COMPARED_BYTES = 1 << 20  # bytes read back and compared at a time; they fit into a processor's cache


@dataclass
class ShardWriter:
    """Collect the clips of one shard; publish the file when the ``with`` block ends without an error.

    Args:
        path: final name of the file.
        stage, key: the stage that the arrays come from, and its key.
        provenance: settings of the stage, stored as canonical JSON in an attribute of the file.

    Attributes:
        info: what the published file holds.
        structure: SHA-256 of the published file's bytes outside its arrays (`structure_digest`).

    Raises:
        ShardError: at the end of the block, if the written file does not read back as it was given.
        OSError: in `add` or at the end of the block, for example if the disk is full; names the file,
            or in `add` its folder.
    """

    path: Path
    stage: str
    key: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self._temporary = temporary_path(self.path)
        self._spools: dict[str, _Spool] = {}
        self._specs: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        self._clips: list[ClipRow] = []
        self._rows = 0
        self.info: ShardInfo | None = None
        self.structure = ""

    def add(self, clip_id: str, outcome: Outcome, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Append a clip.

        Args:
            clip_id: unique in the shard.
            outcome: how the stage ended for the clip.
            arrays: fields by name, with the same number of rows; empty if the outcome is not usable. All
                clips of a shard have the same fields, types and trailing shapes.
            source: SHA-256 of the media file, in hex.

        Raises:
            ValueError: for arrays that do not fit together, the outcome or the clips before, or of a type
                that shards cannot hold.
        """
        if outcome.usable != bool(arrays):
            raise ValueError(f"{clip_id}: a clip has arrays if and only if its outcome is usable")
        lengths = {len(a) for a in arrays.values()}
        if len(lengths) > 1:
            raise ValueError(f"{clip_id}: fields of different lengths: {sorted(lengths)}")
        rows = lengths.pop() if lengths else 0
        if arrays and not self._specs:
            self._open_spools(arrays)
        if arrays and set(arrays) != set(self._specs):
            raise ValueError(f"{clip_id}: fields {sorted(arrays)} differ from {sorted(self._specs)}")
        for name, array in arrays.items():
            if self._specs[name] != (array.dtype, array.shape[1:]):
                raise ValueError(
                    f"{clip_id}: field {name!r} is {array.dtype} {array.shape[1:]}, unlike the clips before"
                )
        for name, array in arrays.items():  # a refused clip leaves nothing behind
            self._spools[name].add(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        self._clips.append(
            ClipRow(
                id=clip_id,
                start=self._rows,
                stop=self._rows + rows,
                status=str(outcome.status),
                reason=outcome.reason,
                fraction=float(outcome.fraction),
                source=source,
            )
        )
        self._rows += rows

    def _open_spools(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Store type and trailing shape of each field, and make the spool that collects its bytes."""
        for name, array in sorted(arrays.items()):
            if array.dtype.kind not in KINDS:
                raise ValueError(f"field {name!r} cannot hold {array.dtype}")
        for name, array in sorted(arrays.items()):
            self._specs[name] = (array.dtype, array.shape[1:])
            self._spools[name] = _Spool(self.path.parent)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with name_written_file(self.path, self._temporary):
                    self._publish()
        finally:
            for spool in self._spools.values():
                spool.close()
            remove_unfinished(self._temporary)

    def _publish(self) -> None:
        """Write the file, compare it with what was given, and make it visible under its final name."""
        with hdf5_errors(self._temporary):
            self._write()
        info = read_info(self._temporary)
        self._compare(info)
        self._read_back(info)
        self.structure = structure_digest(self._temporary, info.fields)
        publish(self._temporary, self.path)
        self.info = info

    def _require_room(self) -> None:
        """Raise OSError if the disk or ``ulimit -f`` lacks room; HDF5 would report it late and at length."""
        row_bytes = sum(dtype.itemsize * math.prod(tail) for dtype, tail in self._specs.values())
        needed = self._rows * row_bytes + ALIGN * (len(self._specs) + 4)
        if shutil.disk_usage(self.path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._temporary))
        if resource.RLIM_INFINITY != resource.getrlimit(resource.RLIMIT_FSIZE)[0] < needed:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self._temporary))

    def _write(self) -> None:
        """Write the temporary file: fields, columns of the clips, attributes, then the digest of it all."""
        self._require_room()
        # No other process knows the temporary name, and some network file systems have no locks.
        with h5py.File(
            self._temporary,
            "w",
            libver=("v110", "v110"),
            locking=False,
            alignment_threshold=1024,
            alignment_interval=ALIGN,
        ) as file:
            for name in self._specs:
                self._make_field(file, name)
            self._write_columns(file)
            file.attrs["format"] = FORMAT
            file.attrs["stage"] = self.stage
            file.attrs["key"] = self.key
            file.attrs["provenance"] = canonical_json(dict(self.provenance))
            file.flush()
            offsets = {name: file[name].id.get_offset() for name in self._specs}
        self._fill_fields(offsets)
        with h5py.File(self._temporary, "r+", locking=False) as file:
            file.attrs["digest"] = digest_of(self._given(), self._blocks())

    def _given(self) -> ShardInfo:
        """Return what the file is to hold; the places of the fields and the digest are not known yet."""
        fields = {
            name: FieldLayout(0, dtype.str, (self._rows, *tail))
            for name, (dtype, tail) in self._specs.items()
        }
        provenance = canonical_json(dict(self.provenance))
        return ShardInfo(self.stage, self.key, provenance, "", 0, fields, tuple(self._clips))

    def _blocks(self) -> Iterator[memoryview]:
        """Yield the bytes of all fields as they were given, field by field in the order of their names."""
        for name in sorted(self._specs):
            yield from (block.data for block in self._spools[name].blocks(BLOCK_BYTES))

    def _compare(self, info: ShardInfo) -> None:
        """Raise ShardError if the written file differs from the values that were given."""
        read: list[object] = [info.stage, info.key, info.provenance, info.clips]
        read.append({name: (layout.dtype, layout.shape) for name, layout in info.fields.items()})
        given = self._given()
        wanted: list[object] = [given.stage, given.key, given.provenance, given.clips]
        wanted.append({name: (layout.dtype, layout.shape) for name, layout in given.fields.items()})
        if read != wanted:
            raise ShardError(f"{self.path}: written settings or clips read back differently; check the disk")

    def _read_back(self, info: ShardInfo) -> None:
        """Read the arrays of the written file, and compare them with the given bytes.

        Raises:
            ShardError: the file holds other bytes.
        """
        changed = ShardError(f"{self.path}: written bytes read back differently; check the disk")
        with open(self._temporary, "rb", buffering=0) as file:
            held = np.empty(COMPARED_BYTES, np.uint8)

            def read(size: int) -> np.ndarray:
                """Read ``size`` bytes, or as many as are left."""
                filled = 0
                while filled < size and (count := file.readinto(held[filled:size].data)):
                    filled += count
                return held[:filled]

            for name, layout in info.fields.items():
                if not layout.nbytes:
                    continue
                file.seek(layout.offset)
                for given in self._spools[name].blocks(COMPARED_BYTES):
                    if not _same_bytes(read(len(given)), given):
                        raise changed

    def _make_field(self, file: h5py.File, name: str) -> None:
        """Make the array of a field, and write its first row, for which HDF5 reserves the place of all."""
        dtype, tail = self._specs[name]
        dataset = file.create_dataset(name, (self._rows, *tail), dtype)
        if dataset.nbytes:
            dataset[:1] = np.zeros((1, *tail), dtype)

    def _fill_fields(self, offsets: Mapping[str, int | None]) -> None:
        """Write the bytes of all fields to their places in the file.

        HDF5 is not used for this, because it holds the GIL while it copies, so that other shards would wait.

        Raises:
            OSError: names the file.
        """
        try:
            with open(self._temporary, "rb+", buffering=0) as file:
                for name, offset in offsets.items():
                    if offset is None:  # a field without bytes has no place
                        continue
                    file.seek(offset)
                    for block in self._spools[name].blocks(BLOCK_BYTES):
                        _write_all(file, block.data)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self._temporary)) from None

    def _write_columns(self, file: h5py.File) -> None:
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


class _Spool:
    """The bytes of one field until they are written: in memory, or in a file without a name if they are many.

    Args:
        folder: folder of that file.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._pieces: list[np.ndarray] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def add(self, values: np.ndarray) -> None:
        """Append bytes, uint8 [n]; they are copied."""
        self._bytes += len(values)
        if self._file is None and self._bytes <= SPOOL_BYTES:
            self._pieces.append(values.copy())  # this copy releases the GIL; BytesIO does not
            return
        with name_written_file(self._folder):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, suffix=TEMPORARY, prefix=".")
                for piece in self._pieces:
                    self._file.write(piece.data)
                self._pieces = []
            self._file.write(values.data)

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield all bytes in blocks of at most ``size``, uint8 [n]."""
        if self._file is not None:
            self._file.seek(0)
            while block := self._file.read(size):
                yield np.frombuffer(block, np.uint8)
            return
        for piece in self._pieces:
            yield from (piece[start : start + size] for start in range(0, len(piece), size))

    def close(self) -> None:
        """Free the memory, and remove the file."""
        self._pieces = []
        if self._file is not None:
            with suppress(OSError):  # a full disk did not take some bytes; an earlier error has reported that
                self._file.close()


def _write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all bytes; one call of ``write`` on an unbuffered file may write only the first part of them."""
    left = data
    while left:
        left = left[file.write(left) :]


def _same_bytes(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays uint8 [n] are equal; eight bytes at a time where they can be."""
    if len(one) == len(other) and len(one) % 8 == 0:
        one, other = one.view(np.uint64), other.view(np.uint64)
    return np.array_equal(one, other)
