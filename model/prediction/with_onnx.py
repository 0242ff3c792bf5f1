"""Run an exported network in onnxruntime, on what the stages computed for one recording, without PyTorch.

The inputs are those that the loader makes in evaluation; here NumPy makes them, because the loader needs
PyTorch. ``tests/model/prediction/test_agreement.py`` requires that both agree to 1e-4.

Axes: B intervals, T video steps, F rows of flow (`deiii.data.loader.sampling.flow_rows`), R rows of a stage
of ``model.extra``, S crop size, L log-mel hops, M mel bands.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.stages import FACES, FLOW, LOGMEL, get_stage, network_stages
from deiii.data.config.schema import Config
from deiii.data.encoders.onnx_session import open_session
from deiii.data.loader.recording import SLACK_S
from deiii.data.loader.sampling import Window, choose_rows, evaluation_hops, flow_rows, pick, video_steps
from deiii.data.loader.stage_arrays import Levels, StageLevels, band_levels
from deiii.data.tools.machine import usable_cores
from deiii.model.prediction.checks.fit import other_network
from deiii.model.prediction.manifest import (
    MANIFEST,
    ONNX,
    ExportError,
    check_digest,
    has_torch,
    read_manifest,
    unusable,
)
from deiii.model.prediction.predictor import Predictor
from deiii.model.prediction.result import HeadOutputs
from deiii.model.prediction.settings import refuse_torch
from deiii.model.prediction.windows.units import MOST_BATCH

if TYPE_CHECKING:
    import onnxruntime

KINDS = ("probabilities", "attributes", "present")
# Names of the masks of the streams; those of stages of ``model.extra`` have the names of the stages.
MASKS = {"frames": "video_mask", "flow": "flow_mask", "audio": "audio_mask"}

Fields = Mapping[str, np.ndarray]
Arrays = Mapping[str, Fields]
Intervals = Sequence[tuple[float, float]]


class OnnxScorer:
    """Scores intervals of a recording with ``model.onnx``; see `deiii.model.prediction.result.Scorer`.

    Args:
        session: session of onnxruntime.
        config: settings of loader and network.
        manifest: what ``deiii.json`` holds.
    """

    def __init__(self, session: onnxruntime.InferenceSession, config: Config, manifest: Mapping[str, Any]):
        self.session = session
        self.config = config
        self.inputs: Mapping[str, Any] = manifest["inputs"]
        self.numbers: Mapping[str, Any] = manifest["preparation"]
        self.outputs = [output.name for output in session.get_outputs()]

    def __call__(
        self,
        arrays: Arrays,
        intervals: Sequence[tuple[float, float]],
        hidden: Sequence[set[str]],
        levels: StageLevels | None,
    ) -> HeadOutputs:
        """Return the outputs of every head for each interval."""
        columns: dict[str, list[np.ndarray]] = {name: [] for name in self.outputs}
        for first in range(0, len(intervals), MOST_BATCH):
            part = slice(first, first + MOST_BATCH)
            inputs = self.prepare(arrays, intervals[part], levels)
            for row, streams in enumerate(hidden[part]):
                for stream in streams:
                    inputs[MASKS.get(stream, f"{stream}_mask")][row] = False
            for name, values in zip(self.outputs, self.session.run(self.outputs, inputs), strict=True):
                columns[name].append(values)
        found: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
        for name, parts in columns.items():
            head, _, kind = name.partition("_")
            found[kind][head] = np.concatenate(parts)
        return HeadOutputs(len(intervals), **found)

    def prepare(
        self, arrays: Arrays, intervals: Sequence[tuple[float, float]], levels: StageLevels | None
    ) -> dict[str, np.ndarray]:
        """Return the network's inputs for intervals, by name, as ``inputs`` of the manifest lists them.

        Args:
            arrays: arrays that the stages computed, keyed by stage.
            intervals: begin and end in s.
            levels: levels of the speaker's features, keyed by stage, for a network that normalises by
                speaker.
        """
        made: dict[str, np.ndarray] = {}
        extra = self.config.model.extra
        at = np.zeros((len(intervals), self.config.loader.steps), np.int64)
        covered = np.full((len(intervals), 2), np.nan)
        if "video_time" in self.inputs or any(get_stage(name).modality == "video" for name in extra):
            at, covered = self._video(made, arrays, intervals)
        heard = None
        if LOGMEL.name in network_stages(self.config.model):
            hops = evaluation_hops(self.config.loader)
            heard = _window(arrays.get(LOGMEL.name), intervals, covered, hops)
        if "logmel" in self.inputs and heard is not None:
            self._audio(made, arrays, intervals, heard, (levels or {}).get(LOGMEL.name))
        for name in extra:
            fields = arrays.get(name)
            if get_stage(name).modality == "video":
                values = self._extra_video(made, name, fields, intervals, at)
            else:
                values = self._extra_audio(made, name, fields, intervals, covered, heard)
            if self.config.loader.normalise == "speaker" and levels and name in levels:
                offset, scale = (level.astype(np.float32) for level in levels[name])
                values = (values - offset) / scale
            made[f"{name}_values"] = values
        return {
            name: np.ascontiguousarray(made[name], dtype=about["dtype"])
            for name, about in self.inputs.items()
        }

    def _video(
        self, made: dict[str, np.ndarray], arrays: Arrays, intervals: Sequence
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make frames, flow, times and masks.

        Returns:
            the sampled frames, int64 [B,T], and what they cover, s [B,2], NaN where nothing.
        """
        loader, faces, flow = self.config.loader, arrays.get(FACES.name), arrays.get(FLOW.name)
        steps, shape = loader.steps, (len(intervals), loader.steps)
        nothing = np.zeros(0)
        time = nothing if faces is None else faces["time"]
        start, length = _rows(time, intervals)
        at, mask = video_steps(length, steps, loader.stride, loader.sampling)
        place = np.where(mask, start[:, None] + at, 0)
        shown = np.where(mask, pick(time, place), 0.0)
        valid = np.zeros(0, bool) if faces is None else faces["valid"]
        made["video_time"], made["video_mask"] = shown, mask & pick(valid, place)
        made["flow_mask"] = np.zeros(shape, bool)
        if "frames" in self.inputs:
            made["frames"] = self._images(FACES.large, faces, place)
            made["frames"] -= np.array(self.numbers["mean"], np.float32)[:, None, None]
            made["frames"] /= np.array(self.numbers["std"], np.float32)[:, None, None]
        if "flow" in self.inputs:
            first, count = _rows(nothing if flow is None else flow["time"], intervals)
            frames = loader.flow_frames
            rows, own = flow_rows(at, frames)
            has = np.repeat(mask, frames, axis=1) & (rows < np.minimum(count, length)[:, None])
            where, face = (np.where(has, begin[:, None] + rows, 0) for begin in (first, start))
            of_flow = np.zeros(0, bool) if flow is None else flow["valid"]
            usable = has & pick(of_flow, where) & pick(valid, face)
            made["flow_mask"] = usable[:, own]
            factor = (usable | own).astype(np.float32)
            if loader.flow_per_second:
                factor *= self._per_second(time, start, length, rows)
            each = (
                self._images(FLOW.large, flow, where[:, n::frames]) * factor[:, n::frames, None, None, None]
                for n in range(frames)
            )
            made["flow"] = np.concatenate(list(each), axis=2) if loader.flow_join == "stack" else sum(each)
        covered = np.stack([shown[:, 0], np.where(mask, shown, -np.inf).max(axis=1)], axis=1)
        covered[~mask[:, 0]] = np.nan
        return at, covered

    def _images(self, large: str, fields: Fields | None, place: np.ndarray) -> np.ndarray:
        """Return the centre crops of rows [B,F] of a stage, float32 [B,F,C,S,S]: RGB in 0 to 1, or px."""
        size, channels = self.config.loader.crop, 3 if large == FACES.large else 2
        if fields is None or not len(fields[large]):
            return np.zeros((*place.shape, channels, size, size), np.float32)
        corner = (fields[large].shape[1] - size) // 2
        window = fields[large][:, corner : corner + size, corner : corner + size][place.ravel()]
        if large == FLOW.large:
            scale = {"scale": fields["scale"][place.ravel()]} if "scale" in fields else {}
            values = decode_flow({"flow": window, **scale})
        else:
            values = window.astype(np.float32) / 255
        return values.reshape(*place.shape, size, size, channels).transpose(0, 1, 4, 2, 3)

    def _per_second(
        self, time: np.ndarray, start: np.ndarray, length: np.ndarray, at: np.ndarray
    ) -> np.ndarray:
        """Return factors that convert flow to the next frame into flow per unit of time, float32 [B,F]."""
        unit, shortest = self.numbers["flow_unit_s"], self.numbers["shortest_step_s"]
        after = np.minimum(at + 1, np.maximum(0, length - 1)[:, None])
        before = np.maximum(0, after - 1)
        several = (length > 1)[:, None]
        first = np.where(several, start[:, None], 0)
        step = pick(time, np.where(several, first + after, 0)) - pick(
            time, np.where(several, first + before, 0)
        )
        return (unit / np.where(several, np.maximum(step, shortest), unit)).astype(np.float32)

    def _audio(
        self,
        made: dict[str, np.ndarray],
        arrays: Arrays,
        intervals: Sequence,
        window: Window,
        levels: Levels | None,
    ) -> None:
        """Make log-mel, times and mask of the hops in a window."""
        _, hops, bands = self.inputs["logmel"]["shape"]
        values = np.zeros((len(intervals), hops, bands), np.float32)
        fields = arrays.get(LOGMEL.name)
        if fields is not None:
            start, length = _rows(fields["time"], intervals)
            for row in np.flatnonzero(length):
                whole = fields[LOGMEL.large][start[row] : start[row] + length[row]].astype(np.float32)
                part = whole[window.start[row] : window.start[row] + window.count[row]]
                values[row, : len(part)] = self._normalised(part, whole, levels)
        made["logmel"], made["audio_time"], made["audio_mask"] = values, window.time, window.mask

    def _extra_video(
        self,
        made: dict[str, np.ndarray],
        name: str,
        fields: Fields | None,
        intervals: Intervals,
        at: np.ndarray,
    ) -> np.ndarray:
        """Make times and mask of the sampled frames ``at`` of a stage; returns its values [B,T,...]."""
        values = np.zeros((len(intervals), *self.inputs[f"{name}_values"]["shape"][1:]), np.float32)
        mask = np.zeros(at.shape, bool)
        if fields is not None:
            start, length = _rows(fields["time"], intervals)
            mask = (length > 0)[:, None] & made["video_mask"]
            if "valid" in get_stage(name).small:
                mask &= pick(fields["valid"], np.where(mask, start[:, None] + at, 0))
            there = np.flatnonzero(length)
            place = start[there, None] + at[there]
            values[there] = fields[get_stage(name).large].take(place, axis=0, mode="clip")
        made[f"{name}_time"], made[f"{name}_mask"] = made["video_time"], mask
        return values

    def _extra_audio(
        self,
        made: dict[str, np.ndarray],
        name: str,
        fields: Fields | None,
        intervals: Intervals,
        covered: np.ndarray,
        heard: Window | None,
    ) -> np.ndarray:
        """Make times and mask of a stage's rows within the log-mel's window; returns its values [B,R,...]."""
        values = np.zeros((len(intervals), *self.inputs[f"{name}_values"]["shape"][1:]), np.float32)
        around = covered if heard is None else np.where(heard.count[:, None] > 0, heard.span, covered)
        window = _window(fields, intervals, around, values.shape[1])
        mask = window.mask if heard is None else window.mask & heard.holds(window.time)
        if fields is not None:
            start, _ = _rows(fields["time"], intervals)
            first = start + window.start
            if "valid" in get_stage(name).small:
                at = first[:, None] + np.arange(values.shape[1])
                mask = mask & pick(fields["valid"], np.where(mask, at, 0))
            for row in np.flatnonzero(window.count):
                count = window.count[row]
                values[row, :count] = fields[get_stage(name).large][first[row] : first[row] + count]
        made[f"{name}_time"], made[f"{name}_mask"] = np.where(mask, window.time, 0.0), mask
        return values

    def _normalised(self, part: np.ndarray, whole: np.ndarray, levels: Levels | None) -> np.ndarray:
        """Normalise hops, dB [n,M], by ``loader.normalise``; ``whole`` are all hops of the interval."""
        how = self.config.loader.normalise
        if how == "none":
            return (part - self.numbers["db_centre"]) / self.numbers["db_scale"]
        if how == "clip":
            return (part - band_levels([whole])[0].astype(np.float32)) / self.numbers["db_scale"]
        if levels is None:
            raise ValueError("a network that normalises by speaker needs the levels of the speaker")
        return (part - levels[0].astype(np.float32)) / levels[1].astype(np.float32)


