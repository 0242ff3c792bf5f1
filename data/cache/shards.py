"""Read shards: one HDF5 file for each shard and stage.

Each field (``frames``, ``flow``, ``logmel``, ``time``, ...) is one contiguous, uncompressed array that holds
all clips of the shard end to end; clip ``i`` has the rows ``offsets[i]:offsets[i+1]``. The byte offset is
read through HDF5 once, then the file is mapped, so that a read is a memory copy without HDF5's global lock.
Any HDF5 viewer can open the file. `deiii.data.cache.shard_writer` writes shards.

>>> open_shard(path).clip("a")["logmel"]                         # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.tools.counts import counted
from deiii.data.tools.text.canonical_json import canonical_json

FORMAT = 1
COLUMNS = ("offsets", "clip_id", "status", "reason", "fraction", "source")  # one entry for each clip
TEXT_COLUMNS = ("clip_id", "status", "reason", "source")
BLOCK_BYTES = 1 << 20  # read at a time
KINDS = "biuf"  # dtype kinds of a field: numbers only, no objects, references or strings


class ShardError(ValueError):
    """A shard file is damaged, unsafe to read or of another format; the message names it."""


@dataclass(frozen=True)
class FieldLayout:
    """The place of a field's bytes in the file.

    Attributes:
        offset: offset of the first byte.
        dtype: NumPy's name of the type, such as ``<f4``.
        shape: shape of the whole array, all clips end to end.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(np.dtype(self.dtype).itemsize) * math.prod(self.shape)


@dataclass(frozen=True)
class ClipRow:
    """The rows and the outcome of one clip in a shard.

    Attributes:
        id: the clip's id.
        start, stop: its rows; equal if it has none.
        status, reason, fraction: its outcome (`deiii.data.cache.outcomes.Outcome`).
        source: SHA-256 of its media file, in hex.
    """

    id: str
    start: int
    stop: int
    status: str
    reason: str
    fraction: float
    source: str

    @property
    def outcome(self) -> Outcome:
        """The clip's outcome in this stage."""
        return Outcome(Status(self.status), self.reason, self.fraction)


@dataclass(frozen=True)
class ShardInfo:
    """The description of a shard, without its arrays.

    Attributes:
        stage, key: the stage's name and key.
        provenance: the settings that it was computed with, as canonical JSON.
        digest: digest of its content (`content_digest`).
        bytes: size of the file.
        fields: place, type and shape of each array.
        clips: rows and outcome of each clip.
    """

    stage: str
    key: str
    provenance: str
    digest: str
    bytes: int
    fields: Mapping[str, FieldLayout]
    clips: tuple[ClipRow, ...]


