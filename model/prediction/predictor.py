"""A trained network that judges media files.

>>> from deiii import load                                         # doctest: +SKIP
>>> network = load("runs/latest")                                  # doctest: +SKIP
>>> network.predict("clip.mp4").probabilities                      # doctest: +SKIP
{'happy': 0.91, 'sad': 0.09}

A file goes through the stages that made the training's caches and through the loader that evaluation
uses, so a clip of the corpus gets the very probabilities that its evaluation wrote down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deiii.data.cache.stages import FACES, LOGMEL, get_stage, network_stages, stage_of_stream
from deiii.data.config.load import parse_config, to_yaml
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.recording import recording
from deiii.data.tools.devices import pick_device
from deiii.model.network.hide_streams import STREAMS, enabled_streams, hide
from deiii.model.network.task import Task
from deiii.model.prediction.export import MANIFEST, read_export
from deiii.model.prediction.result import Prediction, Timeline, end_s, face_track, notes_on
from deiii.model.prediction.shapley import shapley
from deiii.model.training.loaders import make_loader
from deiii.model.training.scoring import Predictions, score
from deiii.model.training.trained import build_network, load_network
from deiii.pipeline.extract import run_stages

LONGER = 1.25  # a recording this many times longer than any training clip is judged in windows
MOST_BATCH = 16


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
        self.stages = network_stages(config.model)

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
        seconds = max((end_s(a["time"]) for a in arrays.values()), default=0.0)
        notes = tuple(notes_on(outcomes, enabled_streams(self.config.model)))
        if not arrays:
            return Prediction(str(path), seconds, outcomes, notes=notes)
        window = min(self.median_s, seconds / 2) if window_s is None else min(window_s, seconds)
        whole = seconds <= LONGER * self.longest_s
        units = [(0.0, seconds)] if whole else _tiles(seconds, self.median_s)
        hop = hop_s or max(0.2, seconds / 2000)
        centres = np.arange(hop / 2, max(seconds, hop), hop)
        begin = np.clip(centres - window / 2, 0, seconds - window)
        slides = [(b, b + window) for b in begin.tolist()]
        there = [s for s in enabled_streams(self.config.model) if stage_of_stream(s) in arrays]
        some = [frozenset(c) for n in range(len(there), 0, -1) for c in combinations(there, n)]
        # one pass: the units with every combination of inputs, all of them first, then the windows
        found = self._score(
            arrays, units * len(some) + slides, [set(there) - s for s in some for _ in units], there
        )
        parts_of = lambda k: _Found(found, self.task, slice(k * len(units), (k + 1) * len(units)))
        moving = _Found(found, self.task, slice(len(some) * len(units), None))
        probabilities, attributes, heads, parts = self._judge({s: parts_of(k) for k, s in enumerate(some)})
        timeline = Timeline(
            centres, moving.values("probabilities"), moving.values("attributes"), moving.present(), window
        )
        if not whole:
            notes += (f"longer than the training clips: the mean over {len(units)} windows",)
        face = face_track(arrays[FACES.name], self.config.faces) if FACES.name in arrays else None
        return Prediction(
            str(path), seconds, outcomes, probabilities, attributes, heads, parts, face, timeline,
            notes, arrays,
        )  # fmt: skip

    def _judge(self, by_inputs: Mapping[frozenset[str], _Found]) -> tuple[dict, dict, dict, dict]:
        """Means over the units: probabilities, attributes, the heads' own, and parts.

        Args:
            by_inputs: what is found from some of the inputs, from all of them first.
        """
        full, whole = next(iter(by_inputs.items()))
        keep = whole.present()
        if not keep.any():
            return {}, {}, {}, {}
        p, a = whole.mean(keep)
        named = lambda p, a: (
            dict(zip(self.classes, p.tolist(), strict=True)),
            dict(zip(self.attributes, a.tolist(), strict=True)),
        )
        heads = {}
        for head in ("video", "audio"):
            if whole.present(head).any():
                own = named(*whole.mean(whole.present(head), head))
                heads[head] = own[0] | own[1]
        top = [int(p.argmax())] if len(p) else []

        def value(shown: frozenset[str]) -> np.ndarray:
            probabilities, attributes = by_inputs[shown].mean(keep)
            return np.concatenate([probabilities[top], attributes])

        blank = np.array([1 / len(p)] * len(top) + [sum(r) / 2 for r in self.task.ranges])
        shares = shapley(sorted(full, key=STREAMS.index), value, blank)
        outputs = [*(self.classes[i] for i in top), *self.attributes]
        parts = {o: {s: float(v[k]) for s, v in shares.items()} for k, o in enumerate(outputs)}
        return *named(p, a), heads, parts

    def _score(
        self,
        arrays: Mapping,
        intervals: Sequence[tuple[float, float]],
        hidden: Sequence[set[str]],
        inputs: Sequence[str],
    ) -> Predictions:
        """Run the network on intervals; from the i-th, the inputs in ``hidden[i]`` are hidden."""
        empty = {name: get_stage(name).empty(self.config) for name in self.stages}
        features = recording({**empty, **arrays}, intervals, self.classes)
        loader = replace(self.config.loader, batch=min(len(intervals), MOST_BATCH), residency="stream")
        config = replace(self.config, loader=loader)
        batches = make_loader(features, np.arange(len(intervals)), config, self.device, training=False)
        gone = {s: torch.zeros(len(intervals), dtype=torch.bool, device=self.device) for s in inputs}
        for row, names in enumerate(hidden):
            for name in names:
                gone[name][row] = True
        change = lambda batch: hide(batch, **{s: g[batch.index] for s, g in gone.items()})
        return score(self.network, batches.epoch(0), self.device, config.train, change)


@dataclass(frozen=True)
class _Found:
    """Some rows of what a pass over the network gave."""

    found: Predictions
    task: Task
    rows: slice

    def values(self, kind: str, head: str = "fused") -> np.ndarray:
        width = {"probabilities": len(self.task.classes), "attributes": len(self.task.attributes)}[kind]
        whole = getattr(self.found, kind).get(head, np.zeros((len(self.found.index), width), np.float32))
        return whole[self.rows]

    def present(self, head: str = "fused") -> np.ndarray:
        whole = self.found.present.get(head, np.zeros(len(self.found.index), bool))
        return whole[self.rows]

    def mean(self, keep: np.ndarray, head: str = "fused") -> tuple[np.ndarray, np.ndarray]:
        return tuple(
            self.values(kind, head)[keep].mean(axis=0, dtype=np.float64)
            for kind in ("probabilities", "attributes")
        )


def load(path: str | Path, device: str = "auto", overrides: Iterable[str] = ()) -> Predictor:
    """A trained network from a run folder or from a folder that `deiii.model.prediction.export` made.

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
        network, task = build_network(config, info, weights, source)
    else:
        trained = load_network(folder)
        network, task, config, info = trained.network, trained.task, trained.config, trained.info
    if changes := list(overrides):
        config = _override(config, changes)
    sound_s = config.loader.audio_steps * LOGMEL.row_seconds(config)
    seconds = info.get("seconds") or {"median": sound_s, "longest": 2 * sound_s}
    return Predictor(network, config, task, pick_device(device), (seconds["median"], seconds["longest"]))


def _override(config: Config, overrides: list[str]) -> Config:
    """Settings for this machine; those that the network was built with stay as they are."""
    heard = [name for name in network_stages(config.model) if get_stage(name).modality == "audio"]
    fixed = [o for o in overrides if o.split("=")[0].split(".")[0] in ("model", "loader", *heard)]
    if fixed:
        raise ConfigError(f"{fixed[0]}: this setting belongs to the trained network and cannot be changed")
    return parse_config(to_yaml(config), overrides)


def _tiles(seconds: float, window: float) -> list[tuple[float, float]]:
    count = max(1, round(seconds / window))
    edges = np.linspace(0, seconds, count + 1)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
