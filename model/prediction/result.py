"""What a network says about one media file, and how good its material was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.stages import get_stage, stage_of_stream
from deiii.data.config.schema import FacesConfig


@dataclass(frozen=True)
class FaceTrack:
    """How well the face was followed.

    Attributes:
        frames: number of frames.
        share: of the frames that show the face, 0 to 1.
        width_px: median width of the face in the source, px.
        enlarged: how many times larger the network's crop is than the source; below 1 it is reduced.
        longest_gap_s: longest time without the face, s.
    """

    frames: int
    share: float
    width_px: float
    enlarged: float
    longest_gap_s: float

    @property
    def quality(self) -> str:
        """``good``, ``fair`` or ``poor``: poor where less than 60 % of the frames show the face or
        its crop is enlarged more than 3 times, fair below 90 % or above 1.5 times."""
        if self.share < 0.6 or self.enlarged > 3:
            return "poor"
        return "fair" if self.share < 0.9 or self.enlarged > 1.5 else "good"


@dataclass(frozen=True)
class Timeline:
    """Predictions of a window that slides over the recording.

    Attributes:
        time: float64 [W], centre of the stretch of time each row stands for, s.
        probabilities: float32 [W,C].
        attributes: float32 [W,A].
        present: bool [W], whether there was anything to judge.
        window_s: length of the window.
    """

    time: np.ndarray
    probabilities: np.ndarray
    attributes: np.ndarray
    present: np.ndarray
    window_s: float


@dataclass(frozen=True)
class Prediction:
    """What the network says about one file.

    Attributes:
        path: the file.
        seconds: its length.
        outcomes: of every stage that the network needs.
        probabilities: by class; empty where there was nothing to judge, or no classes.
        attributes: by name, in the corpus's range.
        heads: the video and the audio head's own probabilities and attributes, where each has its input.
        parts: by class or attribute (the predicted class, each attribute) and input; see
            `deiii.model.prediction.shapley`.
        face: the face track, where there is one.
        timeline: the sliding window.
        notes: what was missing and what was done about it, in words.
        arrays: by stage, what the stages computed.
    """

    path: str
    seconds: float
    outcomes: Mapping[str, Outcome]
    probabilities: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, float] = field(default_factory=dict)
    heads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    face: FaceTrack | None = None
    timeline: Timeline | None = None
    notes: tuple[str, ...] = ()
    arrays: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def usable(self) -> bool:
        """Whether there was anything to judge."""
        return bool(self.probabilities or self.attributes)

    @property
    def label(self) -> str | None:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__) if self.probabilities else None

    def tree(self) -> dict[str, Any]:
        """Everything but the arrays, ready for JSON; numbers are rounded to 6 digits."""
        t = self.timeline
        steps = {} if t is None else {"window_s": t.window_s, "steps": [
            {
                "time_s": at,
                "probabilities": dict(zip(self.probabilities, p, strict=True)) if there else None,
                "attributes": dict(zip(self.attributes, a, strict=True)) if there else None,
            }
            for at, p, a, there in zip(
                t.time.tolist(), t.probabilities.tolist(), t.attributes.tolist(), t.present, strict=True
            )
        ]}  # fmt: skip
        face = self.face and {**vars(self.face), "quality": self.face.quality}
        return _rounded({
            "file": self.path, "seconds": self.seconds, "label": self.label,
            "probabilities": self.probabilities, "attributes": self.attributes, "heads": self.heads,
            "parts": self.parts, "face": face, "notes": self.notes,
            "outcomes": {s: {"status": str(o.status), "reason": o.reason, "valid_share": o.fraction}
                         for s, o in self.outcomes.items()},
            "timeline": steps,
        })  # fmt: skip


def face_track(faces: Mapping[str, np.ndarray], config: FacesConfig) -> FaceTrack:
    """Figures of a face track from what the faces stage stored."""
    valid, time = faces["valid"], faces["time"]
    width = float(np.median(faces["box"][valid, 2])) if valid.any() else 0.0
    shown = time[valid]
    step = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    edges = np.concatenate([[time[0] - step], shown, [time[-1] + step]])
    gap = max(0.0, float(np.diff(edges).max()) - step) if len(shown) else end_s(time)
    enlarged = config.size / (1 + 2 * config.margin) / width if width else 0.0
    return FaceTrack(len(valid), float(valid.mean()), width, enlarged, gap if gap > step / 2 else 0.0)


def end_s(time: np.ndarray) -> float:
    """Time in s at which a stream's last row ends."""
    step = float(np.median(np.diff(time))) if len(time) > 1 else 0.04
    return float(time[-1]) + step


MATERIAL = {"video": "picture", "audio": "sound"}  # what a file lacks, in the words of its notes

# Whose reasons name settings of the faces stage; a model fixes them.
SETTING_MATTERS = (Status.NO_FACE, Status.TOO_SHORT)


def notes_on(outcomes: Mapping[str, Outcome], streams: Sequence[str]) -> Iterator[str]:
    """What is missing or in part, by reason, and what is left."""
    kinds = {Status.NO_FACE: "no face", Status.NO_AUDIO: "no sound", Status.NO_VIDEO: "no picture"}
    own = {stage: o for stage, o in outcomes.items() if get_stage(stage).upstream is None and o.reason}
    for reason in dict.fromkeys(o.reason for o in own.values()):
        stage, outcome = next((s, o) for s, o in own.items() if o.reason == reason)
        source = MATERIAL[get_stage(stage).modality]
        if outcome.usable:
            yield f"{source} in part: {reason}"
        else:
            if get_stage(stage).modality == "video" and outcome.status in SETTING_MATTERS:
                reason += " (in the preprocessing that a model is trained on)"
            kind = kinds.get(outcome.status, f"{source} unusable")
            yield reason if reason.startswith(kind) else f"{kind}: {reason}"
    left = [s for s in streams if outcomes[stage_of_stream(s)].usable]
    if left and len(left) < len(streams):
        yield f"judged by {' and '.join(left)} alone"
    elif not left:
        yield "nothing is left to judge"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, (list, tuple)) else value
