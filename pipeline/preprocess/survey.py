"""Find the finished, stale and missing shards in the cache of a corpus before a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deiii.data.cache.index import (
    INDEX,
    TABLE,
    CacheError,
    ShardRecord,
    corpus_folder,
    read_index,
    record_shard,
    stage_folder,
)
from deiii.data.cache.integrity import find_defects
from deiii.data.cache.outcomes import Status
from deiii.data.cache.recipes import Recipe, recipes
from deiii.data.cache.shard_plan import ShardPlan, plan_shards
from deiii.data.cache.shards import ShardError, content_digest, read_info
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import remove_temporary
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.progress import BAR_AFTER_S, progress_bar
from deiii.pipeline.preprocess.media_digests import MediaDigests

# Outcomes that a busy machine can cause; retry=true computes shards with such clips again.
RETRIED_ALWAYS = {Status.FAILED}  # outcomes that every run tries again
RETRIED = {Status.TIMED_OUT, Status.OUT_OF_MEMORY, Status.CRASHED_DECODER}


@dataclass
class Survey:
    """The state of a corpus's cache.

    Attributes:
        recipes: name, key and settings of each configured stage.
        folders: the cache folder of each stage.
        plans: the shards of the corpus, the same for every stage.
        done: records of finished shards by stage and shard name; a run adds those that it computes.
        digests: digests of the media files.
    """

    recipes: Mapping[str, Recipe]
    folders: Mapping[str, Path]
    plans: Sequence[ShardPlan]
    done: dict[str, dict[str, ShardRecord]]
    digests: MediaDigests

    def missing(self) -> list[tuple[str, ShardPlan]]:
        """Return stage and plan of every shard that has to be computed, shard by shard."""
        return [
            (stage, plan)
            for plan in self.plans
            for stage in self.recipes
            if plan.name not in self.done[stage]
        ]

    def finished(self) -> int:
        """Return the number of finished shards of all stages."""
        return sum(len(records) for records in self.done.values())

    def remove_temporary(self) -> None:
        """Remove unfinished files from the folders of the stages."""
        for folder in self.folders.values():
            remove_temporary(folder)


def survey(config: Config, corpus: Corpus, report: Callable[[str], None]) -> Survey:
    """Find out which shards of a corpus are finished; damaged ones are renamed.

    The caller holds the cache's lock.

    Args:
        config: settings.
        corpus: the scanned corpus.
        report: called with a line about each damaged file.

    >>> found = survey(config, corpus, print)  # doctest: +SKIP
    >>> len(found.missing())  # doctest: +SKIP
    12
    """
    stages = recipes(config)
    folders = {name: stage_folder(config.cache, corpus.name, name, r.key) for name, r in stages.items()}
    plans = plan_shards(corpus, config.corpus.clips_per_shard)
    found = Survey(stages, folders, plans, {}, MediaDigests(config.cache, corpus))
    for folder in folders.values():
        make_folder(folder)
    found.remove_temporary()
    for path in [*(f / INDEX for f in folders.values()), corpus_folder(config.cache, corpus.name) / TABLE]:
        if path.is_dir():
            report(set_aside(path, "it is a folder"))
    for name, recipe in stages.items():
        found.done[name], notes = finished_shards(folders[name], recipe, plans, found.digests, config)
        for note in notes:
            report(note)
    return found


def finished_shards(
    folder: Path, recipe: Recipe, plans: Sequence[ShardPlan], digests: MediaDigests, config: Config
) -> tuple[dict[str, ShardRecord], list[str]]:
    """Return the shards of a stage that need no work.

    A shard is finished if its file is undamaged, was computed by this recipe, and its clips' media
    files have not changed since. Shards with a clip that failed by an unexpected error are left
    out; with ``config.retry``, also those with a clip that ran into a limit.

    Returns:
        the records by shard name, and a line about each damaged shard, which is renamed.
    """
    undamaged, notes = _undamaged_shards(folder, recipe, plans, config)
    return unchanged_shards(undamaged, digests, config.retry), notes


def unchanged_shards(
    undamaged: Sequence[tuple[ShardPlan, ShardRecord]], digests: MediaDigests, retry: bool
) -> dict[str, ShardRecord]:
    """Return, by name, the undamaged shards that no run computes again.

    Args:
        undamaged: plan and record of each shard.
        digests: digests of the media files.
        retry: also leave out shards with a clip that ran into a limit.

    >>> unchanged_shards([], digests, retry=False)  # doctest: +SKIP
    {}
    """
    again = RETRIED_ALWAYS | (RETRIED if retry else set())
    undamaged = [
        (plan, record) for plan, record in undamaged if not any(row.status in again for row in record.clips)
    ]
    current = digests.of([clip.path for plan, _ in undamaged for clip in plan.clips])
    done = {}
    for plan, record in undamaged:
        pairs = zip(record.clips, plan.clips, strict=True)
        if all(row.source == current[clip.path] for row, clip in pairs):
            done[plan.name] = record
    return done


def _undamaged_shards(
    folder: Path, recipe: Recipe, plans: Sequence[ShardPlan], config: Config
) -> tuple[list[tuple[ShardPlan, ShardRecord]], list[str]]:
    """Return shards whose files are undamaged, with their records, and a line about each damaged shard.

    A shard that the index lists must agree with the index. One that no index lists, because a run was
    interrupted, must agree with its own digest.
    """
    try:
        indexed = {s.name: s for s in read_index(folder).shards}
    except CacheError:
        indexed = {}
    present = [plan for plan in plans if (folder / f"{plan.name}.h5").exists()]
    listed = [(folder, indexed[plan.name]) for plan in present if plan.name in indexed]
    defects = {d.path.stem: d.defect for d in find_defects(listed, config.check == "bytes")}
    undamaged = []
    notes = []
    shards = progress_bar(present, desc="checking shards", unit="shard", delay=BAR_AFTER_S, leave=False)
    for plan in shards:
        path = folder / f"{plan.name}.h5"
        record = indexed.get(plan.name)
        defect = defects.get(plan.name, "")
        if record is None:
            record, defect = adopt(path, recipe)
        if record is None or defect:
            notes.append(set_aside(path, defect))
        else:
            undamaged.append((plan, record))
    return undamaged, notes


def adopt(path: Path, recipe: Recipe) -> tuple[ShardRecord | None, str]:
    """Return the record of a shard that no index lists; ``None`` and its defect where it is damaged."""
    try:
        info = read_info(path)
        if (info.stage, info.key) != (recipe.stage, recipe.key):
            return None, "it belongs to another stage"
        if content_digest(path, info) != info.digest:
            return None, "its bytes do not match its digest"
        return record_shard(path), ""
    except (ShardError, OSError) as error:
        return None, str(error)


def set_aside(path: Path, defect: str) -> str:
    """Rename a damaged file to ``*.damaged``, which keeps it for inspection; returns a line on this."""
    kept = path.with_name(f"{path.name}.damaged")
    path.replace(kept)
    return f"{path.name} is damaged ({defect}); it was renamed to {kept.name} and will be computed again"