def read_info(path: str | Path, with_digest: bool = True) -> ShardInfo:
    """Read and check everything about a shard except its arrays; nothing large is allocated.

    Args:
        path: the shard file.
        with_digest: whether the file must hold a digest already.

    Raises:
        ShardError: if the file does not exist, is not a shard of this format, or its arrays would reach
            beyond its end.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with h5py.File(path, "r", locking=False) as file:
            return _read_info(path, file, size, with_digest)
    except ShardError:
        raise
    except FileNotFoundError:
        raise ShardError(f"{path}: no such shard; run `deiii preprocess` to rebuild it") from None
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, UnicodeDecodeError) as error:
        raise ShardError(
            f"{path}: not a readable shard ({error}); run `deiii preprocess` to rebuild it"
        ) from None


def _read_info(path: Path, file: h5py.File, size: int, with_digest: bool) -> ShardInfo:
    if int(file.attrs.get("format", -1)) != FORMAT:
        raise ShardError(f"{path}: shard format {file.attrs.get('format')!r}, this version reads {FORMAT}")
    if file.attrs.get("packed", False):
        raise ShardError(f"{path}: packed for an archive; run `deiii unpack ARCHIVE CACHE` first")
    columns: dict[str, np.ndarray] = {}
    layouts: dict[str, FieldLayout] = {}
    for name in file:
        dataset, made = _plain_dataset(path, file, name)
        layout = _layout(path, name, dataset, made, size)
        if name in COLUMNS:
            columns[name] = np.empty(dataset.shape, dataset.dtype)
            if columns[name].size:
                dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, columns[name])
        else:
            layouts[name] = layout
    clips = _clip_rows(path, columns)
    rows = clips[-1].stop if clips else 0
    for name, layout in layouts.items():
        if not layout.shape or layout.shape[0] != rows:
            raise ShardError(f"{path}: {name!r} has the shape {layout.shape} for {rows} rows")
    names = ("stage", "key", "provenance", "digest")[: 4 if with_digest else 3]
    text = {"digest": "", **{n: file.attrs[n] for n in names}}
    if wrong := [n for n, value in text.items() if not isinstance(value, str)]:
        raise ShardError(f"{path}: its {wrong[0]} is not text")
    return ShardInfo(**text, bytes=size, fields=layouts, clips=clips)


def _plain_dataset(path: Path, file: h5py.File, name: str) -> tuple[h5py.h5d.DatasetID, h5py.h5p.PropDCID]:
    """Return an array of the file, which holds its own data and a type for shards, and how it was made.

    This uses h5py's low-level functions: its classes take several times as long, and hold the GIL.
    """
    key = name.encode()
    if file.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
        raise ShardError(f"{path}: {name!r} is a link, which shards may not contain")
    item = h5py.h5o.open(file.id, key)
    if not isinstance(item, h5py.h5d.DatasetID):
        raise ShardError(f"{path}: {name!r} is not an array")
    made = item.get_create_plist()
    if made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL:
        raise ShardError(f"{path}: {name!r} has its data in another file, which shards may not have")
    kinds = "S" if name in TEXT_COLUMNS else KINDS
    if item.dtype.kind not in kinds:
        raise ShardError(f"{path}: {name!r} has the type {item.dtype}, which shards may not have")
    return item, made


def _layout(
    path: Path, name: str, dataset: h5py.h5d.DatasetID, made: h5py.h5p.PropDCID, size: int
) -> FieldLayout:
    """Return the place of an array in a file of ``size`` bytes."""
    if made.get_layout() == h5py.h5d.CHUNKED:
        raise ShardError(
            f"{path}: {name!r} is stored in chunks, which cannot be mapped; "
            "run `deiii preprocess` to rebuild it"
        )
    layout = FieldLayout(dataset.get_offset() or 0, dataset.dtype.str, tuple(map(int, dataset.shape)))
    if layout.nbytes and (layout.offset == 0 or layout.offset + layout.nbytes > size):
        raise ShardError(f"{path}: {name!r} claims {layout.nbytes} bytes, the file has {size}")
    return layout


def _clip_rows(path: Path, columns: Mapping[str, np.ndarray]) -> tuple[ClipRow, ...]:
    missing = [n for n in COLUMNS if n not in columns]
    if missing:
        raise ShardError(f"{path}: lacks {', '.join(missing)}")
    offsets = columns["offsets"]
    count = len(columns["clip_id"])
    if offsets.shape != (count + 1,) or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
        raise ShardError(f"{path}: its offsets do not rise from 0 over {counted(count, 'clip')}")
    if any(len(columns[n]) != count for n in COLUMNS[1:]):
        raise ShardError(f"{path}: its columns have different lengths")
    return tuple(
        ClipRow(
            id=columns["clip_id"][i].decode(),
            start=int(offsets[i]),
            stop=int(offsets[i + 1]),
            status=Status(columns["status"][i].decode()).value,
            reason=columns["reason"][i].decode(),
            fraction=float(columns["fraction"][i]),
            source=columns["source"][i].decode(),
        )
        for i in range(count)
    )


def map_fields(path: str | Path, fields: Mapping[str, FieldLayout]) -> dict[str, np.ndarray]:
    """Map the fields of a shard into memory read-only, without HDF5.

    The file is mapped once, because Python keeps a file open for each map.

    Raises:
        ShardError: a field ends behind the end of the file.
    """
    whole = np.memmap(path, np.uint8, "r") if any(layout.nbytes for layout in fields.values()) else None
    arrays = {}
    for name, layout in fields.items():
        if whole is None or layout.nbytes == 0:
            arrays[name] = np.empty(layout.shape, layout.dtype)
            continue
        part = whole[layout.offset : layout.offset + layout.nbytes]
        if len(part) < layout.nbytes:
            raise ShardError(f"{path}: the file ends too early; run `deiii preprocess` to rebuild it")
        arrays[name] = part.view(layout.dtype).reshape(layout.shape)
    return arrays


def content_digest(path: str | Path, info: ShardInfo) -> str:
    """Return SHA-256 over a shard's settings, clip rows and array bytes, independent of the file's layout.

    Raises:
        ShardError: if the file ends too early.
    """
    return digest_of(info, _field_blocks(Path(path), info))


def structure_digest(path: str | Path, fields: Mapping[str, FieldLayout]) -> str:
    """Return SHA-256 over the bytes of a file that belong to no array: HDF5's structures, clip rows, gaps.

    Together with `content_digest` it covers every byte of a shard, and each byte of an array is hashed once.

    >>> structure_digest(path, read_info(path).fields)                # doctest: +SKIP
    '5f8c…'
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        for layout in sorted((f for f in fields.values() if f.nbytes), key=lambda f: f.offset):
            _hash_until(digest, file, layout.offset)
            file.seek(max(file.tell(), layout.offset + layout.nbytes))
        _hash_until(digest, file, None)
    return digest.hexdigest()


