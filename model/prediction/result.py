"""The outputs of a network, the prediction for one media file, and the quality of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.stages import get_stage, stage_of_stream
from deiii.data.config.schema import FacesConfig
from deiii.data.loader.stage_arrays import StageLevels
from deiii.data.tools.row_times import end_of_rows, row_step

FORMAT = "deiii-prediction-1"  # changes if an entry of the JSON goes or gets another meaning


@dataclass(frozen=True)
class HeadOutputs:
    """Outputs of every head for N intervals of a recording; C classes, A attributes.

    Attributes:
        count: N.
        probabilities: probabilities of the classes, float32 [N,C], keyed by head; empty if no classes are
            predicted.
        attributes: attributes, float32 [N,A], keyed by head; empty if no attributes are predicted.
        present: whether the interval has what the head reads, bool [N], keyed by head.
    """

    count: int
    probabilities: Mapping[str, np.ndarray]
    attributes: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]


class Scorer(Protocol):
    """Runs a network on intervals of one recording."""

    def __call__(
        self,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        intervals: Sequence[tuple[float, float]],
        hidden: Sequence[set[str]],
        levels: StageLevels | None,
    ) -> HeadOutputs:
        """Return the outputs for each interval.

        Args:
            arrays: arrays that the stages computed, keyed by stage.
            intervals: begin and end in s.
            hidden: the inputs to hide from the i-th interval; none beyond the list's end.
            levels: levels of the speaker's features, keyed by stage, for a network that normalises by
                speaker.
        """
        ...


def most_probable(probabilities: Mapping[str, float]) -> str | None:
    """Return the class with the highest probability, the first of equal ones; ``None`` without classes.

    >>> most_probable({"calm": 0.2, "happy": 0.8})
    'happy'
    """
    return max(probabilities, key=probabilities.__getitem__) if probabilities else None


@dataclass(frozen=True)
class FaceTrack:
    """Quality of a face track.

    The last five attributes are computed by `deiii.pipeline.faces.quality`. They are medians over the frames
    that show the face; sharpness and brightness are measured in eight of these frames. Angles are ``None``
    where the detector measures no landmarks (``faces.detector=haar``).

    Attributes:
        frames: number of video frames.
        share: share of the video frames that show the face, 0 to 1.
        width_px: median width of the face in the source, px.
        enlarged: size of the face in the stored crop divided by that in the source; below 1 it is reduced.
        longest_gap_s: longest time without the face, s.
        sharpness: variance of the Laplacian of the crop's grey values; depends on ``faces.size``.
        brightness: mean grey value of the crop, 0 to 255.
        yaw: direction of the head in degrees, positive where it looks to the right edge of the image.
        pitch: positive where it looks up, degrees.
        roll: positive where it is turned clockwise in the image, degrees.
    """

    frames: int
    share: float
    width_px: float
    enlarged: float
    longest_gap_s: float
    sharpness: float | None = None
    brightness: float | None = None
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Sharpness, brightness and direction of the head, by name, as far as they are known."""
        names = ("sharpness", "brightness", "yaw", "pitch", "roll")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def quality(self) -> str:
        """``good``, ``fair`` or ``poor``.

        It is poor where less than 60 % of the video frames show the face or its crop is enlarged more than 3
        times, and fair below 90 % or above 1.5 times.
        """
        if self.share < 0.6 or self.enlarged > 3:
            return "poor"
        return "fair" if self.share < 0.9 or self.enlarged > 1.5 else "good"


@dataclass(frozen=True)
class Timeline:
    """Predictions of a window that slides over the recording.

    Attributes:
        time: float64 [W], s, the centre of each row's interval.
        probabilities: float32 [W,C].
        attributes: float32 [W,A].
        present: bool [W], whether the window holds any input.
        window_s: length of the window in s.

    Raises:
        ValueError: the arrays have different numbers of rows.
    """

    time: np.ndarray
    probabilities: np.ndarray
    attributes: np.ndarray
    present: np.ndarray
    window_s: float

    def __post_init__(self) -> None:
        arrays = (self.time, self.probabilities, self.attributes, self.present)
        if len({len(array) for array in arrays}) > 1:
            raise ValueError(f"a timeline needs one row per window, not {[list(a.shape) for a in arrays]}")

    def __repr__(self) -> str:
        return (
            f"Timeline(windows={len(self.time)}, probabilities={list(self.probabilities.shape)}, "
            f"attributes={list(self.attributes.shape)}, window_s={self.window_s:g})"
        )


