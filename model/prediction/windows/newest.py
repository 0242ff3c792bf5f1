"""Predictions for a live source: its newest window is scored once a hop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from deiii.data.cache.stages import LOGMEL
from deiii.data.loader.stage_arrays import LEAST_DB
from deiii.model.network.task import Task
from deiii.model.prediction.result import Scorer
from deiii.model.prediction.settings import stages_by_speaker
from deiii.model.prediction.windows.moments import MARGIN_S, Job, Moment, Scored, moment_of
from deiii.pipeline.streaming.live import LiveStream

NEWEST_SLACK_S = 1e-4  # tolerance, so that a window contains the row at its end

Features = Mapping[str, Mapping[str, np.ndarray]]


def newest_moments(
    source: LiveStream,
    scorer: Scorer,
    task: Task,
    window_s: float,
    hop_s: float,
    advanced: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Moment, Features]]:
    """Yield the prediction of the newest window, once a hop, with the features that it was made from.

    A network that normalises by speaker uses the levels of the source so far.

    Args:
        source: source of the features; the caller closes it.
        scorer: runs the network.
        task: the classes and attributes.
        window_s, hop_s: length and distance of the windows in s.
        advanced: function that is called whenever the source has more rows.
    """
    due, by_speaker = hop_s, bool(stages_by_speaker(source.config))
    while source.advance():
        end = source.ready_s
        advanced()
        # Before the next window, not only after it: the distance of the windows may be an hour.
        source.forget(min(end, max(end, due) - window_s) - MARGIN_S)
        if end < due:
            continue
        job = Job(max(0.0, end - window_s), end + NEWEST_SLACK_S, 0)
        arrays = source.arrays(job.begin, job.end)
        own = source.levels(LEAST_DB) if by_speaker else None
        levels = None if own is None else {LOGMEL.name: own}
        outputs = scorer(arrays, [(job.begin, job.end)], [set()], levels)
        found = moment_of(Scored(job, outputs, 0, arrays), task)
        delay = time.monotonic() - source.arrived(end)
        due += hop_s * max(1, int((end - due) / hop_s) + 1)
        yield replace(found, time_s=end, end_s=end, delay_s=delay), arrays


def live_moments(
    source: LiveStream, scorer: Scorer, task: Task, window_s: float, hop_s: float
) -> Iterator[Moment]:
    """Yield the predictions of `newest_moments`; the source is closed at the end."""
    try:
        for moment, _ in newest_moments(source, scorer, task, window_s, hop_s):
            yield moment
    finally:
        source.close()
