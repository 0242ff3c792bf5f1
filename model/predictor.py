"""A trained network that judges media files.

>>> from model import load                                         # doctest: +SKIP
>>> network = load("runs/latest")                                  # doctest: +SKIP
>>> network.predict("clip.mp4").probabilities                      # doctest: +SKIP
{'happy': 0.91, 'sad': 0.09}

A file goes through the stages that made the training's caches and through the loader that evaluation
uses, so a clip of the corpus gets the very probabilities that its evaluation wrote down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from data.config import ConfigError, load_config, parse_config, to_yaml
from data.features import needed_stages
from data.memory import nothing, recording
from data.outcomes import Outcome, Status
from data.schema import Config, FacesConfig
from model import checkpoint
from model.devices import pick_device
from model.export import MANIFEST, read_export
from model.masking import enabled_streams, hide
from model.parts import shapley
from model.runs import RunFolder
from model.scoring import Predictions, score
from model.train import Task, make_loader
from pipeline.clip_features import run_stages

LONGER = 1.25  # a recording this many times longer than any training clip is judged in windows
MOST_BATCH = 16
STAGE_OF = {"frames": "faces", "flow": "flow", "sound": "logmel"}


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
        parts: by class or attribute (the predicted class, each attribute) and input; see `model.parts`.
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


class Predictor:
    """A network with the settings it was trained with; made by `load`.

    Attributes:
        classes, attributes: what is predicted.
        config: settings of preprocessing and network.
    """

    def __init__(
        self, network: nn.Module, config: Config, task: Task, device: torch.device, seconds: Sequence[float]
    ):
        self.network, self.config, self.task, self.device = network.to(device).eval(), config, task, device
        self.median_s, self.longest_s = seconds
        self.stages = needed_stages(config.model)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.task.classes

    @property
    def attributes(self) -> tuple[str, ...]:
        return self.task.attributes

    def predict(
        self, path: str | Path, window_s: float | None = None, hop_s: float | None = None
    ) -> Prediction:
        """Judge one file.

        A recording as long as a training clip is judged as evaluation would; a much longer one
        is cut into windows without overlap, whose predictions are averaged.

        Args:
            path: any media file; what it lacks (sound, a face) is told in the notes.
            window_s: length of the sliding window in s; by default the median training clip's, at most
                half of the recording.
            hop_s: distance of windows in s; by default 0.2, or more so that there are at most 2000.

        Raises:
            data.weights.WeightsError: where the face detector's or RAFT's weights cannot be had.
        """
        results = run_stages(path, self.config, self.stages)
        outcomes = {stage: r.outcome for stage, r in results.items()}
        arrays = {stage: r.arrays for stage, r in results.items() if r.arrays}
        seconds = max((_end(a["time"]) for a in arrays.values()), default=0.0)
        notes = tuple(_notes(outcomes, enabled_streams(self.config.model)))
        if not arrays:
            return Prediction(str(path), seconds, outcomes, notes=notes)
        window = min(self.median_s, seconds / 2) if window_s is None else min(window_s, seconds)
        whole = seconds <= LONGER * self.longest_s
        units = [(0.0, seconds)] if whole else _tiles(seconds, self.median_s)
        hop = hop_s or max(0.2, seconds / 2000)
        centres = np.arange(hop / 2, max(seconds, hop), hop)
        begin = np.clip(centres - window / 2, 0, seconds - window)
        slides = self._score(arrays, [(b, b + window) for b in begin])
        timeline = Timeline(
            centres, self._of(slides, "probabilities"), self._of(slides, "attributes"),
            slides.present["fused"], window,
        )  # fmt: skip
        probabilities, attributes, heads, parts = self._judge(arrays, units)
        if not whole:
            notes += (f"longer than the training clips: the mean over {len(units)} windows",)
        face = face_track(arrays["faces"], self.config.faces) if "faces" in arrays else None
        return Prediction(
            str(path), seconds, outcomes, probabilities, attributes, heads, parts, face, timeline,
            notes, arrays,
        )  # fmt: skip

    def _judge(self, arrays: Mapping, units: Sequence[tuple[float, float]]) -> tuple[dict, dict, dict, dict]:
        """Means over the units: probabilities, attributes, the heads' own, and parts."""
        found = self._score(arrays, units)
        mean = lambda head: (
            self._of(found, "probabilities", head)[found.present[head]].mean(axis=0, dtype=np.float64),
            self._of(found, "attributes", head)[found.present[head]].mean(axis=0, dtype=np.float64),
        )
        if not found.present["fused"].any():
            return {}, {}, {}, {}
        p, a = mean("fused")
        named = lambda p, a: (
            dict(zip(self.classes, p.tolist(), strict=True)),
            dict(zip(self.attributes, a.tolist(), strict=True)),
        )
        heads = {}
        for head in ("video", "audio"):
            if head in found.present and found.present[head].any():
                own = named(*mean(head))
                heads[head] = own[0] | own[1]
        there = [s for s in enabled_streams(self.config.model) if STAGE_OF[s] in arrays]
        keep = found.present["fused"]
        top = [int(p.argmax())] if len(p) else []

        def value(shown: frozenset[str]) -> np.ndarray:
            gone = {s: True for s in there if s not in shown}
            some = self._score(arrays, units, **gone) if gone else found
            means = [self._of(some, kind)[keep].mean(axis=0) for kind in ("probabilities", "attributes")]
            return np.concatenate([means[0][top], means[1]])

        nothing = np.array([1 / len(p)] * len(top) + [sum(r) / 2 for r in self.task.ranges])
        shares = shapley(there, value, nothing)
        outputs = [*(self.classes[i] for i in top), *self.attributes]
        parts = {o: {s: float(shares[s][k]) for s in there} for k, o in enumerate(outputs)}
        return *named(p, a), heads, parts

    def _score(self, arrays: Mapping, intervals: Sequence[tuple[float, float]], **gone: bool) -> Predictions:
        empty = {s: nothing(s, self.config.faces.size, self.config.logmel.n_mels) for s in self.stages}
        features = recording({**empty, **arrays}, intervals, self.classes)
        size = min(len(intervals), MOST_BATCH)
        loader = replace(self.config.loader, batch=size, residency="stream")
        config = replace(self.config, loader=loader)
        batches = make_loader(features, np.arange(len(intervals)), config, self.device, training=False)
        change = lambda batch: hide(batch, **gone)
        return score(self.network, batches.epoch(0), self.device, config.train, change)

    def _of(self, found: Predictions, kind: str, head: str = "fused") -> np.ndarray:
        width = {"probabilities": len(self.classes), "attributes": len(self.attributes)}[kind]
        return getattr(found, kind).get(head, np.zeros((len(found.index), width), np.float32))


