"""Predict for media files with a trained network.

>>> from deiii import load                                         # doctest: +SKIP
>>> network = load("runs/latest")                                  # doctest: +SKIP
>>> network.predict("clip.mp4").probabilities                      # doctest: +SKIP
{'happy': 0.91, 'sad': 0.09}

A file passes the stages that computed the training's caches and the loader that evaluation uses, so that a
clip of the corpus gets the probabilities that evaluation recorded for it. The network runs in PyTorch
(`deiii.model.prediction.with_torch`) or in onnxruntime (`deiii.model.prediction.with_onnx`); this module
needs neither.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.cache.stages import FACES, LOGMEL, network_stages, stage_of_stream
from deiii.data.config.schema import Config
from deiii.data.loader.stage_arrays import Levels, band_levels
from deiii.model.network.streams import enabled_streams
from deiii.model.network.task import Task
from deiii.model.prediction.hub import upload
from deiii.model.prediction.manifest import MANIFEST, copy_export
from deiii.model.prediction.result import (
    HeadOutputs,
    Prediction,
    Scorer,
    Timeline,
    end_s,
    face_track,
    notes_on,
)
from deiii.model.prediction.settings import override_settings, speaker_note, stage_notes
from deiii.model.prediction.shapley import shapley
from deiii.pipeline.extract import run_stages

LONGER = 1.25  # a recording this many times longer than any training clip is predicted in windows
HOP_S = 0.2  # default distance of sliding windows
MOST_WINDOWS = 2000  # by default, of the sliding window

Intervals = list[tuple[float, float]]  # begin and end in s


class Predictor:
    """A trained network with its settings; `load` makes it.

    Args:
        scorer: runs the network.
        config: settings of preprocessing and network.
        task: the classes and attributes that it predicts.
        seconds: the median and the longest training clip, in s.
        notes: on how preprocessing differs from training, for every prediction.
        source: the folder of the run or of the export.
        info: what its ``run.json`` or ``deiii.json`` holds.
        members: of an ensemble, the folders of all its networks.
    """

    def __init__(
        self,
        scorer: Scorer,
        config: Config,
        task: Task,
        seconds: tuple[float, float],
        notes: tuple[str, ...] = (),
        source: str | Path = "",
        info: Mapping[str, Any] | None = None,
        members: tuple[Path, ...] = (),
    ):
        self.scorer = scorer
        self.config = config
        self.task = task
        self.median_s, self.longest_s = seconds
        self.stages = network_stages(config.model)
        self.notes = notes
        self.source = Path(source)
        self.info = info or {}
        self.members = members

    @classmethod
    def of(
        cls,
        scorer: Scorer,
        config: Config,
        info: Mapping[str, Any],
        overrides: Iterable[str],
        change_preprocessing: bool,
        source: str | Path,
    ) -> Predictor:
        """Return the predictor of a network under settings of this machine.

        Args:
            info: what ``run.json`` or ``deiii.json`` holds.
            overrides, change_preprocessing: see `deiii.model.prediction.loading.load`.
            Others: as above.
        """
        config, notes = override_settings(config, list(overrides), change_preprocessing)
        if not notes:
            notes = stage_notes(config, info["keys"])
        audio_s = config.loader.audio_steps * LOGMEL.row_seconds(config)
        seconds = info.get("seconds") or {"median": audio_s, "longest": 2 * audio_s}
        lengths = (seconds["median"], seconds["longest"])
        return cls(scorer, config, Task.from_info(info), lengths, notes, source, info)

    @property
    def network(self) -> Any:
        """The network as a PyTorch module; AttributeError for onnxruntime and for an ensemble."""
        return self.scorer.network  # type: ignore[attr-defined]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; empty where no classes are predicted."""
        return self.task.classes

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attribute names."""
        return self.task.attributes

    def predict(
        self,
        path: str | Path,
        window_s: float | None = None,
        hop_s: float | None = None,
        levels: Levels | None = None,
    ) -> Prediction:
        """Predict for one media file.

        A recording as long as a training clip is treated as in evaluation. A much longer one is cut into
        windows without overlap, whose predictions are averaged.

        Args:
            path: any media file; the notes of the result tell which inputs it lacks.
            window_s: length of the sliding window in s; by default that of the median training clip, at most
                half of the recording.
            hop_s: distance of the windows in s; by default 0.2, or more so that there are at most 2000.
            levels: of the speaker's mel bands, from `speaker_levels`; used where the network was trained with
                ``loader.normalise=speaker``, whose levels otherwise come from this file alone.

        Raises:
            WeightsError: the weights of the face detector or of RAFT cannot be found or downloaded.

        >>> load("runs/latest").predict("clip.mp4").label   # doctest: +SKIP
        'happy'
        """
        results = run_stages(path, self.config, self.stages)
        outcomes = {stage: r.outcome for stage, r in results.items()}
        arrays = {stage: r.arrays for stage, r in results.items() if r.arrays}
        seconds = max((end_s(a["time"]) for a in arrays.values()), default=0.0)
        notes = (*self.notes, *notes_on(outcomes, enabled_streams(self.config.model)))
        if not arrays:
            return Prediction(str(path), seconds, outcomes, notes=notes)
        if LOGMEL.name in arrays:
            notes += speaker_note(self.config, levels is not None)
        if self._by_speaker and levels is None and LOGMEL.name in arrays:
            levels = band_levels([arrays[LOGMEL.name][LOGMEL.large]])
        units = self._units(seconds)
        centres, window, windows = self._windows(seconds, window_s, hop_s)
        inputs = [s for s in enabled_streams(self.config.model) if stage_of_stream(s) in arrays]
        shown = [frozenset(c) for n in range(len(inputs), 0, -1) for c in combinations(inputs, n)]
        # One pass over the network: the units with every combination of inputs (all inputs first), then the
        # sliding windows.
        hidden = [set(inputs) - some for some in shown for _ in units]
        own = levels if self._by_speaker else None
        found = self.scorer(arrays, units * len(shown) + windows, hidden, own)
        by_inputs = {
            some: _Rows(found, self.task, slice(k * len(units), (k + 1) * len(units)))
            for k, some in enumerate(shown)
        }
        moving = _Rows(found, self.task, slice(len(shown) * len(units), None))
        if len(units) > 1:
            notes += (f"longer than the training clips: the mean over {len(units)} windows",)
        whole = self._combine(by_inputs)
        return Prediction(
            path=str(path),
            seconds=seconds,
            outcomes=outcomes,
            probabilities=whole.probabilities,
            attributes=whole.attributes,
            heads=whole.heads,
            contributions=whole.contributions,
            face=face_track(arrays[FACES.name], self.config.faces) if FACES.name in arrays else None,
            timeline=Timeline(
                centres,
                moving.values("probabilities"),
                moving.values("attributes"),
                moving.present(),
                window,
            ),
            notes=notes,
            arrays=arrays,
        )

    @property
    def _by_speaker(self) -> bool:
        return self.config.model.audio and self.config.loader.normalise == "speaker"

    def speaker_levels(self, paths: Iterable[str | Path]) -> Levels | None:
        """Return the levels of the mel bands over all files of one speaker, as evaluation computes them.

        Args:
            paths: the speaker's media files; those without usable audio are left out.

        Returns:
            for `predict`; ``None`` where the network does not normalise by speaker, or no file has audio.
        """
        if not self._by_speaker:
            return None
        found = [run_stages(path, self.config, [LOGMEL.name])[LOGMEL.name].arrays for path in paths]
        clips = [arrays[LOGMEL.large] for arrays in found if arrays]
        return band_levels(clips) if clips else None

    def _units(self, seconds: float) -> Intervals:
        """Return the intervals whose mean is the prediction: the whole recording, or windows of it."""
        if seconds <= LONGER * self.longest_s:
            return [(0.0, seconds)]
        edges = np.linspace(0, seconds, max(1, round(seconds / self.median_s)) + 1)
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))

    def _windows(
        self, seconds: float, window_s: float | None, hop_s: float | None
    ) -> tuple[np.ndarray, float, Intervals]:
        """Return the centres (float64 [W]), the length and the intervals of the sliding window, in s."""
        window = min(self.median_s, seconds / 2) if window_s is None else min(window_s, seconds)
        hop = hop_s or max(HOP_S, seconds / MOST_WINDOWS)
        centres = np.arange(hop / 2, max(seconds, hop), hop)
        begin = np.clip(centres - window / 2, 0, seconds - window)
        return centres, window, [(b, b + window) for b in begin.tolist()]

    def _combine(self, by_inputs: Mapping[frozenset[str], _Rows]) -> _Whole:
        """Average over the units, and compute the contributions of the inputs.

        Args:
            by_inputs: the units' predictions from some of the inputs, from all of them first.
        """
        all_inputs, full = next(iter(by_inputs.items()))
        rows = full.present()
        if not rows.any():
            return _Whole({}, {}, {}, {})
        p, a = full.mean(rows)
        heads = {}
        for head in ("video", "audio"):
            own = full.present(head)
            if own.any():
                probabilities, attributes = full.mean(own, head)
                heads[head] = self._by_class(probabilities) | self._by_attribute(attributes)
        top = [int(p.argmax())] if len(p) else []

        def value(shown: frozenset[str]) -> np.ndarray:
            probabilities, attributes = by_inputs[shown].mean(rows)
            return np.concatenate([probabilities[top], attributes])

        chance = np.array([1 / len(p)] * len(top) + [sum(r) / 2 for r in self.task.ranges])
        shares = shapley(sorted(all_inputs, key=enabled_streams(self.config.model).index), value, chance)
        outputs = [*(self.classes[i] for i in top), *self.attributes]
        contributions = {
            output: {name: float(values[k]) for name, values in shares.items()}
            for k, output in enumerate(outputs)
        }
        return _Whole(self._by_class(p), self._by_attribute(a), heads, contributions)

    def _by_class(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self.classes, values.tolist(), strict=True))

    def _by_attribute(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self.attributes, values.tolist(), strict=True))

    def save_pretrained(self, folder: str | Path, **options: Any) -> Path:
        """Write the network as an exported folder, which `deiii.load` reads and `push_to_hub` uploads.

        Args:
            folder: is made where needed; an earlier export in it is replaced.
            options: of `deiii.model.prediction.export.export`, where the network comes from a run folder.

        Raises:
            ExportError: the folder holds other files.
        """
        if self.members:
            from deiii.model.prediction.ensemble.folder import export_ensemble

            return export_ensemble(self.members, folder, **options)
        if (self.source / MANIFEST).is_file():
            return copy_export(self.source, Path(folder))
        from deiii.model.prediction.export import export  # needs PyTorch

        return export(self.source, folder, **options)

    def push_to_hub(self, name: str, private: bool = True, **options: Any) -> str:
        """Upload the network to the Hugging Face Hub as an exported folder; returns the address.

        Args:
            name: ``user/name`` of the repository, which is created where it does not exist.
            private: whether a new repository is visible to its owner alone. The licence of the corpus decides
                whether a network may be passed on.
            options: as for `save_pretrained`.

        Raises:
            HubError: huggingface_hub is not installed, or the Hub refuses the upload.
        """
        with tempfile.TemporaryDirectory() as temporary:
            return upload(self.save_pretrained(Path(temporary) / "export", **options), name, private)


@dataclass(frozen=True)
class _Whole:
    """The prediction for a whole recording; empty where no input is left."""

    probabilities: dict[str, float]
    attributes: dict[str, float]
    heads: dict[str, dict[str, float]]
    contributions: dict[str, dict[str, float]]


@dataclass(frozen=True)
class _Rows:
    """Some rows of the predictions of one pass over the network."""

    found: HeadOutputs
    task: Task
    rows: slice

    def values(self, kind: str, head: str = "fused") -> np.ndarray:
        """Return a head's ``probabilities``, float32 [n,C], or ``attributes``, float32 [n,A]."""
        width = {"probabilities": len(self.task.classes), "attributes": len(self.task.attributes)}[kind]
        every = getattr(self.found, kind).get(head, np.zeros((self.found.count, width), np.float32))
        return every[self.rows]

    def present(self, head: str = "fused") -> np.ndarray:
        """Return whether each row has what the head reads, bool [n]."""
        every = self.found.present.get(head, np.zeros(self.found.count, bool))
        return every[self.rows]

    def mean(self, rows: np.ndarray, head: str = "fused") -> tuple[np.ndarray, np.ndarray]:
        """Return mean probabilities, float64 [C], and attributes, float64 [A], over a mask, bool [n]."""
        probabilities = self.values("probabilities", head)[rows].mean(axis=0, dtype=np.float64)
        attributes = self.values("attributes", head)[rows].mean(axis=0, dtype=np.float64)
        return probabilities, attributes