def _hash_until(digest: Any, file: IO[bytes], stop: int | None) -> None:
    """Add the bytes from the file's position to ``stop``, or to its end, to the digest."""
    while stop is None or file.tell() < stop:
        block = file.read(BLOCK_BYTES if stop is None else min(BLOCK_BYTES, stop - file.tell()))
        if not block:
            return
        digest.update(block)


def digest_of(info: ShardInfo, blocks: Iterable[bytes | memoryview]) -> str:
    """Return the `content_digest` of a shard; ``blocks`` are the bytes of its fields, by order of names."""
    digest = hashlib.sha256()
    head: list[Any] = [info.stage, info.key, info.provenance]
    head += [[c.id, c.start, c.stop, c.status, c.reason, c.fraction, c.source] for c in info.clips]
    head += [[n, f.dtype, f.shape] for n, f in sorted(info.fields.items())]
    digest.update(canonical_json(head).encode())
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _field_blocks(path: Path, info: ShardInfo) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        for _, layout in sorted(info.fields.items()):
            file.seek(layout.offset)
            left = layout.nbytes
            while left:
                block = file.read(min(left, BLOCK_BYTES))
                if not block:
                    raise ShardError(f"{path}: the file ends too early; run `deiii preprocess` to rebuild it")
                yield block
                left -= len(block)


class Shard:
    """A shard open for reading; its arrays are read-only views of the mapped file."""

    def __init__(self, path: str | Path, info: ShardInfo):
        self.path = Path(path)
        self.info = info
        self._rows = {c.id: c for c in info.clips}
        self._maps = map_fields(path, info.fields)

    def outcome(self, clip_id: str) -> Outcome:
        """Return a clip's outcome. Raises KeyError for a clip that the shard does not hold."""
        return self._rows[clip_id].outcome

    def clip(self, clip_id: str) -> dict[str, np.ndarray]:
        """Return a clip's arrays by field; empty if it has none. Raises KeyError for an unknown clip."""
        row = self._rows[clip_id]
        if not row.outcome.usable:
            return {}
        return {n: m[row.start : row.stop] for n, m in self._maps.items()}


def open_shard(path: str | Path) -> Shard:
    """Open a shard for reading. Raises ShardError if the file is not a shard."""
    return Shard(path, read_info(path))