def load(path: str | Path, device: str = "auto", overrides: Iterable[str] = ()) -> Predictor:
    """A trained network from a run folder or from a folder that `model.export` made.

    Args:
        path: the folder.
        device: auto, cpu or cuda.
        overrides: ``key=value`` settings for this machine, such as ``faces.weights=/w/yunet.onnx``.

    Raises:
        RunError, CheckpointError, ConfigError: the folder is not what it should be, or a setting is not.
    """
    folder = Path(path)
    if (folder / MANIFEST).is_file():
        config, info, weights, source = read_export(folder)
    else:
        run = RunFolder(folder)
        info = run.read_info()
        config, (weights, _), source = load_config([run.config]), checkpoint.load(run.best), run.best
    if overrides := list(overrides):
        config = _override(config, overrides)
    task = Task(
        tuple(info["classes"]), tuple(info["attributes"]), tuple((lo, hi) for lo, hi in info["ranges"])
    )
    network = task.network(config)
    checkpoint.load_into(network, weights, source)
    sound_s = config.loader.audio_steps * config.logmel.hop_ms / 1000
    seconds = info.get("seconds") or {"median": sound_s, "longest": 2 * sound_s}
    return Predictor(network, config, task, pick_device(device), (seconds["median"], seconds["longest"]))


def face_track(faces: Mapping[str, np.ndarray], config: FacesConfig) -> FaceTrack:
    """Figures of a face track from what the faces stage stored."""
    valid, time = faces["valid"], faces["time"]
    width = float(np.median(faces["box"][valid, 2])) if valid.any() else 0.0
    shown = time[valid]
    step = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    edges = np.concatenate([[time[0] - step], shown, [time[-1] + step]])
    gap = max(0.0, float(np.diff(edges).max()) - step) if len(shown) else _end(time)
    enlarged = config.size / (1 + 2 * config.margin) / width if width else 0.0
    return FaceTrack(len(valid), float(valid.mean()), width, enlarged, gap if gap > step / 2 else 0.0)


def _override(config: Config, overrides: list[str]) -> Config:
    """Settings for this machine; those that the network was built with stay as they are."""
    fixed = [o for o in overrides if o.split("=")[0].split(".")[0] in ("model", "loader", "logmel")]
    if fixed:
        raise ConfigError(f"{fixed[0]}: this setting belongs to the trained network and cannot be changed")
    return parse_config(to_yaml(config), overrides)


def _end(time: np.ndarray) -> float:
    """Time in s at which a stream's last row ends."""
    step = float(np.median(np.diff(time))) if len(time) > 1 else 0.04
    return float(time[-1]) + step


def _tiles(seconds: float, window: float) -> list[tuple[float, float]]:
    count = max(1, round(seconds / window))
    edges = np.linspace(0, seconds, count + 1)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _notes(outcomes: Mapping[str, Outcome], streams: Sequence[str]) -> Iterator[str]:
    """What is missing or in part, by reason, and what is left."""
    kinds = {Status.NO_FACE: "no face", Status.NO_AUDIO: "no sound", Status.NO_VIDEO: "no picture"}
    own = {stage: o for stage, o in outcomes.items() if stage != "flow" and o.reason}
    for reason in dict.fromkeys(o.reason for o in own.values()):
        stage, outcome = next((s, o) for s, o in own.items() if o.reason == reason)
        source = {"faces": "picture", "logmel": "sound"}[stage]
        if outcome.usable:
            yield f"{source} in part: {reason}"
        else:
            yield f"{kinds.get(outcome.status, f'{source} unusable')}: {reason}"
    left = [s for s in streams if outcomes[STAGE_OF[s]].usable]
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
