"""Compute one shard of one stage: read the clips, run the stage, write the file.

`run_shard` is the function that workers run. It does not use Dask: it gets paths and returns a small record,
and it writes the same bytes in any process. Detectors and networks are loaded once per process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deiii.data.cache.index import ShardRecord, record_of
from deiii.data.cache.outcomes import Outcome, StageResult, Status, is_machine_trouble
from deiii.data.cache.recipes import Recipe
from deiii.data.cache.shard_plan import ShardPlan
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.cache.shards import open_shard
from deiii.data.cache.stages import get_stage
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip
from deiii.data.tools.atomic_files import file_sha256
from deiii.data.tools.counts import examples
from deiii.data.tools.os_errors import is_missing
from deiii.pipeline.stages.clip import (
    check_models,
    compute_alone,
    inherited,
    load_models,
    load_settings,
    read_clip,
    run_clip,
    run_downstream,
    settle_process,
    start_together,
)
from deiii.pipeline.stages.first_clips import watch_first_clips
from deiii.pipeline.stages.limits import memory_limit, time_left, time_limit
from deiii.pipeline.stages.together import ClipsTogether


@dataclass(frozen=True)
class ShardTask:
    """Everything that a worker needs to compute one shard.

    Attributes:
        recipe: the stage and its key.
        plan: the clips.
        root: folder of the corpus.
        folder: folder of the stage in the cache.
        upstream: folder of the stage upstream; ``None`` if there is none.
        settings: the settings as YAML text.
        isolate: run the clips in processes of their own, after a worker died on this shard.
        absent: media files that the main process does not find either, relative to ``root``; ``None`` where
            it finds the same files as every worker, because all are on one machine.
    """

    recipe: Recipe
    plan: ShardPlan
    root: str
    folder: str
    upstream: str | None
    settings: str
    isolate: bool = False
    absent: tuple[str, ...] | None = None


class UnseenFiles(RuntimeError):
    """This process does not find media files that the main process may find.

    Attributes:
        paths: the files, relative to the root of the corpus.
    """

    def __init__(self, words: str, paths: Sequence[str] = ()):
        super().__init__(words)
        self.paths = tuple(paths)


def run_shard(task: ShardTask) -> ShardRecord:
    """Compute one shard, write its file atomically and return its index record.

    Raises:
        OSError: the disk of the cache is full, read-only or missing; errors of clips become outcomes.
        MachineFault: the machine or the installation keeps the stage from working.
        WeightsError: the weights of the stage cannot be found or are damaged.
        ConfigError: the stage returned other arrays than it declares.
        UnseenFiles: some of the media files are not found, and not known as absent. Nothing is written.

    >>> run_shard(task).clips[0].status  # doctest: +SKIP
    'ok'
    """
    settle_process()
    stage = get_stage(task.recipe.stage)
    config = load_settings(task.settings)
    # Fail here, so that bad weights or missing packages are not recorded as failures of clips.
    if task.isolate:
        check_models(stage.name, config)
    else:
        load_models(stage.name, config)
    media = [clip.path for clip in task.plan.clips] if task.upstream is None else []
    refuse_unseen(task, [path for path in media if is_missing(Path(task.root) / path)])
    path = Path(task.folder) / f"{task.plan.name}.h5"
    sources = [source_digest(Path(task.root) / clip.path) for clip in task.plan.clips]
    with ShardWriter(path, stage.name, task.recipe.key, task.recipe.provenance) as writer:
        results = _results(task, config)
        for clip, source, result in zip(task.plan.clips, sources, results, strict=True):
            # A file that was deleted before it was decoded gets no digest, so it counts as changed if it
            # returns.
            gone = result.outcome.status is Status.MISSING
            if gone and task.upstream is None:  # it has vanished since
                refuse_unseen(task, [clip.path])
            stage.check(result.arrays, config)
            writer.add(clip.id, result.outcome, result.arrays, "" if gone else source)
    if writer.info is None:
        raise RuntimeError(f"{path} was not published")
    return record_of(path, writer.info, writer.structure)


def refuse_unseen(task: ShardTask, missing: Sequence[str]) -> None:
    """Refuse to record that media files are missing before the main process has looked for them.

    Args:
        task: the shard.
        missing: files that this process does not find, relative to the root of the corpus.

    Raises:
        UnseenFiles: the task does not say that they are absent.
    """
    unseen = [path for path in missing if task.absent is not None and path not in task.absent]
    if unseen:
        raise UnseenFiles(
            f"it does not find {examples(str(Path(task.root) / path) for path in unseen)}", unseen
        )


def source_digest(path: Path) -> str:
    """Return the SHA-256 of a media file; empty if it is missing, unreadable or no regular file.

    Raises:
        OSError: an error of the machine, such as a disk that does not answer.
    """
    try:
        return file_sha256(path) if path.is_file() else ""
    except OSError as error:
        if is_machine_trouble(error):
            raise
        return ""


def _results(task: ShardTask, config: Config) -> Iterator[StageResult]:
    """Yield the result of each clip."""
    if task.upstream is not None:
        yield from _downstream_results(task, task.upstream, config)
        return
    paths = [str(Path(task.root) / clip.path) for clip in task.plan.clips]
    if task.isolate:
        from deiii.pipeline.stages.isolated_together import isolated_results

        results = isolated_results(task.recipe.stage, paths, config)
    elif get_stage(task.recipe.stage).together is not None:
        results = _results_together(task.recipe.stage, paths, config)
    else:
        results = _results_alone(task.recipe.stage, paths, config)
    for clip, result in zip(task.plan.clips, results, strict=True):
        if config.max_failed < 1 and not task.isolate:
            watch_first_clips(task.recipe.stage, result.outcome)
        yield _with_note(result, clip)


def _results_alone(stage: str, paths: Sequence[str], config: Config) -> Iterator[StageResult]:
    """Yield the results of clips that are computed one at a time."""
    for path in paths:
        with _limits(config):
            result = run_clip(stage, path, config, config.corpus.corrupt)
        yield result


def _results_together(stage: str, paths: Sequence[str], config: Config) -> Iterator[StageResult]:
    """Yield the results of clips of a stage that computes several at a time."""
    clips = ClipsTogether(
        partial(start_together, stage, config),
        lambda path, arrays: compute_alone(stage, arrays, config),
        partial(_limits, config),
    )
    for path in paths:
        began = time.monotonic()
        with _limits(config):
            read = read_clip(stage, path, config, config.corpus.corrupt)
        yield from clips.add(path, read, time.monotonic() - began)
    yield from clips.rest()


@contextmanager
def _limits(config: Config, clips: int = 1, spent: float = 0.0) -> Iterator[None]:
    """Limit the memory of the block, and its time to what is left to clips after ``spent`` s."""
    seconds = time_left(config, clips, spent)
    with time_limit(seconds), memory_limit(config.clip_memory_gb):
        yield


def _downstream_results(task: ShardTask, upstream: str, config: Config) -> Iterator[StageResult]:
    """Yield the results of all clips; those without arrays upstream inherit the outcome of that stage."""
    shard = open_shard(Path(upstream) / f"{task.plan.name}.h5")
    outcomes = [(clip.id, shard.outcome(clip.id)) for clip in task.plan.clips]
    usable = (shard.clip(clip_id) for clip_id, outcome in outcomes if outcome.usable)
    computed = run_downstream(task.recipe.stage, usable, config)
    for _, outcome in outcomes:
        yield next(computed) if outcome.usable else inherited(task.recipe.stage, outcome)


def _with_note(result: StageResult, clip: Clip) -> StageResult:
    """Append the note of the corpus on a clip to the reason of its failure."""
    if result.outcome.usable or not clip.note:
        return result
    outcome = result.outcome
    reason = f"{outcome.reason} ({clip.note})"
    return StageResult(Outcome(outcome.status, reason, outcome.fraction))
