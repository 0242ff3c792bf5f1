"""Preprocessing of a corpus: survey what the cache holds, compute what is missing, publish the result.

The modules of this folder and `deiii.data.cluster` connect to Dask; stages do not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from deiii.data.cache.index import INDEX, StageIndex, write_index, write_table
from deiii.data.cache.stages import FLOW, get_stage, import_function
from deiii.data.cluster.first_worker import first_worker_watch
from deiii.data.cluster.worker_checks import checked_workers, dashboard_words
from deiii.data.config.load import to_yaml
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.counts import counted
from deiii.data.tools.os_errors import STDOUT, explain, require_current_folder
from deiii.data.tools.processes.dask_workers import workers_of
from deiii.data.tools.processes.main_guard import refuse_in_worker
from deiii.data.tools.progress import progress_bar, say
from deiii.pipeline.corrupt.kinds import parse_corruption
from deiii.pipeline.preprocess.claim import claimed_folder, shared_recordings
from deiii.pipeline.preprocess.cluster import (
    device_lines,
    open_cluster,
    runs_on_gpu,
    stage_resources,
    wanted_workers,
    with_devices,
)
from deiii.pipeline.preprocess.needed_weights import fetch_needed
from deiii.pipeline.preprocess.read_only import READ_ONLY, finished_before
from deiii.pipeline.preprocess.summary import Summary, summarise
from deiii.pipeline.preprocess.survey import Survey, survey
from deiii.pipeline.preprocess.tasks import PreprocessError, TaskRunner, waits
from deiii.pipeline.preprocess.warm_up import start_models
from deiii.pipeline.preprocess.worker_settings import launched, settled, within_memory
from deiii.pipeline.stages.decoder_record import record_decoder
from deiii.pipeline.stages.shard import ShardTask, run_shard

__all__ = ["PreprocessError", "preprocess"]

IN_FLIGHT = 256  # tasks that are submitted to the scheduler at a time, or two a worker if that is more


def preprocess(config: Config, corpus: Corpus, report: Callable[[str], None] = say) -> Summary:
    """Bring the caches of a corpus up to date.

    Finished shards are kept, however the run that computed them ended. A changed setting or media file
    recomputes what depends on it and nothing else. A cache that is complete may be read-only.

    Args:
        config: settings; ``stages`` names the stages.
        corpus: the scanned corpus.
        report: called with each line of text for users.

    Returns:
        the outcomes of all clips, and how many shards were computed and reused.

    Raises:
        PreprocessError: a full or read-only disk, or shards that kill their workers.
        ConfigError: a stage does not exist, or settings do not fit the machine or each other.
        WeightsError: weights that a stage needs cannot be found.
        MachineFault: the machine or the installation keeps a stage from working.
        ClusterError: the Dask cluster cannot do the work.
        CorruptionError: ``corpus.corrupt`` is outside its limits.

    >>> preprocess(config, scan_corpus(config)).failed  # doctest: +SKIP
    0
    """
    refuse_in_worker()
    require_current_folder()
    if config.corpus.corrupt:
        parse_corruption(config.corpus.corrupt)  # refused here, not once for each clip
    start = time.monotonic()
    for note in corpus.notes:
        report(note)
    try:
        with claimed_folder(config, corpus, report) as corpus:
            found = survey(config, corpus, report)
            reused = found.finished()
            missing = len(found.missing())
            for line in _opening_lines(config, corpus, found):
                report(line)
            if missing:
                _compute_missing(config, corpus, found, report)
            indices = _publish(config, corpus, found)
            for line in shared_recordings(corpus, indices):
                report(line)
            seconds = time.monotonic() - start
            return summarise(config.cache, corpus, indices, seconds, missing, reused)
    except OSError as error:
        if error.filename == STDOUT:
            raise
        if error.errno in READ_ONLY and (finished := finished_before(config, corpus, report)):
            return finished
        raise PreprocessError(
            f"{explain(error)}. The cache folder {config.cache} must be writable and have free space; "
            "finished shards are kept: correct this, then run the same command again"
        ) from error


def _opening_lines(config: Config, corpus: Corpus, found: Survey) -> list[str]:
    """Return lines on the size of the corpus, on finished shards and on settings."""
    finished = ", ".join(
        f"{stage}-{recipe.key} {len(found.done[stage])}/{len(found.plans)}"
        for stage, recipe in found.recipes.items()
    )
    lines = [
        f"{corpus.title}: {counted(len(corpus.clips), 'clip')} of {counted(len(corpus.speakers), 'speaker')} "
        f"in {counted(len(found.plans), 'shard')}",
        f"shards finished: {finished}",
    ]
    for stage in found.recipes:
        note = get_stage(stage).note
        if note:
            lines.append(import_function(note)(config))
    return [line for line in lines if line]


def _compute_missing(config: Config, corpus: Corpus, found: Survey, report: Callable[[str], None]) -> None:
    """Compute the missing shards and add their records to ``found.done``."""
    stages = {stage for stage, _ in found.missing()}
    fetch_needed(config, stages, report)
    for stage in stages:
        (found.folders[stage] / INDEX).unlink(missing_ok=True)  # only a finished stage has an index
    try:
        _run_tasks(config, corpus, found, report)
    finally:
        with suppress(OSError):  # the error that ended the run is the one to report
            found.remove_temporary()


def _run_tasks(config: Config, corpus: Corpus, found: Survey, report: Callable[[str], None]) -> None:
    """Run a task for every missing shard, on one cluster after the other where there are two kinds."""
    root = str(Path(corpus.root).resolve())
    for turn, tasks in turns(settled(config), _tasks(found, root)):
        _run_turn(turn, tasks, root, found, report)


def turns(config: Config, tasks: list[ShardTask]) -> list[tuple[Config, list[ShardTask]]]:
    """Return the clusters that compute the tasks, one after the other, as settings with their tasks.

    Jobs and pods with a GPU (``cluster.gpu``) compute only what uses one: others decode the media first, so
    that no GPU waits for them. Stages that read the results of a GPU are computed on its cluster, too.
    """
    if not config.cluster.gpu or config.cluster.kind == "local":
        return [(config, tasks)]

    def needs_gpu(task: ShardTask) -> bool:
        names = (task.recipe.stage, task.recipe.upstream)
        return any(name is not None and runs_on_gpu(config, name) for name in names)

    without = replace(config, cluster=replace(config.cluster, gpu=False))
    parts = [(without, [t for t in tasks if not needs_gpu(t)]), (config, [t for t in tasks if needs_gpu(t)])]
    return [(settings, part) for settings, part in parts if part]


def _run_turn(
    config: Config, tasks: list[ShardTask], root: str, found: Survey, report: Callable[[str], None]
) -> None:
    """Start a cluster, or connect to one, and run the tasks."""
    startable = sum(not waits(task, found.done) for task in tasks)
    media = [clip.path for task in tasks if task.upstream is None for clip in task.plan.clips]
    folder = Path(tasks[0].folder)
    with (
        open_cluster(config, startable, report) as client,
        checked_workers(client, config, root, media, folder, [run_shard.__module__]) as check,
    ):
        workers = len(workers_of(client))
        report(f"{counted(workers, 'worker')}{_more_workers(config)}, {dashboard_words(client)}")
        computed = {task.recipe.stage for task in tasks}
        if config.cluster.kind != "local":
            report(f"they compute {', '.join(sorted(computed))}")
        of_media = [stage for stage in computed if found.recipes[stage].upstream is None]
        begun = {found.folders[stage].name: bool(found.done[stage]) for stage in of_media}
        for line in [*device_lines(client, config, check, computed), *record_decoder(folder.parent, begun)]:
            report(line)
        clips = sum(len(task.plan.clips) for task in tasks if task.recipe.stage == FLOW.name)
        settings = to_yaml(within_memory(launched(with_devices(client, config), clips)))
        absent = None if check is None else ()
        tasks = [replace(task, settings=settings, absent=absent) for task in tasks]
        limit = max(IN_FLIGHT, 2 * max(workers, wanted_workers(config)))
        warming = start_models(client, config, tasks, found.done)
        resources = stage_resources(client, config)
        watch = first_worker_watch(client, config)
        runner = TaskRunner(client, resources, check, limit, tasks, found.done, report, watch)
        total = sum(len(task.plan.clips) for task in tasks)
        with progress_bar(desc="preprocess (a step: one clip in one stage)", unit="step", total=total) as bar:
            runner.run(bar)
        del warming  # kept until here, because Dask releases a task when its last future is deleted


def _tasks(found: Survey, root: str) -> list[ShardTask]:
    """Return a task for every missing shard, shard by shard; settings are added once workers are known."""
    tasks = []
    for stage, plan in found.missing():
        recipe = found.recipes[stage]
        upstream = str(found.folders[recipe.upstream].resolve()) if recipe.upstream else None
        folder = str(found.folders[stage].resolve())
        tasks.append(ShardTask(recipe, plan, root, folder, upstream, settings=""))
    return tasks


def _more_workers(config: Config) -> str:
    """Return the end of the line on workers: how many more may come."""
    if config.cluster.adaptive:
        return f" (up to {wanted_workers(config) or 'one for each core'}, as there is work)"
    return f" of {wanted_workers(config)}" if config.cluster.kind != "local" else ""


def _publish(config: Config, corpus: Corpus, found: Survey) -> dict[str, StageIndex]:
    """Write the index of each stage, then the clip table, then the digests of the media files."""
    indices = {}
    for stage, recipe in found.recipes.items():
        records = [found.done[stage][plan.name] for plan in found.plans]
        indices[stage] = StageIndex(stage, recipe.key, recipe.provenance, records)
        write_index(found.folders[stage], indices[stage])
    write_table(config.cache, corpus)
    paths = {clip.id: clip.path for clip in corpus.clips}
    rows = next(iter(indices.values())).clips
    found.digests.save({paths[clip_id]: row.source for clip_id, row in rows.items()})
    return indices
