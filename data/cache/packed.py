"""Pack a cache into a compressed archive, and unpack it again. Archives cannot be trained on.

`pack` keeps the folders of a cache and writes each shard in chunks, compressed with Blosc2 (bitshuffle and
Zstandard, through hdf5plugin). `unpack` restores the cache and checks each shard's content digest. Both
continue where they were stopped, and wait for another process that writes into the same folder.

>>> pack("cache", "archive")                                      # doctest: +SKIP
>>> unpack("archive", "cache")                                    # doctest: +SKIP
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np

from deiii.data.cache.identity import (
    DECODERS,
    IDENTITY,
    SOURCES,
    read_decoders,
    read_identity,
    recorded_media,
)
from deiii.data.cache.index import (
    INDEX,
    PACKED,
    TABLE,
    CacheError,
    ShardRecord,
    StageIndex,
    read_index,
    read_packed,
    read_table,
    record_shard,
    remedy_for,
    write_index,
)
from deiii.data.cache.outcomes import Outcome, Status, is_machine_trouble
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.cache.shards import COLUMNS, ShardError, content_digest, read_info
from deiii.data.tools.atomic_files import atomic_path, remove_temporary, write_json
from deiii.data.tools.counts import counted
from deiii.data.tools.packages.requirements import install_command
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.progress import ProgressBar, progress_bar, say
from deiii.data.tools.writer_lock import writer_lock

CHUNK_BYTES = 1 << 20
MOST_RATIO = 20_000  # largest accepted ratio of a field to its compressed bytes; constant ones reach 11,000


def pack(cache: str | Path, archive: str | Path, progress: bool = True) -> tuple[int, int]:
    """Compress every finished stage below ``cache`` into ``archive``; shards packed before are kept.

    Returns:
        The size of the shards in bytes, before and after.

    Raises:
        CacheError: if there is nothing to pack, hdf5plugin is not installed, the archive holds what the
            cache does not, or both are one folder.
        ShardError: for a shard that has changed since it was written, or that its index does not list.
    """
    _plugin()
    cache, archive = Path(cache), Path(archive)
    stages = [p.parent for p in sorted(cache.glob(f"*/*/{INDEX}"))]
    if not stages:
        if not cache.is_dir():
            raise CacheError(f"there is no folder {cache}; check the path of the cache")
        if any(cache.glob(f"*/*/{PACKED}")):
            raise CacheError(
                f"{cache} is an archive, which is packed already; copy it as it is, or restore it: "
                f"deiii unpack {shlex.quote(str(cache))} CACHE"
            )
        remedy = remedy_for(cache, "run `deiii preprocess` first")
        raise CacheError(f"{cache} holds no finished stage to pack; {remedy}")
    _refuse_one_folder(cache, archive, stages)
    with writer_lock(archive, say):
        _refuse_others(archive, cache, stages)
        return _pack(cache, archive, stages, progress)


def _pack(cache: Path, archive: Path, stages: list[Path], progress: bool) -> tuple[int, int]:
    """Pack the stages whose folders are given; the lock of the archive is held."""
    before = after = 0
    for folder, index, shard, bar in _each(stages, read_index, progress, "pack"):
        target = archive / folder.relative_to(cache) / f"{shard.name}.h5"
        # The target is from an earlier state of the cache, or does not exist yet.
        if _digest_in(target) != shard.digest:
            _pack_shard(folder / f"{shard.name}.h5", shard, target)
        before, after = before + shard.bytes, after + target.stat().st_size
        bar.update()
        if shard is index.shards[-1]:
            tree: dict[str, Any] = {
                "stage": index.stage,
                "key": index.key,
                "provenance": dict(index.provenance),
            }
            tree["shards"] = [{"name": s.name, "digest": s.digest} for s in index.shards]
            write_json(target.parent / PACKED, tree)
    _copy_tables(cache, archive)
    _copy_decoders(cache, archive, stages)
    return before, after


def unpack(archive: str | Path, cache: str | Path, progress: bool = True) -> int:
    """Restore every stage of ``archive`` into ``cache``; shards of the same content are read and kept.

    Returns:
        The size of the restored shards in bytes.

    Raises:
        CacheError: if there is no archive, hdf5plugin is not installed, both are one folder, or a folder of
            the cache belongs to another corpus of the same name.
        ShardError: for a shard that is damaged, or has another content than was packed.
    """
    _plugin()
    archive, cache = Path(archive), Path(cache)
    stages = [p.parent for p in sorted(archive.glob(f"*/*/{PACKED}"))]
    if not stages:
        if not archive.is_dir():
            raise CacheError(f"there is no folder {archive}; check the path of the archive")
        if any(archive.glob(f"*/*/{INDEX}")):
            raise CacheError(f"{archive} is a cache, which needs no unpacking: use it as cache={archive}")
        remedy = remedy_for(archive, "`deiii pack` writes one")
        raise CacheError(f"{archive} holds no packed cache; {remedy}")
    _refuse_one_folder(archive, cache, stages)
    corpora = sorted({folder.parent.name for folder in stages})
    with ExitStack() as held:
        for corpus in corpora:
            held.enter_context(writer_lock(cache / corpus, say))  # `deiii preprocess` takes the same lock
        for corpus in corpora:
            _refuse_other_corpus(archive, cache, corpus)
        return _unpack(archive, cache, stages, progress)


def _unpack(archive: Path, cache: Path, stages: list[Path], progress: bool) -> int:
    """Restore the stages whose folders are given; the locks of their corpora are held."""
    total = 0
    records: list[ShardRecord] = []
    for folder, index, shard, bar in _each(stages, read_packed, progress, "unpack"):
        target = cache / folder.relative_to(archive) / f"{shard.name}.h5"
        if not _holds(target, shard.digest):
            _unpack_shard(folder / f"{shard.name}.h5", shard.digest, target)
        records.append(record_shard(target))
        total += records[-1].bytes
        bar.update()
        if shard is index.shards[-1]:
            write_index(target.parent, StageIndex(index.stage, index.key, index.provenance, records))
            records = []
    _copy_tables(archive, cache)
    _copy_decoders(archive, cache, stages)
    return total


def _holds(path: Path, digest: str) -> bool:
    """Return whether a shard of a cache has the content of a digest; every byte is read."""
    try:
        info = read_info(path)
        return info.digest == digest and content_digest(path, info) == digest
    except (OSError, ShardError):  # there is none, or it is damaged
        return False


def _digest_in(path: Path) -> str:
    """Return the digest that a packed shard states; empty if there is no such file."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return str(file.attrs["digest"])
    except (OSError, KeyError):
        return ""


