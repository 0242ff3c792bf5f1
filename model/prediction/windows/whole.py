"""The prediction for a recording, or for one person in it, from the scored windows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deiii.data.cache.stages import FACES
from deiii.data.config.schema import Config
from deiii.model.network.streams import enabled_streams
from deiii.model.network.task import Task
from deiii.model.prediction.result import Person, Prediction, Timeline, face_track, notes_on
from deiii.model.prediction.settings import speaker_note
from deiii.model.prediction.windows.combine import Rows, combine
from deiii.model.prediction.windows.recording import Found
from deiii.model.prediction.windows.units import joined_note

if TYPE_CHECKING:
    from deiii.pipeline.faces.people import FacePerson


def prediction_of(
    path: str | Path,
    found: Found,
    config: Config,
    task: Task,
    notes: tuple[str, ...] = (),
    has_levels: bool = False,
    person: Person | None = None,
) -> Prediction:
    """Return the prediction for a recording.

    Args:
        path: the media file.
        found: its scored windows, outcomes and features.
        config: settings of the network.
        task: the classes and attributes.
        notes: notes on how preprocessing differs from training.
        has_levels: whether the levels of the speaker came from more than this file.
        person: the person in the windows, if there is a prediction for each person.
    """
    outcomes, arrays, streams = found.outcomes, found.arrays, enabled_streams(config.model)
    silent = found.units.speech is not None and not found.units.speech
    notes = (*notes, *notes_on(outcomes, streams, predicted=not silent))
    if not found.shown:
        return Prediction(str(path), found.seconds, outcomes, notes=notes, person=person)
    notes += speaker_note(config, arrays, has_levels)
    n, shown = len(found.units.intervals), found.shown
    by_inputs = {some: Rows(found.outputs, task, slice(k * n, (k + 1) * n)) for k, some in enumerate(shown)}
    moving = Rows(found.outputs, task, slice(len(shown) * n, None))
    notes += tuple(joined_note(found.units))
    if person is None:
        notes += found.notes
    whole = combine(by_inputs, task, streams, found.units.weights)
    return Prediction(
        path=str(path),
        seconds=found.seconds,
        outcomes=outcomes,
        probabilities=whole.probabilities,
        attributes=whole.attributes,
        heads=whole.heads,
        contributions=whole.contributions,
        face=face_track(arrays[FACES.name], config.faces, found.face) if FACES.name in arrays else None,
        timeline=Timeline(
            found.centres,
            moving.values("probabilities"),
            moving.values("attributes"),
            moving.present() & found.units.heard(found.centres),
            found.window,
        ),
        segments=found.units.segments(by_inputs[shown[0]]),
        notes=notes,
        arrays=arrays,
        person=person,
    )


def person_of(face: FacePerson, thumbnail: np.ndarray | None) -> Person:
    """Return a person for results; ``thumbnail`` is uint8 [S,S,3]."""
    return Person(face.number, tuple(face.stretches()), face.chosen, face.follows, thumbnail)
