"""Compute the outputs for the windows of a recording, its outcomes and features, for its prediction.

A recording of up to `LONG_S` seconds, or about as long as the training clips, is computed at once, as in
evaluation. A longer one is read in order, with memory that does not grow with its length.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deiii.data.cache.outcomes import Outcome, StageResult
from deiii.data.cache.stages import FACES, FLOW, LOGMEL, get_stage, stage_of_stream
from deiii.data.loader.stage_arrays import StageLevels
from deiii.data.tools.row_times import end_of_rows
from deiii.model.prediction.result import HeadOutputs, Scorer
from deiii.model.prediction.windows.moments import Job, Scored, score_in_order, sliding
from deiii.model.prediction.windows.units import (
    Intervals,
    Units,
    check_window,
    sliding_window,
    units_of,
)

if TYPE_CHECKING:
    from deiii.pipeline.streaming.file import FileStream


@dataclass(frozen=True)
class Found:
    """The outputs, outcomes and features of one recording.

    Attributes:
        outcomes: outcomes of every stage.
        seconds: length in s.
        arrays: arrays that the stages computed, keyed by stage; of a long recording, fields with little data
            per row.
        outputs: outputs for the units with every combination of inputs (all inputs first), then for the
            sliding windows.
        units: the intervals whose mean is the prediction.
        shown: the combinations of inputs.
        centres: centres of the sliding windows, float64 [W], s.
        window: length of the sliding windows, s.
        thumbnail: the sharpest crop of a long recording's person, uint8 [S,S,3].
        face: figures of the face, from `deiii.pipeline.faces.quality`; empty without a face.
        notes: remarks of the stages on the recording.
    """

    outcomes: Mapping[str, Outcome]
    seconds: float
    arrays: Mapping[str, Mapping[str, Any]]
    outputs: HeadOutputs
    units: Units
    shown: Sequence[frozenset[str]]
    centres: np.ndarray
    window: float
    thumbnail: np.ndarray | None = None
    face: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def combinations_of(inputs: Sequence[str]) -> list[frozenset[str]]:
    """Return every choice of at least one input; all inputs come first.

    >>> [sorted(some) for some in combinations_of(("a", "b"))]
    [['a', 'b'], ['a'], ['b']]
    """
    return [frozenset(c) for n in range(len(inputs), 0, -1) for c in combinations(inputs, n)]


@dataclass(frozen=True)
class Options:
    """How to predict for one file; see `deiii.model.prediction.predictor.Predictor.predict`.

    Raises:
        ConfigError: the length or the distance of the windows cannot be used.
    """

    window_s: float | None = None
    hop_s: float | None = None
    levels: StageLevels | None = None
    speech: Intervals | None = None
    keep_flow: str | Path | None = None
    progress: Callable[[float], None] = lambda done_s: None
    audio_progress: Callable[[float], None] = lambda done_s: None
    person_progress: Callable[[int, int], None] = lambda number, count: None

    def __post_init__(self) -> None:
        check_window(self.window_s, self.hop_s)


def score_at_once(
    results: Mapping[str, StageResult],
    scorer: Scorer,
    streams: Sequence[str],
    clips_s: tuple[float, float],
    options: Options,
    levels: StageLevels | None,
    visible: Intervals | None = None,
    least_s: float = 0.0,
) -> Found:
    """Score the windows of a recording whose features are in memory.

    Args:
        results: results of every stage.
        scorer: runs the network.
        streams: the inputs that the network reads.
        clips_s: length of the median and of the longest training clip, s.
        options: options of the prediction.
        levels: levels of the speaker, where the network normalises by speaker.
        visible: argument of `units_of`.
        least_s: end of a stream of which nothing is used, s; the recording is at least so long.
    """
    outcomes = {stage: r.outcome for stage, r in results.items()}
    arrays = {stage: r.arrays for stage, r in results.items() if r.arrays}
    seconds = max((end_of_rows(a["time"]) for a in arrays.values()), default=0.0)
    seconds = max(seconds, least_s) if arrays else seconds
    inputs = [s for s in streams if stage_of_stream(s) in arrays]
    shown = combinations_of(inputs)
    if not arrays:
        nothing = HeadOutputs(0, {}, {}, {})
        nowhere = units_of(0.0, 1.0, 1.0, [])
        return Found(outcomes, seconds, arrays, nothing, nowhere, (), np.zeros(0), 0.0)
    units = units_of(seconds, *clips_s, options.speech, visible)
    window, hop = sliding_window(seconds, clips_s[0], options.window_s, options.hop_s)
    centres = np.arange(hop / 2, max(seconds, hop), hop)
    begin = np.clip(centres - window / 2, 0, seconds - window)
    windows = [(b, b + window) for b in begin.tolist()]
    # One pass over the network: the units with every combination of inputs (all inputs first), then the
    # sliding windows.
    hidden = [set(inputs) - some for some in shown for _ in units.intervals]
    outputs = scorer(arrays, units.intervals * len(shown) + windows, hidden, levels)
    notes = tuple(note for result in results.values() for note in result.notes)
    return Found(outcomes, seconds, arrays, outputs, units, shown, centres, window, notes=notes)


def score_long(
    source: FileStream,
    scorer: Scorer,
    streams: Sequence[str],
    units: Units,
    window_s: float,
    hop_s: float,
    levels: StageLevels | None,
    progress: Callable[[float], None] = lambda done_s: None,
) -> Found:
    """Read a long recording once and score its windows.

    Where its video ends too early, or too few of its video frames show a face, the windows are scored again
    from audio alone. For a short recording, `predict` finds this out before it scores.

    Args:
        source: source of the features.
        scorer: runs the network.
        streams: the inputs that the network reads.
        units: the intervals whose mean is the prediction.
        window_s, hop_s: length and distance of the sliding windows in s.
        levels: levels of the speaker, where the network normalises by speaker.
        progress: receives the time in s up to which the recording is scored.
    """
    heard = source.audio() is not None
    inputs = [s for s in streams if (heard if stage_of_stream(s) == LOGMEL.name else source.has_video)]
    found = _score(source, scorer, inputs, units, window_s, hop_s, levels, progress)
    outcomes = source.outcomes()
    usable = [s for s in inputs if outcomes[stage_of_stream(s)].usable]
    if usable != inputs:
        source.leave_out_video()  # faces and flow, also where only one of them is not usable
        inputs = [s for s in usable if get_stage(stage_of_stream(s)).modality != "video"]
        found = _score(source, scorer, inputs, units, window_s, hop_s, levels, progress)
    outputs, centres = found
    arrays: dict[str, Mapping[str, Any]] = {}
    if FACES.name in outcomes and outcomes[FACES.name].usable:
        arrays[FACES.name] = source.track()
        if FLOW.name in outcomes and outcomes[FLOW.name].usable:
            arrays[FLOW.name] = source.flow()
    if heard:
        arrays[LOGMEL.name] = {}
    shown = combinations_of(inputs)
    return Found(outcomes, source.end_s, arrays, outputs, units, shown, centres, window_s)


def _score(
    source: FileStream,
    scorer: Scorer,
    inputs: Sequence[str],
    units: Units,
    window_s: float,
    hop_s: float,
    levels: StageLevels | None,
    progress: Callable[[float], None],
) -> tuple[HeadOutputs, np.ndarray]:
    """Return outputs for the units with every combination of inputs, then for the windows; and centres."""
    shown = combinations_of(inputs)
    intervals = units.intervals
    rows = _OutputRows(len(intervals) * len(shown))
    centres = []
    longest = max([window_s, *(end - begin for begin, end in intervals)])

    def fixed() -> Iterator[Job]:
        for i, (begin, end) in enumerate(intervals):
            for k, some in enumerate(shown):
                yield Job(begin, end, k * len(intervals) + i, frozenset(inputs) - some)

    if not shown:
        return HeadOutputs(0, {}, {}, {}), np.zeros(0)
    jobs = heapq.merge(fixed(), sliding(source, window_s, hop_s), key=lambda job: job.end)
    for scored in score_in_order(source, scorer, jobs, longest, hop_s, levels):
        rows.put(scored)
        if scored.job.centre is not None:
            centres.append(scored.job.centre)
        progress(scored.job.end)
    return rows.outputs(), np.array(centres, np.float64)


class _OutputRows:
    """Outputs of jobs, put in order: those with a place of their own, then those of the sliding windows.

    They are copied into a few arrays: many small arrays that stay allocated would prevent the system from
    getting the freed memory between them back.
    """

    def __init__(self, places: int):
        self._places = places
        self._tables: dict[tuple[str, str], np.ndarray] = {}
        self._count = places

    def put(self, scored: Scored) -> None:
        job, outputs = scored.job, scored.outputs
        place = job.key if job.centre is None else self._places + job.key
        self._count = max(self._count, place + 1)
        for kind in ("probabilities", "attributes", "present"):
            for head, values in getattr(outputs, kind).items():
                self._table(kind, head, values)[place] = values[scored.row]

    def _table(self, kind: str, head: str, values: np.ndarray) -> np.ndarray:
        """Return the array for the rows of one output, with room for all rows so far."""
        table = self._tables.get((kind, head))
        if table is None or len(table) < self._count:
            larger = np.zeros((2 * self._count, *values.shape[1:]), values.dtype)
            if table is not None:
                larger[: len(table)] = table
            self._tables[kind, head] = table = larger
        return table

    def outputs(self) -> HeadOutputs:
        """Return all rows; rows without a job are zero and not present."""
        found: dict[str, dict[str, np.ndarray]] = {"probabilities": {}, "attributes": {}, "present": {}}
        for (kind, head), table in self._tables.items():
            values = np.zeros((self._count, *table.shape[1:]), table.dtype)
            rows = min(self._count, len(table))
            values[:rows] = table[:rows]
            found[kind][head] = values
        return HeadOutputs(self._count, **found)
