"""Is a finished shard still what it was when it was written?

One place says so for all three that ask: ``verify``, preprocessing before it reuses a shard, and
training before it reads one. Rot leaves size and time alone, so only reading every byte tells.

>>> examine([(folder, record)], every_byte=True)                 # doctest: +SKIP
[Finding(path=..., trouble='its bytes have changed since it was written')]
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from deiii.data.atomic import file_sha256
from deiii.data.cache import CacheError, ShardRecord
from deiii.data.shards import ShardError, read_info

THREADS = 4


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file of a cache."""

    path: Path
    trouble: str


def examine(shards: Sequence[tuple[Path, ShardRecord]], every_byte: bool) -> list[Finding]:
    """What is wrong with shards that indices list, at most one finding a shard, in their order.

    Args:
        shards: each with its stage's folder.
        every_byte: read the files (about 1.5 GB/s a core, as fast as the disk gives them); else
            compare sizes alone.
    """
    total = sum(record.bytes for _, record in shards)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="checking shards", delay=2, leave=False)
    findings = []
    with bar, ThreadPoolExecutor(THREADS) as pool:
        # asking for a size takes less time than handing the question to a thread
        checks = (pool.map if every_byte else map)(lambda pair: trouble(*pair, every_byte=every_byte), shards)
        for (folder, record), found in zip(shards, checks, strict=True):
            bar.update(record.bytes)
            if found:
                findings.append(Finding(folder / f"{record.name}.h5", found))
    return findings


def trouble(folder: Path, record: ShardRecord, every_byte: bool = True) -> str:
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
            f"{first.path}: {first.trouble}{others}; run `make preprocess` with the same settings, "
            "which makes damaged shards anew and keeps the others"
        )