def _refuse_one_folder(source: Path, target: Path, stages: list[Path]) -> None:
    """Raise CacheError where a stage would be written into the folder that it is read from."""
    for folder in stages:
        written = target / folder.relative_to(source)
        if written.exists() and written.samefile(folder):
            raise CacheError(
                f"{folder} would be read and written at once; name another folder than {source} to write"
            )


def _refuse_others(archive: Path, cache: Path, stages: list[Path]) -> None:
    """Raise CacheError for files of an earlier archive that are of other corpora, stages or shards."""
    expected = {Path(corpus.name, name) for corpus in cache.iterdir() for name in (TABLE, IDENTITY, SOURCES)}
    expected |= {path.relative_to(cache) for path in cache.glob(f"*/{DECODERS}")}
    for folder in stages:
        names = [f"{shard.name}.h5" for shard in read_index(folder).shards]
        expected |= {folder.relative_to(cache) / name for name in (PACKED, *names)}
    there = sorted(path.relative_to(archive) for path in archive.glob("*/**/*") if path.is_file())
    shown = [path for path in there if not any(part.startswith(".") for part in path.parts)]  # not .git
    others = [path for path in shown if path not in expected]
    if others:
        raise CacheError(
            f"{archive} holds {counted(len(others), 'file')} that {cache} does not have, such as "
            f"{others[0]}; an archive is published as a whole: remove them, or name a new folder"
        )


def _refuse_other_corpus(archive: Path, cache: Path, name: str) -> None:
    """Raise CacheError if a folder of the cache belongs to another corpus than the archive's of this name.

    Unpacking would replace its clip table, and its stages would lose their shards.
    """
    there, packed = read_identity(cache, name), read_identity(archive, name)
    if there is None or packed is None:
        return
    if there.clips == packed.clips:
        known, media = recorded_media(cache, name), recorded_media(archive, name)
        if all(known[path][2] == media[path][2] for path in known.keys() & media.keys()):
            return
    elif there.same_place(packed):  # the archive is of an earlier or a later state of the corpus
        clips = [{(c.id, c.speaker) for c in read_table(root, name).clips} for root in (cache, archive)]
        if clips[0] & clips[1]:
            return
    raise CacheError(
        f"{cache / name} is of another corpus ({there.table or there.root}) than the folder of this name in "
        f"{archive} ({packed.table or packed.root}); unpack the archive into another folder than {cache}"
    )


def _copy_tables(source: Path, target: Path) -> None:
    """Copy the clip tables, and the records of the corpus of each folder and of its media files."""
    for name in (TABLE, IDENTITY, SOURCES):
        for path in source.glob(f"*/{name}"):
            with atomic_path(target / path.relative_to(source)) as temporary:
                shutil.copyfile(path, temporary)


def _copy_decoders(source: Path, target: Path, stages: list[Path]) -> None:
    """Copy which decoders made the shards of the stages; what the target records of others is kept."""
    for corpus in sorted({folder.parent for folder in stages}):
        recorded = read_decoders(corpus)
        names = [stage.name for stage in stages if stage.parent == corpus]
        copied = {name: recorded[name] for name in names if name in recorded}
        if copied:  # archives of an earlier deiii have none
            place = target / corpus.name
            write_json(place / DECODERS, read_decoders(place) | copied, indent=None)


