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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.config.schema import FlowConfig
from deiii.data.tools.temporary_files import temporary_file
from deiii.pipeline.flow.engine import Engine, Stored
from deiii.pipeline.flow.engines import load_engine
from deiii.pipeline.media.frame import cuts_between

__all__ = ["compute_flow", "flow_of_crops", "load_engine", "usable_pairs"]

# Most bytes of a clip's flow in memory: 7 minutes of int8 at 112 px and 25 fps. More is in a temporary file.
IN_MEMORY = 256 << 20
GAP = 2.5  # frames are missing between two that are more than this many median steps apart


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
    """Return whether each step from frame i to i+1 can have flow: bool [n], false for the last frame.

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
    for start, stop in runs(usable):
        usable[start:stop] &= ~cuts_between(clip.frames[start : stop + 1])
    return usable


def runs(chosen: np.ndarray) -> list[tuple[int, int]]:
    """Return the stretches of true values, each as its first row and the row after its last one.

    >>> runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def flow_of_crops(
    clips: Iterable[Mapping[str, np.ndarray]], config: FlowConfig, engine: Engine
) -> Iterator[StageResult]:
    """Yield the results of the flow stage for clips as the faces stage stored them; see `compute_flow`.

    Args:
        clips: ``frames``, ``time`` and ``valid`` of each clip; other fields are ignored.
        config: settings, the same as those of the engine.
        engine: engine from `load_engine`.
    """
    # np.asarray gives plain views: a row of a memory map is a memory map, too, which is slow to create.
    crops = (FaceClip(np.asarray(clip["frames"]), clip["time"], clip["valid"]) for clip in clips)
    return compute_flow(crops, config, engine)


def compute_flow(clips: Iterable[FaceClip], config: FlowConfig, engine: Engine) -> Iterator[StageResult]:
    """Compute the flow of clips; yields the results in their order.

    Memory holds a batch of pairs and the flow of the clips in that batch; the flow of a long clip is in a
    temporary file.

    Args:
        clips: the crops of the clips; frames may be memory maps.
        config: settings, the same as those of the engine.
        engine: engine from `load_engine`.

    Yields:
        Arrays with one row per frame: ``flow`` [n,S,S,2] and ``scale`` [n] as encoded by
        `deiii.data.cache.flow_codec`, in px of the crop from frame i to i+1 (u to the right, v down);
        ``valid`` bool [n]; ``time`` float64 [n] in s. The outcome is ``ok``, ``ok_partial`` with the valid
        share of the n-1 steps, or ``too_short`` for a clip of one frame, which has no step.
    """
    waiting: deque[_Work] = deque()
    batch: list[_Part] = []
    running: _Running | None = None
    last: _Part | None = None
    for clip in clips:
        work = _Work(clip, config.storage)
        waiting.append(work)
        if batch and work.size != batch[0].work.size:
            running, last = _submit(engine, batch, last, running), batch[-1]
            batch = []
        for start, stop in runs(work.usable):
            while start < stop:
                room = engine.batch - sum(part.pairs for part in batch)
                part = _Part(work, start, min(stop, start + max(1, room)))
                batch.append(part)
                work.open += part.pairs
                start = part.stop
                if part.pairs >= room:
                    running, last = _submit(engine, batch, last, running), part
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


def flow_outcome(valid: np.ndarray) -> Outcome:
    """Return the outcome of a clip of n frames of which the steps in ``valid``, bool [n], have flow."""
    n, found = len(valid), int(valid.sum())
    if n < 2:
        return Outcome(Status.TOO_SHORT, f"{n} frame; flow needs two", 0.0)
    if found == n - 1:
        return Outcome(Status.OK)
    reason = f"{n - 1 - found} of {n - 1} steps lack a face, cross a cut or a gap, or have no finite flow"
    return Outcome(Status.OK_PARTIAL, reason, found / (n - 1))


@dataclass
class _Work:
    """A clip, and the part of its result that is computed."""

    clip: FaceClip
    storage: str
    open: int = 0  # pairs that are submitted or waiting for a batch
    complete: bool = False  # true when no further pairs will be submitted
    usable: np.ndarray = field(init=False)
    flow: np.ndarray = field(init=False)
    scale: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.clip.time)
        self.size = self.clip.frames.shape[1]
        self.usable = usable_pairs(self.clip)
        self.valid = np.zeros(n, bool)
        self.flow = empty((n, self.size, self.size, 2), np.dtype(self.storage))
        self.flow[~self.usable] = 0
        self.scale = np.zeros(n, np.float32)

    @property
    def done(self) -> bool:
        return self.complete and self.open == 0

    def result(self) -> StageResult:
        if len(self.valid) < 2:
            return StageResult(flow_outcome(self.valid))
        arrays = {"flow": self.flow, "valid": self.valid, "time": np.asarray(self.clip.time, np.float64)}
        if self.storage == "int8":
            arrays["scale"] = self.scale
        return StageResult(flow_outcome(self.valid), arrays)


@dataclass
class _Part:
    """Consecutive steps of a clip: those from the frames ``start`` to ``stop - 1``."""

    work: _Work
    start: int
    stop: int

    @property
    def pairs(self) -> int:
        return self.stop - self.start


@dataclass
class _Running:
    """A submitted batch: its parts, and a function that waits for the result."""

    parts: list[_Part]
    wait: Callable[[], Stored]

    def collect(self) -> None:
        """Wait for the result and write it to the clips."""
        stored = self.wait()
        row = 0
        for part in self.parts:
            rows, steps = slice(row, row + part.pairs), slice(part.start, part.stop)
            part.work.flow[steps] = stored["flow"][rows]
            part.work.valid[steps] = stored["finite"][rows]
            if "scale" in stored:
                part.work.scale[steps] = stored["scale"][rows]
            part.work.open -= part.pairs
            row += part.pairs


def _submit(engine: Engine, batch: list[_Part], last: _Part | None, running: _Running | None) -> _Running:
    """Submit a batch, then collect the one before; on a GPU the two overlap."""
    size = batch[0].work.size
    frames = engine.buffer((sum(part.pairs + 1 for part in batch), size, size, 3))
    first = []
    row = 0
    for part in batch:
        frames[row : row + part.pairs + 1] = part.work.clip.frames[part.start : part.stop + 1]
        first.append(np.arange(row, row + part.pairs))
        row += part.pairs + 1
    continues = last is not None and last.work is batch[0].work and last.stop == batch[0].start
    started = _Running(batch, engine.submit(frames, np.concatenate(first), continues))
    if running is not None:
        running.collect()
    return started


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array in memory, or in a temporary file if it takes more than `IN_MEMORY` bytes."""
    if math.prod(shape) * dtype.itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    with temporary_file(math.prod(shape) * dtype.itemsize) as file:
        return np.memmap(file, dtype, "r+", shape=shape)
