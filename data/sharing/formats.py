"""Writers of clips in formats that are read without deiii: npz, Parquet, WebDataset, a folder for the Hub.

Arrays are written with the bits that the cache holds. A file appears under its final name when it is whole.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.sharing.clips import NO_PART, SharedClip
from deiii.data.tools.atomic_files import atomic_path, write_text
from deiii.data.tools.packages.requirements import install_command
from deiii.data.tools.text.csv_text import csv_text

SHARD_BYTES = 256_000_000  # size of the arrays in one tar or Parquet file
GROUP_BYTES = 32_000_000  # size of the arrays in a row group of Parquet; a reader holds it in memory
HUB_PARTS = {"train": "train", "val": "validation", "test": "test", NO_PART: NO_PART, None: "train"}

Clips = Callable[[str | None], Iterator[SharedClip]]  # the clips of a part; all for None


class SharingError(ValueError):
    """Features cannot be written in a format; the message says what to do."""


def write_npz(out: Path, clips: Clips, kinds: Mapping[str, Any], parts: Sequence[str | None]) -> None:
    """Write one ``clips/000012.npz`` for each clip, and the table ``clips.csv``.

    Args:
        out: folder to write.
        clips: gives the clips.
        kinds: type and shape of each array by name (`array_kinds`); other writers need it.
        parts: parts of the split; ``[None]`` without one; other writers need it.

    Raises:
        ValueError: an array holds Python objects.
    """
    (out / "clips").mkdir(parents=True, exist_ok=True)
    rows: list[list[object]] = []
    for clip in clips(None):
        name = f"clips/{clip.number:06d}.npz"
        with atomic_path(out / name) as temporary, open(temporary, "wb") as file:
            # Instead of allow_pickle=False, which NumPy 1.26 to 2.1 store as an array of that name.
            if pickled := [field for field, array in clip.arrays.items() if array.dtype.hasobject]:
                raise ValueError(f"arrays of Python objects are not written: {', '.join(pickled)}")
            arrays: dict[str, Any] = dict(clip.arrays)
            np.savez(file, **arrays)
        if not rows:
            rows.append(["file", *clip.facts, "soft"])
        known = ["" if value is None else value for value in clip.facts.values()]
        rows.append([name, *known, " ".join(map(repr, clip.soft))])
    write_text(out / "clips.csv", csv_text(rows))


def write_webdataset(out: Path, clips: Clips, kinds: Mapping[str, Any], parts: Sequence[str | None]) -> None:
    """Write tar files ``train-000000.tar``: for each clip ``000012.json`` and ``000012.faces_frames.npy``.

    Arguments are those of `write_npz`.
    """
    out.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for number, shard in enumerate(_shards(clips(part), SHARD_BYTES)):
            path = out / f"{part or 'all'}-{number:06d}.tar"
            with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
                for clip in shard:
                    _add_clip(tar, clip)


def _add_clip(tar: tarfile.TarFile, clip: SharedClip) -> None:
    """Add a clip to a tar file: its facts as JSON, and each array as a npy file."""
    facts = json.dumps({**clip.facts, "soft": clip.soft}, ensure_ascii=False)
    _add(tar, f"{clip.number:06d}.json", facts.encode())
    for name, array in clip.arrays.items():
        data = io.BytesIO()
        np.save(data, np.ascontiguousarray(array), allow_pickle=False)
        _add(tar, f"{clip.number:06d}.{name}.npy", data.getvalue())


def write_parquet(out: Path, clips: Clips, kinds: Mapping[str, Any], parts: Sequence[str | None]) -> None:
    """Write files ``train-00000.parquet``, one row a clip: its facts, bytes and shape of each array.

    Arguments are those of `write_npz`. Raises SharingError if PyArrow is not installed.
    """
    _write_tables(out, clips, kinds, parts, lambda part, n, count: f"{part or 'all'}-{n:05d}.parquet")


def write_hub(out: Path, clips: Clips, kinds: Mapping[str, Any], parts: Sequence[str | None]) -> None:
    """Write these tables as ``data/train-00000-of-00003.parquet``, for `datasets.load_dataset`."""
    _write_tables(
        out / "data",
        clips,
        kinds,
        parts,
        lambda part, n, count: f"{HUB_PARTS[part]}-{n:05d}-of-{count:05d}.parquet",
    )


WRITERS: dict[str, Callable[[Path, Clips, Mapping[str, Any], Sequence[str | None]], None]] = {
    "npz": write_npz,
    "parquet": write_parquet,
    "webdataset": write_webdataset,
    "hf": write_hub,
}


def require_pyarrow() -> Any:
    """Return PyArrow. Raises SharingError with the command that installs it."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise SharingError(
            f"Parquet needs PyArrow: {install_command('parquet')}; --to npz and --to webdataset do not"
        ) from None
    return pyarrow