def _each(
    stages: list[Path], read: Callable[[Path], StageIndex], progress: bool, what: str
) -> Iterator[tuple[Path, StageIndex, ShardRecord, ProgressBar]]:
    """Yield every shard of the stages: folder of the stage, its index, the shard's record, a progress bar."""
    indices = [(folder, read(folder)) for folder in stages]
    count = sum(len(index.shards) for _, index in indices)
    with progress_bar(desc=what, unit="shard", total=count, shown=progress) as bar:
        for folder, index in indices:
            for shard in index.shards:
                yield folder, index, shard, bar


def _pack_shard(source: Path, shard: ShardRecord, target: Path) -> None:
    packer = _plugin().Blosc2(cname="zstd", clevel=5, filters=_plugin().Blosc2.BITSHUFFLE)
    info = read_info(source)
    if info.digest != shard.digest:
        raise ShardError(f"{source}: it is not the shard that the index lists; run `deiii verify`")
    # `unpack` would refuse such a shard, and the cache may be gone by then.
    if content_digest(source, info) != shard.digest:
        raise ShardError(
            f"{source}: its bytes have changed since it was written; run `deiii preprocess` with the same "
            "settings, which computes damaged shards again, then pack"
        )
    make_folder(target.parent)
    remove_temporary(target.parent)
    # In memory: HDF5 crashes the process if it cannot flush a file because the disk is full.
    with (
        h5py.File(source, "r", locking=False) as old,
        h5py.File(target, "w", driver="core", backing_store=False) as new,
    ):
        for name, value in old.attrs.items():
            new.attrs[name] = value
        new.attrs["packed"] = True
        for name in old:
            data = old[name]
            how: dict[str, Any] = {}
            if name not in COLUMNS and data.nbytes > 4096:
                row = max(1, data.nbytes // data.shape[0])
                chunk = min(data.shape[0], max(1, CHUNK_BYTES // row))
                how = {"chunks": (chunk, *data.shape[1:]), "compression": packer}
            new.create_dataset(name, data=data[()], **how)
        new.flush()
        packed = new.id.get_file_image()
    with atomic_path(target) as temporary:
        temporary.write_bytes(packed)


def _unpack_shard(source: Path, digest: str, target: Path) -> None:
    if not source.exists():
        raise ShardError(f"{source} is missing; copy or fetch the archive again")
    make_folder(target.parent)
    remove_temporary(target.parent)
    try:
        with h5py.File(source, "r", locking=False) as file:
            if not file.attrs.get("packed", False):
                raise ShardError(f"{source}: not a packed shard")
            if file.attrs["digest"] != digest:
                raise ShardError(f"{source}: it is not the shard that {PACKED} lists")
            fields = sorted(n for n in file if n not in COLUMNS)
            for name in file:
                data = file[name]
                if not isinstance(data, h5py.Dataset):
                    raise ShardError(f"{source}: {name!r} is not an array")
                if data.external or data.is_virtual or data.nbytes > MOST_RATIO * data.id.get_storage_size():
                    raise ShardError(f"{source}: {name!r} claims {data.nbytes} bytes that are not there")
            _rewrite(file, fields, digest, target)
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, ShardError) or _is_write_error(error, target):
            raise
        raise ShardError(f"{source}: not a readable packed shard ({error}); pack the cache again") from None


def _is_write_error(error: BaseException, target: Path) -> bool:
    """Return whether the machine or the written file has caused an error, not the file that is read."""
    return is_machine_trouble(error) or (isinstance(error, OSError) and error.filename == str(target))


def _rewrite(file: h5py.File, fields: list[str], digest: str, target: Path) -> None:
    """Write a packed shard as an ordinary one, and check its content digest."""
    offsets = file["offsets"][()]
    text = {n: [v.decode() for v in file[n][()]] for n in ("clip_id", "status", "reason", "source")}
    attrs = file.attrs
    writer = ShardWriter(target, attrs["stage"], attrs["key"], json.loads(attrs["provenance"]))
    with writer as shard:
        for i, clip in enumerate(text["clip_id"]):
            low, high = int(offsets[i]), int(offsets[i + 1])
            outcome = Outcome(Status(text["status"][i]), text["reason"][i], float(file["fraction"][i]))
            arrays = {n: np.asarray(file[n][low:high]) for n in fields} if outcome.usable else {}
            shard.add(clip, outcome, arrays, text["source"][i])
    if record_shard(target).digest != digest:
        target.unlink()
        raise ShardError(f"{file.filename}: its content is not what was packed; copy the archive again")


def _plugin() -> ModuleType:
    try:
        import hdf5plugin
    except ImportError:
        remedy = install_command("archive")
        raise CacheError(f"the packed form needs the package hdf5plugin: {remedy}") from None
    return hdf5plugin
