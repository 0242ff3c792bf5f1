"""Is every byte of a cache what it was when it was written?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deiii.data.cache import INDEX, TABLE, CacheError, ShardRecord, read_index, read_table
from deiii.data.integrity import Finding, examine


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
