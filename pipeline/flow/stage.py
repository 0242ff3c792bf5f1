"""The flow stage: dense optical flow between consecutive crops of a clip.

Batches hold pairs of several frames and clips; no pair crosses the end of a clip. A step is valid if both
crops hold a face, no scene cut and no gap in time lies between them, and its flow is finite. Every other
step, and the last one of a clip, is zero and marked as invalid.

>>> clip = FaceClip(frames, time, valid)                                # doctest: +SKIP
>>> engine = load_engine(config.flow)                                   # doctest: +SKIP
>>> next(compute_flow([clip], config.flow, engine)).arrays["flow"].dtype   # doctest: +SKIP
dtype('int8')
"""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.config.schema import FlowConfig
from deiii.pipeline.flow.engine import Engine, Stored
from deiii.pipeline.flow.engines import load_engine
from deiii.pipeline.media.frame import is_cut, thumbnail

__all__ = ["compute_flow", "flow_of_crops", "load_engine", "usable_pairs"]

IN_MEMORY = 256 << 20  # bytes of a clip's flow in memory, 5 minutes at 112 px; more is a temporary file
GAP = 2.5  # between frames that are further apart than this many median steps, frames are missing


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


def usable_pairs(clip: FaceClip) -> np.ndarray:
    """Which steps from frame i to i+1 can have flow: bool [n], false for the last frame.

    >>> clip = FaceClip(np.zeros((3, 32, 32, 3), np.uint8), np.arange(3) / 25, np.array([True, True, False]))
    >>> usable_pairs(clip).tolist()
    [True, False, False]
    """
    n = len(clip.time)
    usable = np.zeros(n, bool)
    if n < 2:
        return usable
    steps = np.diff(clip.time)
    usable[:-1] = clip.valid[:-1] & clip.valid[1:] & (steps > 0)
    if usable.any():
        usable[:-1] &= steps <= GAP * np.median(steps)
    before = None
    for i in range(n):
        if not (usable[i] or before is not None):
            continue
        small = thumbnail(clip.frames[i])
        if before is not None and is_cut(before, small):
            usable[i - 1] = False
        before = small if usable[i] else None
    return usable


def flow_of_crops(
    clips: Iterable[Mapping[str, np.ndarray]], config: FlowConfig, engine: Engine
) -> Iterator[StageResult]:
    """The work of the flow stage: `compute_flow` of clips as the faces stage stored them.

    Args:
        clips: ``frames``, ``time`` and ``valid`` of each clip; other fields are ignored.
        config: settings, the same as those of the engine.
        engine: from `load_engine`.
    """
    crops = (FaceClip(clip["frames"], clip["time"], clip["valid"]) for clip in clips)
    return compute_flow(crops, config, engine)


def compute_flow(clips: Iterable[FaceClip], config: FlowConfig, engine: Engine) -> Iterator[StageResult]:
    """Compute the flow of clips; yields the results in their order.

    Memory holds a batch of pairs and the flow of the clips in that batch; the flow of a long clip is in a
    temporary file.

    Args:
        clips: the crops of the clips; frames may be memory maps.
        config: settings, the same as those of the engine.
        engine: from `load_engine`.

    Yields:
        Arrays with one row a frame: ``flow`` [n,S,S,2] and ``scale`` [n] as encoded by
        `deiii.data.cache.flow_codec`, in px of the crop from frame i to i+1 (u to the right, v down);
        ``valid`` bool [n]; ``time`` float64 [n] in s. The outcome is ``ok``, ``ok_partial`` with the valid
        share of the n-1 steps, or ``too_short`` for a clip of one frame, which has no step.
    """
    waiting: deque[_Work] = deque()
    batch: list[tuple[_Work, int]] = []
    running: _Running | None = None
    last: tuple[_Work, int] | None = None
    for clip in clips:
        work = _Work(clip, config.storage)
        waiting.append(work)
        for i in np.flatnonzero(work.usable):
            if batch and work.size != batch[0][0].size:
                running, last = _submit(engine, batch, last, running), batch[-1]
                batch = []
            batch.append((work, int(i)))
            work.open += 1
            if len(batch) >= engine.batch:
                running, last = _submit(engine, batch, last, running), batch[-1]
                batch = []
        work.complete = True
        while waiting and waiting[0].done:
            yield waiting.popleft().result()
    if batch:
        running = _submit(engine, batch, last, running)
    if running is not None:
        running.collect()
    while waiting:
        yield waiting.popleft().result()


@dataclass
class _Work:
    """A clip, and the part of its result that is computed."""

    clip: FaceClip
    storage: str
    open: int = 0  # pairs that are submitted or waiting for a batch
    complete: bool = False  # no further pairs will be submitted
    usable: np.ndarray = field(init=False)
    flow: np.ndarray = field(init=False)
    scale: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.clip.time)
        self.size = self.clip.frames.shape[1]
        self.usable = usable_pairs(self.clip)
        self.valid = np.zeros(n, bool)
        self.flow = zeros((n, self.size, self.size, 2), np.dtype(self.storage))
        self.scale = np.zeros(n, np.float32)

    @property
    def done(self) -> bool:
        return self.complete and self.open == 0

    def result(self) -> StageResult:
        n = len(self.valid)
        if n < 2:
            return StageResult(Outcome(Status.TOO_SHORT, f"{n} frame; flow needs two", 0.0))
        arrays = {"flow": self.flow, "valid": self.valid, "time": np.asarray(self.clip.time, np.float64)}
        if self.storage == "int8":
            arrays["scale"] = self.scale
        valid = int(self.valid.sum())
        if valid == n - 1:
            return StageResult(Outcome(Status.OK), arrays)
        reason = f"{n - 1 - valid} of {n - 1} steps lack a face, cross a cut or a gap, or have no finite flow"
        return StageResult(Outcome(Status.OK_PARTIAL, reason, valid / (n - 1)), arrays)


@dataclass
class _Running:
    """A submitted batch: its pairs, and a function that waits for the result."""

    pairs: list[tuple[_Work, int]]
    wait: Callable[[], Stored]

    def collect(self) -> None:
        """Wait for the result and write it to the clips."""
        stored = self.wait()
        for row, (work, i) in enumerate(self.pairs):
            work.flow[i] = stored["flow"][row]
            work.valid[i] = stored["finite"][row]
            if "scale" in stored:
                work.scale[i] = stored["scale"][row]
            work.open -= 1


def _submit(
    engine: Engine,
    batch: list[tuple[_Work, int]],
    last: tuple[_Work, int] | None,
    running: _Running | None,
) -> _Running:
    """Submit a batch, then collect the one before; on a GPU the two overlap."""
    frames = []
    first = []
    end: tuple[_Work, int] | None = None  # clip and index of the frame that was added last
    for work, i in batch:
        if end is None or end[0] is not work or end[1] != i:
            frames.append(work.clip.frames[i])
        first.append(len(frames) - 1)
        frames.append(work.clip.frames[i + 1])
        end = (work, i + 1)
    continues = last is not None and last[0] is batch[0][0] and last[1] + 1 == batch[0][1]
    started = _Running(batch, engine.submit(np.stack(frames), np.array(first, np.int64), continues))
    if running is not None:
        running.collect()
    return started


def zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros in memory, or in a temporary file without a name if they take more than `IN_MEMORY` bytes."""
    if math.prod(shape) * dtype.itemsize <= IN_MEMORY:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:  # the file exists as long as its memory map
        return np.memmap(file, dtype, "w+", shape=shape)