def _rows(time: np.ndarray, intervals: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return first row and number of rows of a stage in each interval [begin, end), int64 [B]."""
    borders = np.asarray(intervals, np.float64).reshape(-1, 2) - SLACK_S
    start, stop = np.searchsorted(time, borders).T
    return start.astype(np.int64), (stop - start).astype(np.int64)


def _window(fields: Fields | None, intervals: Intervals, around: np.ndarray, steps: int) -> Window:
    """Return at most ``steps`` rows of an audio stage in each interval, around times in s [B,2]."""
    time = np.zeros(0) if fields is None else fields["time"]
    return choose_rows(time, *_rows(time, intervals), around, np.zeros(len(intervals)), steps)


def load_folder(
    folder: Path, overrides: Iterable[str] = (), change_preprocessing: bool = False, threads: int = 0
) -> Predictor:
    """Load an exported folder that holds ``model.onnx``.

    Args:
        folder: the folder.
        overrides, change_preprocessing: arguments of `deiii.model.prediction.loading.load`.
        threads: number of threads of onnxruntime; 0 for as many as the process may use.

    Raises:
        ExportError: the folder holds no usable export, or one without ``model.onnx``.
        ConfigError: PyTorch is missing, and the network reads features of encoders that run in PyTorch, or
            flow of RAFT.
    """
    if not folder.exists():
        raise ExportError(f"there is no folder {folder}; check the path of the exported folder")
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; name the exported folder that holds it: {folder.parent}")
    if not (folder / MANIFEST).is_file():
        raise ExportError(
            f"{folder} holds no export (no {MANIFEST}); without PyTorch only a folder that "
            "`deiii export RUN FOLDER --onnx` wrote can be used"
        )
    config, manifest = read_manifest(folder)
    if (folder / ONNX).is_file() and "preparation" not in manifest:
        raise unusable(folder, f"{MANIFEST}: its entry preparation is missing")
    if not (folder / ONNX).is_file():
        raise ExportError(
            f"{folder} holds no {ONNX}; export the run again: "
            f"deiii export RUN {shlex.quote(str(folder))} --onnx"
        )
    if not has_torch():
        refuse_torch(folder, config)
    check_digest(folder, manifest, ONNX)
    try:
        session = open_session(str(folder / ONNX), threads or usable_cores())
    except ImportError:  # the export is not to blame
        raise
    except Exception as error:  # onnxruntime raises types of its own
        raise ExportError(
            f"{folder / ONNX} cannot be read ({str(error)[:200]}); export the run again"
        ) from None
    if problem := other_network(manifest, session.get_inputs(), session.get_outputs()):
        raise unusable(folder, f"{MANIFEST} describes another network than {ONNX}: {problem}")
    scorer = OnnxScorer(session, config, manifest)
    network = Predictor.of(scorer, config, manifest, overrides, change_preprocessing, folder)
    if not has_torch():
        refuse_torch(folder, network.config)  # the settings of the command may ask for it, too
    return network
