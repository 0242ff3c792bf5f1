"""What is finished, what is stale, what is left to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from deiii.data.cache.index import CacheError, ShardRecord, corpus_folder, read_index, record_shard
from deiii.data.cache.integrity import find_defects
from deiii.data.cache.outcomes import Status
from deiii.data.cache.recipes import Recipe
from deiii.data.cache.shard_plan import ShardPlan
from deiii.data.cache.shards import ShardError, content_digest, read_info
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import write_json
from deiii.pipeline.stages.shard import source_digest

SOURCES = "sources.json"
RETRIED = {Status.TIMED_OUT, Status.OUT_OF_MEMORY, Status.CRASHED_DECODER}  # may be the machine's doing


class Sources:
    """Digests of the media files, remembered with size and time so that most need no reading."""

    def __init__(self, cache: str | Path, corpus: Corpus):
        self.path = corpus_folder(cache, corpus.name) / SOURCES
        self.root = Path(corpus.root)
        self.seen: dict[str, list] = {}
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
            self.known: Mapping[str, list] = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            self.known = {}  # only a memory of digests; without it files are read again

    def digests(self, paths: Sequence[str]) -> dict[str, str]:
        """SHA-256 of each media file, empty for one that is not there."""
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(paths, pool.map(self._digest, paths), strict=True))

    def _digest(self, path: str) -> str:
        try:
            stat = (self.root / path).stat()
        except OSError:
            return ""
        entry = self.known.get(path)
        if not (isinstance(entry, list) and entry[:2] == [stat.st_size, stat.st_mtime_ns]):
            entry = [stat.st_size, stat.st_mtime_ns, source_digest(self.root / path)]
        self.seen[path] = entry
        return entry[2]

    def save(self, rows: Mapping[str, str]) -> None:
        """Remember the digests that a finished run recorded for its clips (path to SHA-256)."""
        entries = dict(self.seen)
        for path, digest in rows.items():
            if digest and path not in entries:
                with suppress(OSError):  # gone since it was read; nothing to remember
                    stat = (self.root / path).stat()
                    entries[path] = [stat.st_size, stat.st_mtime_ns, digest]
        entries = {p: entries[p] for p in sorted(entries)}
        if entries != self.known:
            write_json(self.path, entries, indent=None)


def finished_shards(
    folder: Path, recipe: Recipe, plans: Sequence[ShardPlan], sources: Sources, config: Config
) -> tuple[dict[str, ShardRecord], list[str]]:
    """The shards of a stage that need no work, and a line about each that was set aside.

    A shard counts when its file is whole, was made by this recipe and its clips' media files have
    not changed since; ``config.retry`` leaves out those with a clip that ran into a limit. One that
    its index lists must be what the index says; one that no index lists (a run was cut off) must
    match its own digest.
    """
    try:
        indexed = {s.name: s for s in read_index(folder).shards}
    except CacheError:
        indexed = {}
    there = [p for p in plans if (folder / f"{p.name}.h5").exists()]
    listed = [(folder, indexed[p.name]) for p in there if p.name in indexed]
    damaged = {f.path.stem: f.defect for f in find_defects(listed, config.check == "bytes")}
    done: dict[str, ShardRecord] = {}
    notes: list[str] = []
    for plan in there:
        path = folder / f"{plan.name}.h5"
        record, trouble = indexed.get(plan.name), damaged.get(plan.name, "")
        if record is None:
            record, trouble = adopt(path, recipe)
        if record is None or trouble:
            notes.append(set_aside(path, trouble))
            continue
        if config.retry and any(row.status in RETRIED for row in record.clips):
            continue
        digests = sources.digests([c.path for c in plan.clips])
        if all(row.source == digests[c.path] for row, c in zip(record.clips, plan.clips, strict=True)):
            done[plan.name] = record
    return done, notes


def adopt(path: Path, recipe: Recipe) -> tuple[ShardRecord | None, str]:
    """The record of a shard that no index lists (a run was cut off), if its bytes are right."""
    try:
        info = read_info(path)
        if (info.stage, info.key) != (recipe.stage, recipe.key):
            return None, "it belongs to another stage"
        if content_digest(path, info) != info.digest:
            return None, "its bytes do not match its digest"
        return record_shard(path), ""
    except (ShardError, OSError) as error:
        return None, str(error)


def set_aside(path: Path, why: str) -> str:
    """Rename a damaged shard out of the way, keep it for inspection, and say so."""
    kept = path.with_name(f"{path.name}.damaged")
    path.replace(kept)
    return f"{path.name} is damaged ({why}); kept as {kept.name} and made anew"