@dataclass(frozen=True)
class Segment:
    """The prediction for one stretch of speech.

    Attributes:
        begin_s, end_s: begin and end in s.
        probabilities: probabilities, keyed by class; empty if it holds no usable input.
        attributes: attributes, keyed by name.
    """

    begin_s: float
    end_s: float
    probabilities: dict[str, float]
    attributes: dict[str, float]

    @property
    def label(self) -> str | None:
        """The most probable class; ``None`` without probabilities."""
        return most_probable(self.probabilities)

    def tree(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {"begin_s": self.begin_s, "end_s": self.end_s, "label": self.label,
                "probabilities": self.probabilities, "attributes": self.attributes}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One of the people in a recording.

    Attributes:
        number: 1 for the person who appears first; of people who appear at the same time, the one further to
            the left has the lower number.
        stretches: the times for which the person is visible, begin and end in s.
        chosen: whether the person is the one for whom `Predictor.predict` predicts.
        follows_sound: how well the mouth follows the audio, -1 to 1; ``None`` without audio.
        thumbnail: the sharpest crop, uint8 [S,S,3].
    """

    number: int
    stretches: tuple[tuple[float, float], ...]
    chosen: bool = False
    follows_sound: float | None = None
    thumbnail: np.ndarray | None = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        """How long the person is visible, s."""
        return sum(end - begin for begin, end in self.stretches)

    def tree(self) -> dict[str, Any]:
        """Return everything but the thumbnail for JSON."""
        return {"number": self.number, "stretches": [list(s) for s in self.stretches], "chosen": self.chosen,
                "follows_sound": self.follows_sound}  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """The prediction for one media file.

    Attributes:
        path: the file.
        seconds: its length in s.
        outcomes: outcomes of every stage that the network needs.
        probabilities: probabilities, keyed by class; empty if no input is usable, or no classes are
            predicted.
        attributes: attributes in the corpus's range, keyed by name.
        heads: probabilities and attributes of the video head and of the audio head, where each has its input.
        contributions: contributions of the inputs, keyed by output (the predicted class, each attribute) and
            input; see `deiii.model.prediction.shapley`.
        face: the face track, where there is one.
        timeline: the predictions of the sliding window.
        segments: the predictions for stretches of speech, where they were asked for.
        notes: which inputs are missing or incomplete, and which ones the prediction uses, as text.
        arrays: arrays that the stages computed, keyed by stage.
        person: the person whom the prediction is about, if it was made for each person in the file.
    """

    path: str
    seconds: float
    outcomes: Mapping[str, Outcome]
    probabilities: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, float] = field(default_factory=dict)
    heads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    contributions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    face: FaceTrack | None = None
    timeline: Timeline | None = None
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    arrays: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict, repr=False)
    person: Person | None = None

    def __repr__(self) -> str:
        """Return the prediction in a line; every attribute can be read by its name."""
        best = self.label and f"{self.label} {self.probabilities[self.label]:.3f}"
        values = [best, *(f"{name} {value:.3f}" for name, value in self.attributes.items())]
        found = ", ".join(v for v in values if v) or "no usable input"
        notes = "".join(f"; {note}" for note in self.notes)
        return f"Prediction({self.path!r}, {self.seconds:.1f} s: {found}{notes})"

    @property
    def usable(self) -> bool:
        """Whether there was any usable input."""
        return bool(self.probabilities or self.attributes)

    @property
    def label(self) -> str | None:
        """The most probable class; ``None`` without probabilities."""
        return most_probable(self.probabilities)

    def tree(self) -> dict[str, Any]:
        """Return everything but the arrays for JSON; numbers are rounded to 6 decimals."""
        t = self.timeline
        steps = {} if t is None else {"window_s": t.window_s, "steps": [
            {
                "time_s": at,
                "probabilities": dict(zip(self.probabilities, p, strict=True)) if present else None,
                "attributes": dict(zip(self.attributes, a, strict=True)) if present else None,
            }
            for at, p, a, present in zip(
                t.time.tolist(), t.probabilities.tolist(), t.attributes.tolist(), t.present, strict=True
            )
        ]}  # fmt: skip
        face = self.face and {**vars(self.face), "quality": self.face.quality}
        person = {} if self.person is None else {"person": self.person.tree()}
        return _rounded({"format": FORMAT} | person | {
            "file": self.path, "seconds": self.seconds, "label": self.label,
            "probabilities": self.probabilities, "attributes": self.attributes, "heads": self.heads,
            "contributions": self.contributions, "face": face, "notes": self.notes,
            "outcomes": {s: {"status": str(o.status), "reason": o.reason, "valid_share": o.fraction}
                         for s, o in self.outcomes.items()},
            "timeline": steps, "segments": [segment.tree() for segment in self.segments],
        })  # fmt: skip


def face_track(
    faces: Mapping[str, np.ndarray], config: FacesConfig, figures: Mapping[str, float]
) -> FaceTrack:
    """Return the quality of a face track.

    Args:
        faces: fields of the faces stage.
        config: settings of the stage.
        figures: sharpness, brightness and direction of the head, by the name of the attribute.
    """
    valid, time = faces["valid"], faces["time"]
    width = float(np.median(faces["box"][valid, 2])) if valid.any() else 0.0
    shown = time[valid]
    step = row_step(time) if len(time) > 1 else 0.0
    edges = np.concatenate([[time[0] - step], shown, [time[-1] + step]])
    gap = max(0.0, float(np.diff(edges).max()) - step) if len(shown) else end_of_rows(time)
    enlarged = config.size / (1 + 2 * config.margin) / width if width else 0.0
    gap = gap if gap > step / 2 else 0.0
    return FaceTrack(len(valid), float(valid.mean()), width, enlarged, gap, **figures)


# The reasons of these outcomes name settings of the faces stage, which the trained network fixes.
SETTING_MATTERS = (Status.NO_FACE, Status.TOO_SHORT)
MISSING = {Status.NO_FACE: "no face", Status.NO_AUDIO: "no audio", Status.NO_VIDEO: "no video"}
MISSING |= dict.fromkeys((Status.MISSING, Status.NOT_MEDIA), "unusable")  # whatever the file should hold


def notes_on(
    outcomes: Mapping[str, Outcome], streams: Sequence[str], predicted: bool = True
) -> Iterator[str]:
    """Yield notes on inputs that are missing, incomplete or unusual, each once, and on the inputs in use.

    Args:
        outcomes: outcomes, keyed by stage.
        streams: the inputs that the network reads.
        predicted: whether there is a prediction where an input is usable.
    """
    own = {stage: o for stage, o in outcomes.items() if get_stage(stage).upstream is None and o.reason}
    for reason in dict.fromkeys(o.reason for o in own.values()):
        stage, outcome = next((s, o) for s, o in own.items() if o.reason == reason)
        modality = get_stage(stage).modality
        if outcome.status == Status.OK:
            yield f"{modality}: {reason}"
        elif outcome.usable:
            yield f"only part of the {modality} is usable: {reason}"
        else:
            if modality == "video" and outcome.status in SETTING_MATTERS:
                reason += " (a trained network fixes these settings)"
            kind = MISSING.get(outcome.status, f"{modality} unusable")
            yield reason if reason.startswith(kind) else f"{kind}: {reason}"
    left = [s for s in streams if outcomes[stage_of_stream(s)].usable]
    if left and predicted and len(left) < len(streams):
        yield f"predicted from {' and '.join(left)} alone"
    elif not left:
        yield "no prediction: no input is usable"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, (list, tuple)) else value
