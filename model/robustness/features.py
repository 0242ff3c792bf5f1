"""Compute the features of corrupted recordings, in worker processes and with temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deiii.data.cache.outcomes import ClipError, Outcome
from deiii.data.config.load import parse_config
from deiii.data.tools.processes.pool import start_tasks, worker_pool
from deiii.pipeline.corrupt.kinds import Corruption
from deiii.pipeline.corrupt.write import FaceBoxes, write_corrupted
from deiii.pipeline.extract import run_stages

Arrays = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Work:
    """One clip to corrupt.

    Attributes:
        path: path of its recording.
        clip: its id.
        corruption: what is done to it; ``None`` for a copy without loss.
        seed: seed of the random numbers.
        settings: settings of the stages, as YAML.
        stages: names of those to run.
        faces: boxes of its face.
    """

    path: str
    clip: str
    corruption: Corruption | None
    seed: int
    settings: str
    stages: tuple[str, ...]
    faces: FaceBoxes


@dataclass(frozen=True)
class Made:
    """The features of one corrupted clip.

    Attributes:
        arrays: arrays of the usable stages, keyed by stage.
        outcomes: outcomes of every stage.
    """

    arrays: Arrays
    outcomes: Mapping[str, Outcome]


def corrupted_features(work: Work) -> Made:
    """Write the corrupted copy into a temporary folder, run the stages on it, and remove it."""
    config = parse_config(work.settings)
    with tempfile.TemporaryDirectory(prefix="deiii-corrupt-") as folder:
        try:
            copy = write_corrupted(
                work.path, Path(folder) / "clip", work.corruption, work.seed, work.clip, work.faces
            )
        except ClipError as error:
            return Made({}, dict.fromkeys(work.stages, error.outcome))
        results = run_stages(copy, config, work.stages)
    arrays = {name: dict(result.arrays) for name, result in results.items() if result.arrays}
    return Made(arrays, {name: result.outcome for name, result in results.items()})


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor | None]:
    """Yield a pool of processes; ``None`` for one job, which this process does itself."""
    if jobs <= 1:
        yield None
        return
    with worker_pool(jobs) as pool:
        yield pool


def make_all(pool: ProcessPoolExecutor | None, works: Sequence[Work]) -> Iterator[Made]:
    """Yield what the stages make of each clip, in the order of the clips."""
    if pool is None:
        yield from map(corrupted_features, works)
        return
    for task in start_tasks(pool, corrupted_features, works):
        yield task.result()
