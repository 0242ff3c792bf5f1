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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.cache.stages import FACES, LOGMEL, network_stages, stage_of_stream
from deiii.data.config.schema import Config
from deiii.data.loader.stage_arrays import LEAST_DB, Levels, band_levels
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
from deiii.model.prediction.windows.combine import Rows, combine
from deiii.model.prediction.windows.moments import Moment, moments
from deiii.model.prediction.windows.recording import Found, combinations_of, score_long
from deiii.model.prediction.windows.units import LONGER, Intervals, joined_note, sliding_window, units_of
from deiii.pipeline.extract import run_stages
from deiii.pipeline.streaming.file import FileStream, can_stream, declared_seconds

STREAM_HOP_S = 0.5  # default distance of the windows of `Predictor.stream`
LONG_S = 30.0  # a longer file is read in order, so that its crops are never in memory at once


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
        speech: Intervals | None = None,
        keep_flow: str | Path | None = None,
        progress: Callable[[float], None] = lambda done_s: None,
    ) -> Prediction:
        """Predict for one media file.

        A recording as long as a training clip is treated as in evaluation. A much longer one is cut into
        windows without overlap, whose predictions are averaged. A file of more than half a minute is read in
        order: memory does not grow with its length, and ``arrays`` of the result hold no crops.

        Args:
            path: any media file; the notes of the result tell which inputs it lacks.
            window_s: length of the sliding window in s; by default that of the median training clip, at most
                half of the recording.
            hop_s: distance of the windows in s; by default 0.2, or more so that there are at most 2000.
            levels: of the speaker's mel bands, from `speaker_levels`; used where the network was trained with
                ``loader.normalise=speaker``, whose levels otherwise come from this file alone.
            speech: stretches of speech in s, from `deiii.pipeline.streaming.voice.speech_segments`; the
                prediction is then their mean, and each has its own.
            keep_flow: for `draw_overlay`, a folder for a temporary file with the flow of a file that is read
                in order.
            progress: receives the time in s up to which such a file is done.

        Raises:
            WeightsError: the weights of the face detector or of RAFT cannot be found or downloaded.

        >>> load("runs/latest").predict("clip.mp4").label   # doctest: +SKIP
        'happy'
        """
        found = None
        if self._is_long(path):
            found = self._found_in_long(path, window_s, hop_s, levels, speech, keep_flow, progress)
        found = found or self._found_at_once(path, window_s, hop_s, levels, speech)
        outcomes, arrays = found.outcomes, found.arrays
        notes = (*self.notes, *notes_on(outcomes, enabled_streams(self.config.model)))
        if not found.shown:
            return Prediction(str(path), found.seconds, outcomes, notes=notes)
        if LOGMEL.name in arrays:
            notes += speaker_note(self.config, levels is not None)
        n, shown = len(found.units.intervals), found.shown
        by_inputs = {
            some: Rows(found.outputs, self.task, slice(k * n, (k + 1) * n)) for k, some in enumerate(shown)
        }
        moving = Rows(found.outputs, self.task, slice(len(shown) * n, None))
        notes += tuple(joined_note(found.units))
        whole = combine(by_inputs, self.task, enabled_streams(self.config.model))
        return Prediction(
            path=str(path),
            seconds=found.seconds,
            outcomes=outcomes,
            probabilities=whole.probabilities,
            attributes=whole.attributes,
            heads=whole.heads,
            contributions=whole.contributions,
            face=face_track(arrays[FACES.name], self.config.faces) if FACES.name in arrays else None,
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
        )

    def stream(
        self, path: str | Path, window_s: float | None = None, hop_s: float = STREAM_HOP_S
    ) -> Iterator[Moment]:
        """Yield the predictions of a window that slides over a file, while the file is read.

        Memory does not grow with the length of the file. A window's prediction is that of `predict` for the
        same window; only the choice between several faces may differ, because it does not know what comes
        later.

        Args:
            path: any media file.
            window_s: length of the window in s; by default that of the median training clip, at most half of
                the recording.
            hop_s: distance of the windows in s.

        Raises:
            ConfigError: the network reads a stage that needs the whole file.
            ClipError: the file cannot be opened as media.

        >>> for moment in load("runs/latest").stream("long.mp4"):   # doctest: +SKIP
        ...     print(moment.time_s, moment.label)
        """
        with FileStream(path, self.config, self.stages) as source:
            if source.error is not None:
                raise source.error
            window, _ = sliding_window(source.expected_s(), self.median_s, window_s, hop_s)
            yield from moments(source, self.scorer, self.task, window, hop_s, self._levels(source, None))

    def _is_long(self, path: str | Path) -> bool:
        """Whether a file is read in order: it is much longer than those of the training."""
        return declared_seconds(path) > max(LONG_S, LONGER * self.longest_s) and can_stream(
            self.stages, self.config
        )

    def _found_in_long(
        self,
        path: str | Path,
        window_s: float | None,
        hop_s: float | None,
        levels: Levels | None,
        speech: Intervals | None,
        keep_flow: str | Path | None,
        progress: Callable[[float], None],
    ) -> Found | None:
        """What is found in a long file; ``None`` where it is shorter than its header says."""
        with FileStream(path, self.config, self.stages, keep_flow) as source:
            seconds = source.expected_s()
            if seconds <= max(LONG_S, LONGER * self.longest_s):
                return None
            window, hop = sliding_window(seconds, self.median_s, window_s, hop_s)
            streams, own = enabled_streams(self.config.model), self._levels(source, levels)
            units = units_of(seconds, self.median_s, self.longest_s, speech)
            return score_long(source, self.scorer, streams, units, window, hop, own, progress)

    def _found_at_once(
        self,
        path: str | Path,
        window_s: float | None,
        hop_s: float | None,
        levels: Levels | None,
        speech: Intervals | None,
    ) -> Found:
        """What is found in a file whose features fit into memory."""
        results = run_stages(path, self.config, self.stages)
        outcomes = {stage: r.outcome for stage, r in results.items()}
        arrays = {stage: r.arrays for stage, r in results.items() if r.arrays}
        seconds = max((end_s(a["time"]) for a in arrays.values()), default=0.0)
        inputs = [s for s in enabled_streams(self.config.model) if stage_of_stream(s) in arrays]
        shown = combinations_of(inputs)
        if not arrays:
            nothing = HeadOutputs(0, {}, {}, {})
            nowhere = units_of(0.0, 1.0, 1.0, [])
            return Found(outcomes, seconds, arrays, nothing, nowhere, (), np.zeros(0), 0.0)
        if self.by_speaker and levels is None and LOGMEL.name in arrays:
            levels = band_levels([arrays[LOGMEL.name][LOGMEL.large]])
        units = units_of(seconds, self.median_s, self.longest_s, speech)
        window, hop = sliding_window(seconds, self.median_s, window_s, hop_s)
        centres = np.arange(hop / 2, max(seconds, hop), hop)
        begin = np.clip(centres - window / 2, 0, seconds - window)
        windows = [(b, b + window) for b in begin.tolist()]
        # One pass over the network: the units with every combination of inputs (all inputs first), then the
        # sliding windows.
        hidden = [set(inputs) - some for some in shown for _ in units.intervals]
        own = levels if self.by_speaker else None
        outputs = self.scorer(arrays, units.intervals * len(shown) + windows, hidden, own)
        return Found(outcomes, seconds, arrays, outputs, units, shown, centres, window)

    def _levels(self, source: FileStream, given: Levels | None) -> Levels | None:
        """The levels of the speaker for a file that is read in order."""
        if not self.by_speaker:
            return None
        return given if given is not None else source.levels(LEAST_DB)

    @property
    def by_speaker(self) -> bool:
        """Whether the network normalises audio by speaker."""
        return self.config.model.audio and self.config.loader.normalise == "speaker"

    def speaker_levels(self, paths: Iterable[str | Path]) -> Levels | None:
        """Return the levels of the mel bands over all files of one speaker, as evaluation computes them.

        Args:
            paths: the speaker's media files; those without usable audio are left out.

        Returns:
            for `predict`; ``None`` where the network does not normalise by speaker, or no file has audio.
        """
        if not self.by_speaker:
            return None
        found = [run_stages(path, self.config, [LOGMEL.name])[LOGMEL.name].arrays for path in paths]
        clips = [arrays[LOGMEL.large] for arrays in found if arrays]
        return band_levels(clips) if clips else None

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