def _write_tables(
    out: Path,
    clips: Clips,
    kinds: Mapping[str, Any],
    parts: Sequence[str | None],
    name: Callable[[str | None, int, int], str],
) -> None:
    pyarrow = require_pyarrow()
    out.mkdir(parents=True, exist_ok=True)
    for part in parts:
        first = next(iter(clips(part)), None)
        if first is None:
            continue
        schema = _schema(pyarrow, first, kinds)
        count = sum(1 for _ in _groups(clips(part), SHARD_BYTES))
        for number, shard in enumerate(_shards(clips(part), SHARD_BYTES)):
            with ExitStack() as stack:
                temporary = stack.enter_context(atomic_path(out / name(part, number, count)))
                # Arrays of numbers hardly compress without bitshuffling, and uncompressed ones are mapped.
                writer = stack.enter_context(
                    pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=False)
                )
                for group in _shards(shard, GROUP_BYTES):
                    rows = [_row(clip, kinds) for clip in group]
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _schema(pyarrow: Any, clip: SharedClip, kinds: Mapping[str, Any]) -> Any:
    kind = {"label_number": pyarrow.int32()}
    texts = {"id", "speaker", "label", "part", "fold"}
    fields = [
        (key, pyarrow.string() if key in texts else kind.get(key, pyarrow.float64())) for key in clip.facts
    ]
    fields.append(("soft", pyarrow.list_(pyarrow.float64())))
    for name in kinds:
        fields += [(name, pyarrow.binary()), (f"{name}_shape", pyarrow.list_(pyarrow.int32()))]
    about = {name: {"dtype": dtype, "shape": ["rows", *shape]} for name, (dtype, shape) in kinds.items()}
    return pyarrow.schema(fields).with_metadata({"deiii_arrays": json.dumps(about)})


def _row(clip: SharedClip, kinds: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {**clip.facts, "soft": list(clip.soft)}
    for name in kinds:
        array = clip.arrays.get(name)
        row[name] = None if array is None else np.ascontiguousarray(array).tobytes()
        row[f"{name}_shape"] = None if array is None else list(array.shape)
    return row


def _nbytes(clip: SharedClip) -> int:
    return sum(array.nbytes for array in clip.arrays.values())


def _groups(clips: Iterator[SharedClip], most: int) -> Iterator[int]:
    """Yield the number of clips in each group that `_shards` makes of the same clips."""
    count, size = 0, 0
    for clip in clips:
        if count and size + _nbytes(clip) > most:
            yield count
            count, size = 0, 0
        count, size = count + 1, size + _nbytes(clip)
    if count:
        yield count


def _shards(clips: Iterator[SharedClip], most: int) -> Iterator[Iterator[SharedClip]]:
    """Yield groups of consecutive clips with at most ``most`` bytes of arrays, but at least one clip.

    Read each group to its end before the next one.
    """
    clips = iter(clips)
    held: list[SharedClip] = []

    def group(first: SharedClip) -> Iterator[SharedClip]:
        size = _nbytes(first)
        yield first
        for clip in clips:
            if size + _nbytes(clip) > most:
                held.append(clip)
                return
            size += _nbytes(clip)
            yield clip

    for first in clips:
        held.append(first)
        while held:
            yield group(held.pop())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # with time 0 and owner 0: equal features give equal archives
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
