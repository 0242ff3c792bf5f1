"""Predict for media files with a trained network.

>>> from deiii import load                                         # doctest: +SKIP
>>> network = load("runs/latest")                                  # doctest: +SKIP
>>> network.predict("clip.mp4").probabilities                      # doctest: +SKIP
{'happy': 0.91, 'sad': 0.09}

A file passes the stages that computed the training's caches and the loader that evaluation uses, so that a
clip of the corpus gets the probabilities that evaluation recorded for it. The network runs in PyTorch
(`deiii.model.prediction.with_torch`) or in onnxruntime (`deiii.model.prediction.with_onnx`); this module
needs neither. The code that reads media (`deiii.model.prediction.windows.media`) is imported with the first
file, so that a network is ready sooner.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.cache.stages import FACES, LOGMEL, network_stages
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.stage_arrays import StageLevels, levels_of
from deiii.model.network.task import Task
from deiii.model.prediction.hub import upload
from deiii.model.prediction.manifest import MANIFEST, copy_export
from deiii.model.prediction.result import Prediction, Scorer
from deiii.model.prediction.settings import (
    hidden_note,
    override_settings,
    stage_notes,
    stages_by_speaker,
    unfinished_note,
)
from deiii.model.prediction.windows.moments import Moment
from deiii.model.prediction.windows.recording import Options
from deiii.model.prediction.windows.units import Intervals, check_window

STREAM_HOP_S = 0.5  # default distance of the windows of `Predictor.stream`


class Predictor:
    """A trained network with its settings; `load` makes it.

    Args:
        scorer: runs the network.
        config: settings of preprocessing and network.
        task: the classes and attributes that it predicts.
        seconds: the median and the longest training clip, in s.
        notes: notes on how preprocessing differs from training, for every prediction.
        source: the folder of the run or of the export.
        info: what its ``run.json`` or ``deiii.json`` holds.
        members: folders of all networks of an ensemble; empty for a single network.
        ensemble: the folder of its own from which an ensemble was loaded, if it has one.
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
        ensemble: Path | None = None,
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
        self.ensemble = ensemble

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
            overrides, change_preprocessing: arguments of `deiii.model.prediction.loading.load`.
            Others: arguments of `Predictor`.
        """
        config, notes = override_settings(config, list(overrides), change_preprocessing)
        if not notes:
            notes = stage_notes(config, info["keys"])
        notes += (*hidden_note(info.get("hidden", config.split.hide)), *unfinished_note(info))
        audio_s = config.loader.audio_steps * LOGMEL.row_seconds(config)
        seconds = info.get("seconds") or {"median": audio_s, "longest": 2 * audio_s}
        lengths = (seconds["median"], seconds["longest"])
        return cls(scorer, config, Task.from_info(info), lengths, notes, source, info)

    def __repr__(self) -> str:
        outputs = ", ".join((*self.classes, *self.attributes))
        return f"Predictor({str(self.source)!r}: {outputs} from {', '.join(self.stages)})"

    @property
    def scores(self) -> dict[str, Any] | None:
        """The figures of the network on its test speakers, with intervals, and the numbers of clips.

        ``None`` where it was not evaluated, in exports of earlier versions, and for an ensemble without a
        folder of its own.
        """
        return self.info.get("scores")

    @property
    def network(self) -> Any:
        """The network as a PyTorch module.

        Raises:
            AttributeError: it runs in onnxruntime, is an ensemble, or was loaded with ``calibrated``.
        """
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
        audio_progress: Callable[[float], None] = lambda done_s: None,
    ) -> Prediction:
        """Predict for one media file.

        A recording of the length of a training clip is treated as in evaluation. A recording that is more
        than 1.25 times as long as the longest training clip is cut into windows without overlap, whose
        predictions are averaged. If it is also longer than 30 s and the network's stages allow it, the file
        is read in order: memory does not grow with its length, and ``arrays`` of the result hold no crops.

        Args:
            path: any media file; the notes of the result name the inputs that it lacks.
            window_s: length of the sliding window in s; by default that of the median training clip, at most
                half of the recording.
            hop_s: distance of the windows in s; by default 0.2, or more so that there are at most
                20,000.
            levels: levels of the speaker's features, from `speaker_levels`; used if the network was trained
                with ``loader.normalise=speaker``. Without them, the levels come from this file alone.
            speech: stretches of speech in s, from `deiii.pipeline.streaming.voice.speech_segments`; the
                prediction is then their mean, weighted by their length, and each has its own.
            keep_flow: folder for a temporary file with the flow of a file that is read in order;
                `draw_overlay` needs it.
            progress: receives the time in s up to which such a file is done.
            audio_progress: receives the time in s up to which the audio of such a file is read, which is
                before its video.

        Returns:
            the prediction; its ``tree()`` is what `deiii predict` writes as JSON.

        Raises:
            ConfigError: ``window_s`` or ``hop_s`` cannot be used.
            TypeError: ``path`` is no path, but for example the content of a file.
            WeightsError: the weights of the face detector or of RAFT cannot be found or downloaded.

        >>> found = load("runs/latest").predict("clip.mp4")   # doctest: +SKIP
        >>> found.label                                       # doctest: +SKIP
        'happy'
        >>> json.dumps(found.tree())                          # doctest: +SKIP
        """
        _check_path(path)
        from deiii.model.prediction.windows.media import predict_file

        options = Options(window_s, hop_s, levels, speech, keep_flow, progress, audio_progress)
        return predict_file(self, path, options)

    def predict_people(self, path: str | Path, **options: Any) -> list[Prediction]:
        """Predict for each person in a media file, for the time for which they are visible.

        Each prediction has a `Person`, whose number depends on the file and the settings of faces alone. The
        audio is that of the scene, whoever speaks. For a person who is visible all the time the prediction
        is that of `predict`. Where nobody is visible, the result is the one prediction of `predict`.

        Args:
            path: any media file. One that is read in order is read once more for each person.
            options: options of `predict`; and ``person_progress``, which receives the number of a person and
                the number of people before a long file is read for that person.

        Raises:
            ConfigError: the network reads no faces.

        >>> [(p.person.number, p.label) for p in network.predict_people("talk.mp4")]   # doctest: +SKIP
        [(1, 'happy'), (2, 'sad')]
        """
        self.require_faces()
        _check_path(path)
        from deiii.model.prediction.windows.media import predict_file, predict_people

        own = Options(**options)
        return predict_people(self, path, own) or [predict_file(self, path, own)]

    def require_faces(self) -> None:
        """Raise ConfigError where the network reads no faces, by which people are told apart."""
        if FACES.name not in self.stages:
            raise ConfigError("the network reads audio alone; leave --people out")

    def stream(
        self, path: str | Path, window_s: float | None = None, hop_s: float = STREAM_HOP_S
    ) -> Iterator[Moment]:
        """Yield the predictions of a window that slides over a recording, while it is read.

        Memory does not grow with the length of a file. The prediction for a window is that of `predict` for
        the same window; only the choice between several faces may differ, because it is made without the
        later frames. For a camera or a network stream, the newest window is predicted until the source ends;
        see `deiii.model.prediction.live.moments.LiveMoments` for figures on it.

        Args:
            path: any media file, a URL (``rtsp://``, ``http://``) or the number of a camera, e.g. ``"0"``.
            window_s: length of the window in s; by default that of the median training clip, at most half of
                a file.
            hop_s: distance of the windows in s.

        Raises:
            ConfigError: the network reads a stage that needs the whole file; or ``window_s`` or ``hop_s``
                cannot be used.
            ClipError: the file cannot be opened as media.
            LiveError: the camera or the network stream cannot be opened, or nothing arrives from it.

        >>> for moment in load("runs/latest").stream("long.mp4"):   # doctest: +SKIP
        ...     print(moment.time_s, moment.label)
        """
        check_window(window_s, hop_s)
        _check_path(path)
        from deiii.model.prediction.windows.media import stream_moments

        return stream_moments(self, path, window_s, hop_s)

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

        Raises:
            TypeError: ``paths`` is a single path, or holds something else than paths.
        """
        if isinstance(paths, (str, bytes, PathLike)):
            raise TypeError(f"speaker_levels() takes a list of the speaker's media files, not {paths!r:.80}")
        paths = list(paths)
        for path in paths:
            _check_path(path)
        if not self.by_speaker:
            return None
        from deiii.pipeline.extract import run_stages

        each = (run_stages(path, self.config, self.by_speaker) for path in paths)
        rows = [{s: found[s].arrays for s in self.by_speaker if found[s].arrays} for found in each]
        return self.levels_of(rows) or None

    def levels_of(self, files: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> StageLevels:
        """Return the levels over files, as `speaker_levels`, given what the stages computed of each."""
        return levels_of(self.by_speaker, files)

    def save_pretrained(
        self, folder: str | Path, program: bool = True, onnx: bool = False, licence: str | None = None
    ) -> Path:
        """Write the network as an exported folder, which `deiii.load` reads and `push_to_hub` uploads.

        Args:
            folder: folder of the export, which is made if needed; an earlier export in it is replaced.
            program, onnx, licence: as for `deiii.model.prediction.export.export`. A network that was loaded
                from an exported folder is copied as it is.

        Raises:
            ExportError: the folder holds other files, or the network was loaded from an exported folder that
                has no ``model.onnx`` or states another licence than the arguments ask for.
        """
        if self.members:
            from deiii.model.prediction.ensemble.folder import export_ensemble

            # Its own folder has figures and a temperature, which the members do not have.
            names = self.members if self.ensemble is None else [self.ensemble]
            return export_ensemble(names, folder, program, onnx, licence)
        if (self.source / MANIFEST).is_file():
            return copy_export(self.source, Path(folder), onnx, licence)
        from deiii.model.prediction.export import export  # needs PyTorch

        return export(self.source, folder, program, onnx, licence)

    def push_to_hub(self, name: str, private: bool = True, **options: Any) -> str:
        """Upload the network to the Hugging Face Hub as an exported folder; returns the address.

        Args:
            name: ``user/name`` of the repository, which is created where it does not exist.
            private: whether a new repository is visible to its owner alone. The licence of the corpus decides
                whether a network may be passed on.
            options: options of `save_pretrained`.

        Raises:
            HubError: huggingface_hub is not installed, or the Hub refuses the upload.
        """
        with tempfile.TemporaryDirectory() as temporary:
            return upload(self.save_pretrained(Path(temporary) / "export", **options), name, private)


def _check_path(path: object) -> None:
    """Raise TypeError where something else than a path is given, such as the bytes of a file."""
    if not isinstance(path, (str, PathLike)):
        raise TypeError(
            f"the path of a media file is needed, not {type(path).__name__}; write the content of a file "
            "into a temporary file and give its path (the number of a camera is a text: '0')"
        )
