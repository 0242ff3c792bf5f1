"""Predict for media files and live sources: compute the features, score their windows, join the results.

The functions behind the methods of `deiii.model.prediction.predictor.Predictor`, which imports this module
with the first file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from deiii.data.cache.outcomes import ClipError, StageResult
from deiii.data.cache.stages import FACES, LOGMEL
from deiii.data.config.schema import Config
from deiii.data.loader.stage_arrays import LEAST_DB, StageLevels
from deiii.data.tools.row_times import end_of_rows
from deiii.model.network.streams import enabled_streams
from deiii.model.network.task import Task
from deiii.model.prediction.result import Person, Prediction, Scorer
from deiii.model.prediction.windows.moments import Moment, moments
from deiii.model.prediction.windows.newest import live_moments
from deiii.model.prediction.windows.recording import Found, Options, score_at_once, score_long
from deiii.model.prediction.windows.units import LONG_S, LONGER, Intervals, sliding_window, units_of
from deiii.model.prediction.windows.whole import person_of, prediction_of
from deiii.pipeline.extract import run_people, run_stages
from deiii.pipeline.faces.people import FacePerson
from deiii.pipeline.faces.quality import Portrait, face_figures, shows_pose
from deiii.pipeline.faces.speaker import others_note
from deiii.pipeline.media.lengths import declared_seconds
from deiii.pipeline.media.streaming.address import is_live
from deiii.pipeline.streaming.file import FileStream, can_stream, people_of_long, video_ends
from deiii.pipeline.streaming.live import LiveStream


class Network(Protocol):
    """The attributes of a `deiii.model.prediction.predictor.Predictor` that these functions use."""

    scorer: Scorer
    config: Config
    task: Task
    median_s: float
    longest_s: float
    stages: list[str]
    notes: tuple[str, ...]

    @property
    def by_speaker(self) -> tuple[str, ...]: ...

    def levels_of(self, files: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> StageLevels: ...


def predict_file(network: Network, path: str | Path, options: Options) -> Prediction:
    """Return the prediction for one media file; see `Predictor.predict`."""
    found = _found_in_long(network, path, options) if _is_long(network, path) else None
    if found is None:
        results = run_stages(path, network.config, network.stages)
        found = _found_at_once(network, results, options, least_s=_end_of_video(path, network, results))
    if not found.shown and not found.seconds:
        declared = declared_seconds(path)
        found = replace(found, seconds=declared if math.isfinite(declared) else 0.0)
    known = options.levels is not None
    return prediction_of(path, found, network.config, network.task, network.notes, known)


def predict_people(network: Network, path: str | Path, options: Options) -> list[Prediction]:
    """Return a prediction for each person in a media file; none where nobody is visible."""
    known = options.levels is not None
    return [
        prediction_of(path, found, network.config, network.task, network.notes, known, person)
        for person, found in _found_people(network, path, options)
    ]


def stream_moments(
    network: Network, path: str | Path, window_s: float | None, hop_s: float
) -> Iterator[Moment]:
    """Yield the predictions of a window that slides over a recording; see `Predictor.stream`."""
    if isinstance(path, str) and is_live(path):
        source = LiveStream(path, network.config, network.stages)
        yield from live_moments(source, network.scorer, network.task, window_s or network.median_s, hop_s)
        return
    with FileStream(path, network.config, network.stages) as file:
        if file.error is not None:
            raise file.error
        window, _ = sliding_window(file.expected_s(), network.median_s, window_s, hop_s)
        yield from moments(file, network.scorer, network.task, window, hop_s, _levels(network, file, None))


def _is_long(network: Network, path: str | Path) -> bool:
    """Return whether a file is read in order: it is much longer than those of the training."""
    long = declared_seconds(path) > max(LONG_S, LONGER * network.longest_s)
    return long and can_stream(network.stages, network.config)


def _found_in_long(
    network: Network, path: str | Path, options: Options, face: FacePerson | None = None
) -> Found | None:
    """Return what is found in a long file; ``None`` where it is shorter than its header states."""
    tracks = face.tracks if face is not None else None
    with FileStream(path, network.config, network.stages, options.keep_flow, tracks) as source:
        source.wait_for_audio(options.audio_progress)
        seconds = source.expected_s()
        if seconds <= max(LONG_S, LONGER * network.longest_s):
            return None
        window, hop = sliding_window(seconds, network.median_s, options.window_s, options.hop_s)
        streams, own = enabled_streams(network.config.model), _levels(network, source, options.levels)
        visible = face.part_of(seconds) if face is not None else None
        units = units_of(seconds, network.median_s, network.longest_s, options.speech, visible)
        found = score_long(source, network.scorer, streams, units, window, hop, own, options.progress)
        note = others_note(source.others_s, network.config.faces.pick)
        notes = (note,) if note and FACES.name in found.arrays else ()
        return replace(found, thumbnail=source.portrait.image, face=source.face.figures(), notes=notes)


def _found_at_once(
    network: Network,
    results: Mapping[str, StageResult],
    options: Options,
    visible: Intervals | None = None,
    least_s: float = 0.0,
) -> Found:
    """Return what is found in a file whose features are in memory, and which is at least ``least_s`` long."""
    levels = options.levels
    if levels is None:
        levels = network.levels_of([{stage: r.arrays for stage, r in results.items() if r.arrays}])
    own = levels if network.by_speaker else None
    streams, clips_s = enabled_streams(network.config.model), (network.median_s, network.longest_s)
    found = score_at_once(results, network.scorer, streams, clips_s, options, own, visible, least_s)
    if FACES.name not in found.arrays:
        return found
    return replace(found, face=face_figures(found.arrays[FACES.name], shows_pose(network.config.faces)))


def _end_of_video(path: str | Path, network: Network, results: Mapping[str, StageResult]) -> float:
    """Return the end in s of a video of which nothing is used; 0 where it is used, or there is none."""
    if FACES.name not in results or results[FACES.name].arrays:
        return 0.0
    try:
        return max(video_ends(str(path), network.config.faces.fps), default=0.0)
    except ClipError:
        return 0.0


def _found_people(network: Network, path: str | Path, options: Options) -> Iterator[tuple[Person, Found]]:
    """Yield each person in a file with what is found for them."""
    in_order = False
    long = _is_long(network, path)
    people = people_of_long(path, network.config, options.progress) if long else []
    for face in people:
        options.person_progress(face.number, len(people))
        found = _found_in_long(network, path, options, face)
        if found is not None:
            in_order = True
            yield person_of(face, found.thumbnail), found
    if in_order:
        return
    for face, results in run_people(path, network.config, network.stages):
        seconds = max((end_of_rows(r.arrays["time"]) for r in results.values() if r.arrays), default=0.0)
        portrait = Portrait()
        if results[FACES.name].arrays:
            portrait.add(results[FACES.name].arrays)
        visible = face.part_of(seconds)
        yield person_of(face, portrait.image), _found_at_once(network, results, options, visible)


def _levels(network: Network, source: FileStream, given: StageLevels | None) -> StageLevels | None:
    """Return the levels of the speaker for a file that is read in order."""
    if not network.by_speaker:
        return None
    if given is not None:
        return given
    own = source.levels(LEAST_DB)
    return None if own is None else {LOGMEL.name: own}
