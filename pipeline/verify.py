"""Is every byte of a cache what it was when it was written?"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data.atomic import file_sha256
from data.cache import INDEX, CacheError, ShardRecord, read_index
from data.shards import ShardError, read_info


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file of a cache."""

    path: Path
    trouble: str


def verify(cache: str | Path) -> tuple[int, list[Finding]]:
    """Check every shard below a cache folder against its stage's index.

    Returns:
        the number of shards checked and what is wrong, one finding a file.
    """
    stages = sorted(p for p in Path(cache).glob("*/*-*") if p.is_dir())
    findings: list[Finding] = []
    shards: list[tuple[Path, ShardRecord]] = []
    for folder in stages:
        try:
            index = read_index(folder)
        except CacheError as error:
            findings.append(Finding(folder / INDEX, str(error)))
            continue
        shards += [(folder, record) for record in index.shards]
        findings += _strangers(folder, {s.name for s in index.shards})
    with ThreadPoolExecutor(4) as pool:
        checks = pool.map(lambda pair: _check(*pair), shards)
        for found in tqdm(checks, total=len(shards), unit="shard", desc="verify", disable=len(shards) < 50):
            findings += [found] if found else []
    return len(shards), findings


def _check(folder: Path, record: ShardRecord) -> Finding | None:
    path = folder / f"{record.name}.h5"
    try:
        if path.stat().st_size != record.bytes:
            return Finding(path, f"{path.stat().st_size} bytes instead of {record.bytes}")
        if file_sha256(path) != record.sha256:
            return Finding(path, "its bytes have changed since it was written")
        if read_info(path).digest != record.digest:
            return Finding(path, "it is another shard than the index lists")
    except FileNotFoundError:
        return Finding(path, "missing")
    except (OSError, ShardError) as error:
        return Finding(path, str(error))
    return None


def _strangers(folder: Path, names: set[str]) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".tmp"):
            yield Finding(path, "left by a run that was cut off; `make preprocess` removes it")
        elif path.suffix == ".h5" and path.stem not in names:
            yield Finding(path, "not in the index: of an older clip table, or of a run that was cut off")
