"""One shard of one stage: read the clips, run the stage, write the file.

`run_shard` is what a worker does. It knows no Dask: paths come in, a small record goes out, and
the same shard gives the same bytes in any process. Detectors and networks are loaded once per
process.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deiii.data.allocator import keep_freed_memory
from deiii.data.atomic import file_sha256
from deiii.data.cache import ShardRecord, record_shard
from deiii.data.clips import Clip, ShardPlan
from deiii.data.config import parse_config, to_yaml
from deiii.data.outcomes import MACHINE_TROUBLE, ClipError, Outcome, Status
from deiii.data.recipes import Recipe
from deiii.data.schema import Config
from deiii.data.shard_writer import ShardWriter
from deiii.data.shards import Shard, open_shard
from deiii.pipeline.limits import memory_limit, time_limit
from deiii.pipeline.result import StageResult


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
            from deiii.pipeline.isolation import run_isolated

            result = run_isolated(task.recipe.stage, path, config)
        else:
            with time_limit(config.clip_timeout), memory_limit(config.clip_memory_gb):
                result = run_clip(task.recipe.stage, path, config)
        yield _with_note(result, clip)


def run_clip(stage: str, path: str, config: Config) -> StageResult:
    """The faces or log-mel of one media file. Trouble with the clip becomes its outcome."""
    try:
        if stage == "faces":
            from deiii.pipeline.faces import extract_faces

            return extract_faces(path, config.faces, _detector(to_yaml(config)))
        from deiii.pipeline.logmel import extract_logmel

        return extract_logmel(path, config.logmel)
    except ClipError as error:
        return StageResult(error.outcome)
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            return StageResult(_unexpected(error))
        reason = (
            f"decoding it asked for more than {config.clip_memory_gb:g} GiB (clip_memory_gb) or than there "
            "is; re-encode it at a smaller size, or raise the limit and run with retry=true"
        )
        return StageResult(Outcome(Status.OUT_OF_MEMORY, reason, 0.0))
    except OSError as error:
        if error.errno in MACHINE_TROUBLE:
            raise
        return StageResult(Outcome(Status.UNREADABLE, f"{type(error).__name__}: {error}", 0.0))
    except Exception as error:  # one strange file must not end the run; its trouble is recorded
        return StageResult(_unexpected(error))


def _unexpected(error: Exception) -> Outcome:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    reason = f"unexpected {type(error).__name__} at {place}: {error}; please report it with the file"
    return Outcome(Status.UNREADABLE, reason, 0.0)


@dataclass(frozen=True)
class FaceClip:
    """The crops of one clip, as the flow stage reads them from the faces cache.

    Attributes:
        frames: uint8 [n,S,S,3], RGB; a view of the mapped file.
        time: float64 [n], s.
        valid: bool [n].
    """

    frames: np.ndarray
    time: np.ndarray
    valid: np.ndarray


def _flow_results(faces: Shard, clips: Iterable[Clip], config: Config) -> Iterator[StageResult]:
    """Flow of the clips that have faces; the others inherit the outcome of their faces."""
    from deiii.pipeline.flow import compute_flow

    outcomes = [(c.id, faces.outcome(c.id)) for c in clips]
    usable = (faces.clip(i) for i, outcome in outcomes if outcome.usable)
    inputs = (FaceClip(a["frames"], a["time"], a["valid"]) for a in usable)
    computed = compute_flow(inputs, config.flow, flow_engine(config))
    for _, outcome in outcomes:
        if outcome.usable:
            yield next(computed)
        else:
            yield StageResult(Outcome(outcome.status, f"no crops: {outcome.reason}", 0.0))


def load_models(stage: str, config: Config) -> None:
    """Load what a stage needs into this process, so that missing or wrong weights end a run at its start."""
    if stage == "faces":
        _detector(to_yaml(config))
    elif stage == "flow":
        flow_engine(config)


@lru_cache(maxsize=2)
def load_settings(settings: str) -> Config:
    """The configuration from its YAML text."""
    return parse_config(settings)


@lru_cache(maxsize=1)
def _detector(settings: str) -> Any:
    from deiii.pipeline.faces import load_detector

    return load_detector(load_settings(settings).faces)


def flow_engine(config: Config) -> Any:
    """The flow engine of these settings, loaded once a process."""
    return _engine(to_yaml(config))


@lru_cache(maxsize=1)
def _engine(settings: str) -> Any:
    from deiii.pipeline.flow import load_engine

    return load_engine(load_settings(settings).flow)


def _with_note(result: StageResult, clip: Clip) -> StageResult:
    """Add what the corpus says about a clip to the reason of a failure."""
    if result.outcome.usable or not clip.note:
        return result
    outcome = result.outcome
    reason = f"{outcome.reason} ({clip.note})"
    return StageResult(Outcome(outcome.status, reason, outcome.fraction))


def settle_process() -> None:
    """One thread a worker process: workers share the cores, and one order of sums gives one result.

    Freed memory stays with it, which makes flow on a CPU half as fast again.
    """
    cv2.setNumThreads(1)
    keep_freed_memory()
