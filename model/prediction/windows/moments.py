"""Predictions of a window that slides over a recording, made while the recording is read.

A source gives the features that a window needs as soon as they are known, and frees those that no later
window needs, so that memory does not grow with the length of the recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deiii.data.cache.stages import FACES
from deiii.data.loader.recording import SLACK_S
from deiii.data.loader.stage_arrays import StageLevels
from deiii.model.network.task import Task
from deiii.model.prediction.result import HeadOutputs, Scorer, most_probable
from deiii.model.prediction.windows.combine import Rows
from deiii.model.prediction.windows.units import MOST_BATCH

MARGIN_S = 1.0  # features are kept for this much longer than the longest window


class Source(Protocol):
    """Features of a recording that is read in order; see `deiii.pipeline.streaming.file.FileStream`."""

    ready_s: float
    ended: bool

    @property
    def end_s(self) -> float:
        """The end of the last row, s."""
        ...

    def advance(self) -> bool:
        """Read on until more rows are known; False where the recording has ended."""
        ...

    def arrays(self, begin_s: float, end_s: float) -> dict[str, dict[str, np.ndarray]]:
        """Return rows, keyed by stage: all that are kept of [begin, end) in s, and possibly others."""
        ...

    def forget(self, before_s: float) -> None:
        """Free rows before a time in s."""
        ...


@dataclass(frozen=True)
class Moment:
    """The prediction of one window of a recording.

    Attributes:
        time_s: the time to which the prediction belongs, s: the centre of its hop, or the end of the newest
            window of a live source.
        begin_s, end_s: begin and end of the window, s.
        probabilities: probabilities, keyed by class; empty if the window holds no usable input, or no classes
            are predicted.
        attributes: attributes in the corpus's range, keyed by name.
        face_share: share of the window's video frames that show the face, 0 to 1; ``None`` without video.
        delay_s: time from the arrival of the window's newest frame to the result, s; only of a live source.
    """

    time_s: float
    begin_s: float
    end_s: float
    probabilities: Mapping[str, float]
    attributes: Mapping[str, float]
    face_share: float | None = None
    delay_s: float | None = None

    @property
    def usable(self) -> bool:
        """Whether the window held any usable input."""
        return bool(self.probabilities or self.attributes)

    @property
    def label(self) -> str | None:
        """The most probable class; ``None`` without probabilities."""
        return most_probable(self.probabilities)

    def tree(self) -> dict[str, Any]:
        """Return everything for JSON; times are rounded to 1 ms, other numbers to 6 decimals."""
        share, delay = self.face_share, self.delay_s
        more = {} if delay is None else {"delay_s": round(delay, 4)}
        return more | {
            "time_s": round(self.time_s, 3), "begin_s": round(self.begin_s, 3), "end_s": round(self.end_s, 3),
            "label": self.label,
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
            "attributes": {name: round(value, 6) for name, value in self.attributes.items()},
            "face_share": None if share is None else round(share, 6),
        }  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One interval to score.

    Attributes:
        begin, end: begin and end in s.
        key: number by which the caller identifies the job.
        hidden: inputs to hide.
        centre: centre of a sliding window, s; the window is moved back if the recording ends earlier.
            ``None`` for an interval that stays where it is.
    """

    begin: float
    end: float
    key: int
    hidden: frozenset[str] = frozenset()
    centre: float | None = None


@dataclass(frozen=True)
class Scored:
    """A scored job: its row of the outputs, and the features that its batch was made from."""

    job: Job
    outputs: HeadOutputs
    row: int
    arrays: Mapping[str, Mapping[str, np.ndarray]]


def sliding(source: Source, window_s: float, hop_s: float) -> Iterator[Job]:
    """Yield the windows of a recording until it ends: one per hop, centred in it where that is possible."""
    k = 0
    while not source.ended or hop_s / 2 + k * hop_s < max(source.end_s, hop_s):
        centre = hop_s / 2 + k * hop_s
        begin = max(0.0, centre - window_s / 2)
        yield Job(begin, begin + window_s, k, centre=centre)
        k += 1


def score_in_order(
    source: Source,
    scorer: Scorer,
    jobs: Iterable[Job],
    longest_s: float,
    hop_s: float,
    levels: StageLevels | None,
) -> Iterator[Scored]:
    """Score intervals as soon as their features are known.

    Args:
        source: source of the features.
        scorer: runs the network.
        jobs: intervals to score, in the order of their ends.
        longest_s: length of the longest of the jobs' intervals, s.
        hop_s: distance of the sliding windows.
        levels: levels of the speaker, where the network normalises by speaker.
    """
    waiting: list[Job] = []

    def flush() -> list[Scored]:
        batch = waiting.copy()
        waiting.clear()
        if not batch:
            return []
        pairs = [(job.begin, job.end) for job in batch]
        arrays = source.arrays(min(begin for begin, _ in pairs), max(end for _, end in pairs))
        hidden = [set(job.hidden) for job in batch]
        if arrays:
            outputs = scorer(arrays, pairs, hidden, levels)
        else:
            outputs = HeadOutputs(len(batch), {}, {}, {})
        return [Scored(job, outputs, row, arrays) for row, job in enumerate(batch)]

    for job in jobs:
        while not source.ended and job.end > source.ready_s:
            yield from flush()
            source.forget(source.ready_s - longest_s - MARGIN_S)
            source.advance()
        if source.ended and job.centre is not None:
            if job.centre >= max(source.end_s, hop_s):
                continue
            length = min(job.end - job.begin, source.end_s)
            begin = float(np.clip(job.centre - length / 2, 0, source.end_s - length))
            job = Job(begin, begin + length, job.key, job.hidden, job.centre)
        waiting.append(job)
        if len(waiting) == MOST_BATCH:
            yield from flush()
    yield from flush()


def moments(
    source: Source, scorer: Scorer, task: Task, window_s: float, hop_s: float, levels: StageLevels | None
) -> Iterator[Moment]:
    """Yield the prediction of each sliding window as soon as its features are known.

    Args:
        source: source of the features.
        scorer: runs the network.
        task: the classes and attributes.
        window_s, hop_s: length and distance of the windows in s.
        levels: levels of the speaker, where the network normalises by speaker.
    """
    jobs = sliding(source, window_s, hop_s)
    for found in score_in_order(source, scorer, jobs, window_s, hop_s, levels):
        yield moment_of(found, task)


def moment_of(found: Scored, task: Task) -> Moment:
    """Return the prediction of one scored window."""
    job = found.job
    rows = Rows(found.outputs, task, slice(found.row, found.row + 1))
    names: tuple[dict[str, float], dict[str, float]] = {}, {}
    if rows.present().any():
        probabilities, attributes = rows.values("probabilities")[0], rows.values("attributes")[0]
        names = (
            dict(zip(task.classes, probabilities.tolist(), strict=True)),
            dict(zip(task.attributes, attributes.tolist(), strict=True)),
        )
    centre = (job.begin + job.end) / 2 if job.centre is None else job.centre
    return Moment(centre, job.begin, job.end, *names, _face_share(found.arrays, job.begin, job.end))


def _face_share(arrays: Mapping[str, Mapping[str, np.ndarray]], begin: float, end: float) -> float | None:
    faces = arrays.get(FACES.name)
    if faces is None:
        return None
    first, stop = np.searchsorted(faces["time"], [begin - SLACK_S, end - SLACK_S])
    share = float(faces["valid"][first:stop].mean()) if stop > first else math.nan
    return None if math.isnan(share) else share
