"""Check that finished shards are unchanged since they were written.

``deiii verify``, preprocessing (before it reuses a shard) and training (before it reads one) all use
this check. Bit rot changes neither size nor modification time, so only reading every byte finds it.

>>> find_defects([(folder, record)], every_byte=True)                 # doctest: +SKIP
[CacheDefect(path=..., defect='its bytes have changed since it was written')]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deiii.data.cache.index import (
    INDEX,
    TABLE,
    CacheError,
    ShardRecord,
    read_index,
    read_table,
    remedy_for,
)
from deiii.data.cache.shards import ShardError, ShardInfo, content_digest, read_info, structure_digest
from deiii.data.tools.atomic_files import TEMPORARY
from deiii.data.tools.progress import BAR_AFTER_S, progress_bar

THREADS = 4
CHANGED = "its bytes have changed since it was written"
UNLISTED = (
    "not in the index, so it is not used: its clips are not in the clip table any more; delete it, or keep "
    "it for clips that will return to the table"
)


@dataclass(frozen=True)
class CacheDefect:
    """One defect of a cache: the file, and what is wrong with it in words."""

    path: Path
    defect: str


def find_defects(shards: Sequence[tuple[Path, ShardRecord]], every_byte: bool) -> list[CacheDefect]:
    """Compare shards with their index records; at most one defect per shard, in the order of ``shards``.

    Args:
        shards: the folder of the stage and the index record of each shard.
        every_byte: read every file (about 1.5 GB/s a core, if the disk is as fast); else compare only
            the sizes.
    """
    total = sum(record.bytes for _, record in shards)
    bar = progress_bar(
        desc="checking shards", unit="B", total=total, scale=True, delay=BAR_AFTER_S, leave=False
    )

    def check(pair: tuple[Path, ShardRecord]) -> str:
        return shard_defect(*pair, every_byte=every_byte)

    defects = []
    with bar, ThreadPoolExecutor(THREADS) as pool:
        # Without reading, a check takes less time than passing it to a thread.
        checks = pool.map(check, shards) if every_byte else map(check, shards)
        for (folder, record), found in zip(shards, checks, strict=True):
            bar.update(record.bytes)
            if found:
                defects.append(CacheDefect(folder / f"{record.name}.h5", found))
    return defects


def shard_defect(folder: Path, record: ShardRecord, every_byte: bool = True) -> str:
    """Describe how a shard differs from its index record; empty if it does not differ."""
    path = folder / f"{record.name}.h5"
    try:
        size = path.stat().st_size
        if size != record.bytes:
            return f"{size} bytes instead of {record.bytes}"
        if not every_byte:
            return ""
        same = structure_digest(path, record.fields) == record.structure
        info = read_info(path)
        whole = content_digest(path, info) == info.digest
        if not whole or not same and _describes(record, info):
            return CHANGED
        if not _describes(record, info):
            return "it is another shard than the index lists"
    except FileNotFoundError:
        return "missing"
    except (OSError, ShardError) as error:
        return str(error)
    return ""


def _describes(record: ShardRecord, info: ShardInfo) -> bool:
    """Return whether a file matches its index record."""
    listed = (record.digest, dict(record.fields), record.clips)
    return listed == (info.digest, dict(info.fields), info.clips)


def require_whole(shards: Sequence[tuple[Path, ShardRecord]], every_byte: bool) -> None:
    """Raise an error where a shard has changed since it was written.

    Raises:
        CacheError: names the first changed shard and the command that computes it again.
    """
    defects = find_defects(shards, every_byte)
    if defects:
        first = defects[0]
        more = len(defects) - 1
        others = f" (and {more} more, which `deiii verify` lists)" if more else ""
        raise CacheError(
            f"{first.path}: {first.defect}{others}; run `deiii preprocess` with the same settings, "
            "which computes damaged shards again and keeps the others"
        )


def verify(cache: str | Path) -> tuple[int, list[CacheDefect]]:
    """Check every shard below a cache folder against its stage's index, and the clip tables.

    Returns:
        the number of shards checked, and the defects, at most one a file.

    Raises:
        CacheError: the folder does not exist, or it holds no stage.
    """
    cache = Path(cache)
    if not cache.is_dir():
        raise CacheError(
            f"there is no cache folder {cache}; name another one with cache=FOLDER, or run `deiii preprocess`"
        )
    # A folder with a clip table is that of a corpus: the folder above the cache was named.
    folders = sorted(p for p in cache.glob("*/*-*") if p.is_dir() and not (p / TABLE).exists())
    if not folders:
        remedy = remedy_for(cache, "name another folder with cache=FOLDER, or run `deiii preprocess`")
        raise CacheError(f"{cache} holds no features of any corpus; {remedy}")
    defects: list[CacheDefect] = []
    for table in sorted(cache.glob(f"*/{TABLE}")):
        try:
            read_table(cache, table.parent.name)
        except CacheError as error:
            defects.append(CacheDefect(table, str(error)))
    shards: list[tuple[Path, ShardRecord]] = []
    for folder in folders:
        try:
            index = read_index(folder)
        except CacheError as error:
            defects.append(CacheDefect(folder / INDEX, str(error)))
            continue
        shards += [(folder, record) for record in index.shards]
        defects += _unlisted(folder, {s.name for s in index.shards})
    return len(shards), defects + find_defects(shards, every_byte=True)


def _unlisted(folder: Path, names: set[str]) -> Iterator[CacheDefect]:
    """Yield files of a stage's folder that its index does not list."""
    for path in sorted(folder.iterdir()):
        if path.name.endswith(TEMPORARY):
            yield CacheDefect(path, "left by an interrupted run; `deiii preprocess` removes it")
        elif path.suffix == ".h5" and path.stem not in names:
            yield CacheDefect(path, UNLISTED)
