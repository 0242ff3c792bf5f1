"""One shard of one stage: read the clips, run the stage, write the file.

`run_shard` is what a worker does. It knows no Dask: paths come in, a small record goes out, and
the same shard gives the same bytes in any process. Detectors and networks are loaded once per
process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deiii.data.cache.index import ShardRecord, record_shard
from deiii.data.cache.outcomes import MACHINE_TROUBLE, Outcome, StageResult, Status
from deiii.data.cache.recipes import Recipe
from deiii.data.cache.shard_plan import ShardPlan
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.cache.shards import Shard, open_shard
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip
from deiii.data.tools.atomic_files import file_sha256
from deiii.pipeline.flow.stage import FaceClip
from deiii.pipeline.stages.clip import flow_engine, load_models, load_settings, run_clip, settle_process
from deiii.pipeline.stages.limits import memory_limit, time_limit


@dataclass(frozen=True)
class ShardTask:
    """All a worker needs to make one shard.

    Attributes:
        recipe: the stage and its key.
        plan: the clips.
        root: the corpus's folder.
        folder: the stage's folder in the cache.
        upstream: the folder of the stage before, where there is one.
        settings: the configuration as YAML.
        isolate: run every clip in a process of its own (after a worker died on this shard).
    """

    recipe: Recipe
    plan: ShardPlan
    root: str
    folder: str
    upstream: str | None
    settings: str
    isolate: bool = False


def run_shard(task: ShardTask) -> ShardRecord:
    """Make one shard file, atomically, and return its index record.

    Raises:
        OSError: where the cache's disk is full, read-only or gone; clips' own troubles become
            outcomes instead.
        data.weights.WeightsError: where the stage's weights cannot be had or are not what they must be.
    """
    settle_process()
    config = load_settings(task.settings)
    if not task.isolate:
        load_models(task.recipe.stage, config)  # what is wrong with them is no clip's fault
    path = Path(task.folder) / f"{task.plan.name}.h5"
    sources = [source_digest(Path(task.root) / clip.path) for clip in task.plan.clips]
    with ShardWriter(path, task.recipe.stage, task.recipe.key, task.recipe.provenance) as writer:
        results = _results(task, config)
        for clip, source, result in zip(task.plan.clips, sources, results, strict=True):
            # A file that went between its digest and its decoding counts as changed when it is back.
            gone = result.outcome.status is Status.MISSING
            writer.add(clip.id, result.outcome, result.arrays, "" if gone else source)
    return record_shard(path)


def source_digest(path: Path) -> str:
    """SHA-256 of a clip's media file, empty where the file is missing or unreadable."""
    try:
        return file_sha256(path)
    except OSError as error:
        if error.errno in MACHINE_TROUBLE:
            raise
        return ""


def _results(task: ShardTask, config: Config) -> Iterator[StageResult]:
    if task.recipe.stage == "flow":
        assert task.upstream is not None
        faces = open_shard(Path(task.upstream) / f"{task.plan.name}.h5")
        yield from _flow_results(faces, task.plan.clips, config)
        return
    for clip in task.plan.clips:
        path = str(Path(task.root) / clip.path)
        if task.isolate:
            from deiii.pipeline.stages.isolation import run_isolated

            result = run_isolated(task.recipe.stage, path, config)
        else:
            with time_limit(config.clip_timeout), memory_limit(config.clip_memory_gb):
                result = run_clip(task.recipe.stage, path, config)
        yield _with_note(result, clip)


def _flow_results(faces: Shard, clips: Iterable[Clip], config: Config) -> Iterator[StageResult]:
    """Flow of the clips that have faces; the others inherit the outcome of their faces."""
    from deiii.pipeline.flow.stage import compute_flow

    outcomes = [(c.id, faces.outcome(c.id)) for c in clips]
    usable = (faces.clip(i) for i, outcome in outcomes if outcome.usable)
    inputs = (FaceClip(a["frames"], a["time"], a["valid"]) for a in usable)
    computed = compute_flow(inputs, config.flow, flow_engine(config))
    for _, outcome in outcomes:
        if outcome.usable:
            yield next(computed)
        else:
            yield StageResult(Outcome(outcome.status, f"no crops: {outcome.reason}", 0.0))


def _with_note(result: StageResult, clip: Clip) -> StageResult:
    """Add what the corpus says about a clip to the reason of a failure."""
    if result.outcome.usable or not clip.note:
        return result
    outcome = result.outcome
    reason = f"{outcome.reason} ({clip.note})"
    return StageResult(Outcome(outcome.status, reason, outcome.fraction))
