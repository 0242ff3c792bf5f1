"""Is a finished shard still what it was when it was written?

One place says so for all three that ask: ``verify``, preprocessing before it reuses a shard, and
training before it reads one. Rot leaves size and time alone, so only reading every byte tells.

>>> examine([(folder, record)], every_byte=True)                 # doctest: +SKIP
[Finding(path=..., defect='its bytes have changed since it was written')]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deiii.data.cache.index import INDEX, TABLE, CacheError, ShardRecord, read_index, read_table
from deiii.data.cache.shards import ShardError, read_info
from deiii.data.tools.atomic_files import file_sha256
from deiii.data.tools.progress import BAR_AFTER_S, progress_bar

THREADS = 4


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file of a cache."""

    path: Path
    defect: str


def examine(shards: Sequence[tuple[Path, ShardRecord]], every_byte: bool) -> list[Finding]:
    """What is wrong with shards that indices list, at most one finding a shard, in their order.

    Args:
        shards: each with its stage's folder.
        every_byte: read the files (about 1.5 GB/s a core, as fast as the disk gives them); else
            compare sizes alone.
    """
    total = sum(record.bytes for _, record in shards)
    bar = progress_bar(
        desc="checking shards", unit="B", total=total, scale=True, delay=BAR_AFTER_S, leave=False
    )
    findings = []
    with bar, ThreadPoolExecutor(THREADS) as pool:
        # asking for a size takes less time than handing the question to a thread
        checks = (pool.map if every_byte else map)(lambda pair: defect(*pair, every_byte=every_byte), shards)
        for (folder, record), found in zip(shards, checks, strict=True):
            bar.update(record.bytes)
            if found:
                findings.append(Finding(folder / f"{record.name}.h5", found))
    return findings


def defect(folder: Path, record: ShardRecord, every_byte: bool = True) -> str:
    """How a shard differs from its record, in words; empty where it does not."""
    path = folder / f"{record.name}.h5"
    try:
        size = path.stat().st_size
        if size != record.bytes:
            return f"{size} bytes instead of {record.bytes}"
        if not every_byte:
            return ""
        if file_sha256(path) != record.sha256:
            return "its bytes have changed since it was written"
        info = read_info(path)
        if (info.digest, dict(info.fields), info.clips) != (
            record.digest,
            dict(record.fields),
            record.clips,
        ):
            return "it is another shard than the index lists"
    except FileNotFoundError:
        return "missing"
    except (OSError, ShardError) as error:
        return str(error)
    return ""


def require_whole(shards: Sequence[tuple[Path, ShardRecord]], every_byte: bool) -> None:
    """Refuse shards that are not what they were.

    Raises:
        CacheError: names the first and says what to run.
    """
    findings = examine(shards, every_byte)
    if findings:
        first, more = findings[0], len(findings) - 1
        others = f" (and {more} more, which `make verify` lists)" if more else ""
        raise CacheError(
            f"{first.path}: {first.defect}{others}; run `make preprocess` with the same settings, "
            "which makes damaged shards anew and keeps the others"
        )


def verify(cache: str | Path) -> tuple[int, list[Finding]]:
    """Check every shard below a cache folder against its stage's index, and the clip tables.

    Returns:
        the number of shards checked and what is wrong, one finding a file.
    """
    findings: list[Finding] = []
    for table in sorted(Path(cache).glob(f"*/{TABLE}")):
        try:
            read_table(cache, table.parent.name)
        except CacheError as error:
            findings.append(Finding(table, str(error)))
    shards: list[tuple[Path, ShardRecord]] = []
    for folder in sorted(p for p in Path(cache).glob("*/*-*") if p.is_dir()):
        try:
            index = read_index(folder)
        except CacheError as error:
            findings.append(Finding(folder / INDEX, str(error)))
            continue
        shards += [(folder, record) for record in index.shards]
        findings += _strangers(folder, {s.name for s in index.shards})
    return len(shards), findings + examine(shards, every_byte=True)


def _strangers(folder: Path, names: set[str]) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".tmp"):
            yield Finding(path, "left by a run that was cut off; `make preprocess` removes it")
        elif path.suffix == ".h5" and path.stem not in names:
            yield Finding(path, "not in the index: of an older clip table, or of a run that was cut off")
