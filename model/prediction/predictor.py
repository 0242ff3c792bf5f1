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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.cache.outcomes import StageResult
from deiii.data.cache.stages import FACES, LOGMEL, network_stages
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.stage_arrays import LEAST_DB, StageLevels, levels_of
from deiii.model.network.streams import enabled_streams
from deiii.model.network.task import Task
from deiii.model.prediction.hub import upload
from deiii.model.prediction.manifest import MANIFEST, copy_export
from deiii.model.prediction.result import Person, Prediction, Scorer, end_s
from deiii.model.prediction.settings import hidden_note, override_settings, stage_notes, stages_by_speaker
from deiii.model.prediction.windows.moments import Moment, moments
from deiii.model.prediction.windows.newest import live_moments
from deiii.model.prediction.windows.recording import Found, Options, score_at_once, score_long
from deiii.model.prediction.windows.units import LONGER, Intervals, sliding_window, units_of
from deiii.model.prediction.windows.whole import person_of, prediction_of
from deiii.pipeline.extract import run_people, run_stages
from deiii.pipeline.faces.people import FacePerson
from deiii.pipeline.faces.quality import Portrait
from deiii.pipeline.media.lengths import declared_seconds
from deiii.pipeline.media.streaming.address import is_live
from deiii.pipeline.streaming.file import FileStream, can_stream, people_of_long
from deiii.pipeline.streaming.live import LiveStream

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
        notes += hidden_note(info.get("hidden", config.split.hide))
        audio_s = config.loader.audio_steps * LOGMEL.row_seconds(config)
        seconds = info.get("seconds") or {"median": audio_s, "longest": 2 * audio_s}
        lengths = (seconds["median"], seconds["longest"])
        return cls(scorer, config, Task.from_info(info), lengths, notes, source, info)

    def __repr__(self) -> str:
        outputs = ", ".join((*self.classes, *self.attributes))
        return f"Predictor({str(self.source)!r}: {outputs} from {', '.join(self.stages)})"

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
        levels: StageLevels | None = None,
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
            levels: of the speaker's features, from `speaker_levels`; used where the network was trained with
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
        options = Options(window_s, hop_s, levels, speech, keep_flow, progress)
        found = self._found_in_long(path, options) if self._is_long(path) else None
        found = found or self._found_at_once(run_stages(path, self.config, self.stages), options)
        return prediction_of(path, found, self.config, self.task, self.notes, levels is not None)

    def predict_people(self, path: str | Path, **options: Any) -> list[Prediction]:
        """Predict for each person in a media file, for the time for which they are visible.

        Each prediction has a `Person`, whose number depends on the file and the settings of faces alone. The
        audio is that of the scene, whoever speaks. For a person who is visible all the time the prediction
        is that of `predict`. Where nobody is visible, the result is the one prediction of `predict`.

        Args:
            path: any media file. One that is read in order is read once more for each person.
            options: as for `predict`.

        Raises:
            ConfigError: the network reads no faces.

        >>> [(p.person.number, p.label) for p in network.predict_people("talk.mp4")]   # doctest: +SKIP
        [(1, 'happy'), (2, 'sad')]
        """
        if FACES.name not in self.stages:
            raise ConfigError("the network reads audio alone; leave --people out")
        chosen = Options(**options)
        known = chosen.levels is not None
        found = [
            prediction_of(path, scored, self.config, self.task, self.notes, known, person)
            for person, scored in self._found_people(path, chosen)
        ]
        return found or [self.predict(path, **options)]

    def stream(
        self, path: str | Path, window_s: float | None = None, hop_s: float = STREAM_HOP_S
    ) -> Iterator[Moment]:
        """Yield the predictions of a window that slides over a recording, while it is read.

        Memory does not grow with the length of a file. A window's prediction is that of `predict` for the
        same window; only the choice between several faces may differ, because it does not know what comes
        later. Of a camera or a network stream the newest window is predicted, until the source ends; see
        `deiii.model.prediction.live.moments.LiveMoments` for figures on it.

        Args:
            path: any media file, a URL (``rtsp://``, ``http://``) or the number of a camera, e.g. ``"0"``.
            window_s: length of the window in s; by default that of the median training clip, at most half of
                a file.
            hop_s: distance of the windows in s.

        Raises:
            ConfigError: the network reads a stage that needs the whole file.
            ClipError: the file cannot be opened as media.
            LiveError: the camera or the network stream cannot be opened.

        >>> for moment in load("runs/latest").stream("long.mp4"):   # doctest: +SKIP
        ...     print(moment.time_s, moment.label)
        """
        if isinstance(path, str) and is_live(path):
            source = LiveStream(path, self.config, self.stages)
            yield from live_moments(source, self.scorer, self.task, window_s or self.median_s, hop_s)
            return
        with FileStream(path, self.config, self.stages) as file:
            if file.error is not None:
                raise file.error
            window, _ = sliding_window(file.expected_s(), self.median_s, window_s, hop_s)
            yield from moments(file, self.scorer, self.task, window, hop_s, self._levels(file, None))

    def _is_long(self, path: str | Path) -> bool:
        """Return whether a file is read in order: it is much longer than those of the training."""
        long = declared_seconds(path) > max(LONG_S, LONGER * self.longest_s)
        return long and can_stream(self.stages, self.config)

    def _found_in_long(
        self, path: str | Path, options: Options, face: FacePerson | None = None
    ) -> Found | None:
        """Return what is found in a long file; ``None`` where it is shorter than its header says."""
        tracks = face.tracks if face is not None else None
        with FileStream(path, self.config, self.stages, options.keep_flow, tracks) as source:
            seconds = source.expected_s()
            if seconds <= max(LONG_S, LONGER * self.longest_s):
                return None
            window, hop = sliding_window(seconds, self.median_s, options.window_s, options.hop_s)
            streams, own = enabled_streams(self.config.model), self._levels(source, options.levels)
            visible = face.part_of(seconds) if face is not None else None
            units = units_of(seconds, self.median_s, self.longest_s, options.speech, visible)
            found = score_long(source, self.scorer, streams, units, window, hop, own, options.progress)
            return replace(found, thumbnail=source.portrait.image)

    def _found_at_once(
        self, results: Mapping[str, StageResult], options: Options, visible: Intervals | None = None
    ) -> Found:
        """Return what is found in a file whose features are in memory."""
        levels = options.levels
        if levels is None:
            levels = self.levels_of([{stage: r.arrays for stage, r in results.items() if r.arrays}])
        own = levels if self.by_speaker else None
        streams, clips_s = enabled_streams(self.config.model), (self.median_s, self.longest_s)
        return score_at_once(results, self.scorer, streams, clips_s, options, own, visible)

    def _found_people(self, path: str | Path, options: Options) -> Iterator[tuple[Person, Found]]:
        """Yield each person in a file with what is found for them."""
        in_order = False
        for face in people_of_long(path, self.config) if self._is_long(path) else []:
            found = self._found_in_long(path, options, face)
            if found is not None:
                in_order = True
                yield person_of(face, found.thumbnail), found
        if in_order:
            return
        for face, results in run_people(path, self.config, self.stages):
            seconds = max((end_s(r.arrays["time"]) for r in results.values() if r.arrays), default=0.0)
            portrait = Portrait()
            if results[FACES.name].arrays:
                portrait.add(results[FACES.name].arrays)
            visible = face.part_of(seconds)
            yield person_of(face, portrait.image), self._found_at_once(results, options, visible)

    def _levels(self, source: FileStream, given: StageLevels | None) -> StageLevels | None:
        """Return the levels of the speaker for a file that is read in order."""
        if not self.by_speaker:
            return None
        if given is not None:
            return given
        own = source.levels(LEAST_DB)
        return None if own is None else {LOGMEL.name: own}

    @property
    def by_speaker(self) -> tuple[str, ...]:
        """The stages whose rows the network normalises by speaker."""
        return stages_by_speaker(self.config)

    def speaker_levels(self, paths: Iterable[str | Path]) -> StageLevels | None:
        """Return the levels of the features over all files of one speaker, as evaluation computes them.

        Args:
            paths: the speaker's media files; those without usable features are left out.

        Returns:
            for `predict`, by stage; ``None`` where the network does not normalise by speaker, or no file has
            such features.
        """
        if not self.by_speaker:
            return None
        each = (run_stages(path, self.config, self.by_speaker) for path in paths)
        rows = [{s: found[s].arrays for s in self.by_speaker if found[s].arrays} for found in each]
        return self.levels_of(rows) or None

    def levels_of(self, files: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> StageLevels:
        """Return the levels over files, as `speaker_levels`, given what the stages computed of each."""
        return levels_of(self.by_speaker, files)

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
