"""Gather clips into a batch in compact form: uint8 frames, int8 or float16 flow, float16 log-mel.

`Gather.sample` chooses the instants of many clips at once, `Gather.copy` then copies each clip's rows
with one call per field that holds no lock, so a few threads reach the speed of memory.
Axes: B or N clips, T video steps, F rows of flow (`deiii.data.loader.sampling.flow_rows`), H stored size in
px, L log-mel hops, R rows of an extra stream, M mel bands, C classes, A attributes, K random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deiii.data.cache.index import CacheError
from deiii.data.cache.stages import FACES, FLOW, LOGMEL, ExtraInput, with_upstream
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augmentation.draws import columns
from deiii.data.loader.batch import StoredBatch
from deiii.data.loader.feature_set import FeatureSet, Labels
from deiii.data.loader.sampling import Window, choose_rows, flow_rows, pick, uniforms, video_steps
from deiii.data.loader.stage_arrays import Stream

FLOW_UNIT_S = 0.04  # flow is given in px in this time, the step of the usual 25 frames per second
SHORTEST_STEP_S = 0.002  # step of 500 frames per second; shorter steps are errors of a file
# Large fields of the stages that have their own place in a batch.
LARGE = (FACES.large, FLOW.large, LOGMEL.large)


class Gather:
    """Fills compact batches with the labels, times and large fields of clips.

    Args:
        features: feature set with the arrays.
        config: sampling and sizes.
        attributes: continuous labels, in the order of the batch's columns.
        training: random instants and augmentation, or fixed ones.
        seed: seed of the clips' random numbers.
        switches: which of ``video``, ``flow``, ``audio`` the batch holds.
        extra: further stages that the batch holds.

    Attributes:
        held: large fields that were loaded beforehand, by stage; the others are read from the mapped files.

    Raises:
        CacheError: a stage in ``extra`` stores rows of another shape than the settings state.
    """

    def __init__(
        self,
        features: FeatureSet,
        config: LoaderConfig,
        attributes: Sequence[str],
        training: bool,
        seed: int,
        switches: Mapping[str, bool],
        extra: Sequence[ExtraInput] = (),
    ):
        self.config, self.training, self.seed = config, training, seed
        self.labels = Labels.of(features, attributes)
        self.extra = tuple(extra)
        shown = [s.name for s in (FACES, FLOW, LOGMEL) if switches[s.switch]] + [x.name for x in extra]
        self.streams = {s: features.streams[s] for s in with_upstream(shown) if s in features.streams}
        self.large = {s for s in self.streams if s in shown}
        if LOGMEL.name in features.streams and any(x.modality == "audio" for x in self.extra):
            # Its times bound the rows of the extra streams (model.within_logmel); its values are not copied.
            self.streams[LOGMEL.name] = features.streams[LOGMEL.name]
        for x in self.extra:
            stored = self.streams[x.name].shape if x.name in self.streams else ()
            if stored not in ((), x.shape):
                raise CacheError(
                    f"{x.name} holds rows of {list(stored)}, the settings ask for {list(x.shape)}; "
                    "run `deiii preprocess` with the same settings"
                )
        self.first = {s: stream.first for s, stream in self.streams.items()}
        self.held: Mapping[str, Resident] = {}
        for stream in self.streams.values():
            stream.load_small()

    def allocate(self, batch: int) -> StoredBatch:
        """Return buffers for one batch.

        NumPy allocates them, because it requests huge pages from the system: copies into them are faster.
        """
        shapes = self.shapes(batch)
        tensors = {n: torch.from_numpy(np.zeros(s, _numpy(d))) for n, (s, d) in shapes.items()}
        return StoredBatch.from_tensors(tensors)

    def shapes(self, batch: int) -> dict[str, tuple[tuple, torch.dtype]]:
        """Return the shape and type of every field of `StoredBatch`."""
        c = self.config
        b, t, f, l = batch, c.steps, c.steps * c.flow_frames, c.audio_steps
        classes, attributes = self.labels.soft.shape[1], self.labels.attributes.shape[1]
        f32, i64, flag = torch.float32, torch.int64, torch.bool
        extra: dict[str, tuple[tuple, torch.dtype]] = {}
        for x in self.extra:
            lead = (b, x.rows(t, l))
            extra[f"extra/{x.name}/values"] = self._large(
                x.name, lead, torch.float16, (0,) if self._on_device(x.name) else x.shape
            )
            for key, dtype in (("time", f32), ("mask", flag), ("at", i64)):
                extra[f"extra/{x.name}/{key}"] = lead, dtype
        return {
            **extra,
            "frames": self._large(FACES.name, (b, t), torch.uint8, (0, 0, 3)),
            "flow": self._large(FLOW.name, (b, f), torch.float16, (0, 0, 2)),
            "logmel": self._large(LOGMEL.name, (b, l), torch.float16, (0,)),
            "frame_at": ((b, t), i64), "flow_at": ((b, f), i64), "hop_at": ((b, l), i64),
            "scale": ((b, f), f32), "draws": ((b, columns(c).count), f32),
            "video_time": ((b, t), f32), "audio_time": ((b, l), f32),
            "video_mask": ((b, t), flag), "flow_mask": ((b, t), flag), "audio_mask": ((b, l), flag),
            "label": ((b,), i64), "soft": ((b, classes), f32), "attributes": ((b, attributes), f32),
            "index": ((b,), i64), "real": ((b,), flag),
        }  # fmt: skip

    def _large(self, stage: str, lead: tuple, dtype: torch.dtype, tail: tuple) -> tuple[tuple, torch.dtype]:
        """Return the shape and type of a large field's buffer; empty where the field is not copied."""
        stream = self.streams.get(stage)
        if stream is None or stage not in self.large or self._on_device(stage) or not stream.shape:
            return (*lead, *tail), dtype
        return (*lead, *stream.shape), torch.from_numpy(np.empty(0, stream.dtype)).dtype

    def _on_device(self, stage: str) -> bool:
        """Return whether a stage's large field is resident on a GPU, so that only row numbers are copied."""
        return stage in self.held and isinstance(self.held[stage].array, torch.Tensor)

    def fill(self, out: Mapping[str, np.ndarray], rows: np.ndarray, epoch: int) -> None:
        """Write the clips ``rows`` (int64 [B], -1 for a filler) into the buffers ``out``."""
        self.copy(out, self.sample(rows, epoch), slice(None))

    def sample(self, rows: np.ndarray, epoch: int) -> Sampled:
        """Choose the instants of clips (int64 [N], -1 for a filler): of one batch, or of several at once."""
        real = rows >= 0
        row = np.where(real, rows, 0)
        steps, shift_at = self.config.steps, 1 + self.config.steps
        shapes = self.shapes(len(rows))
        out = {n: np.zeros(s, _numpy(d)) for n, (s, d) in shapes.items() if not _is_large(n)}
        chance = uniforms(self.seed, epoch, row, shift_at + 1 + out["draws"].shape[1])
        out["index"][:], out["real"][:] = rows, real
        out["draws"][:] = chance[:, shift_at + 1 :]
        out["label"][:] = np.where(real, self.labels.label[row], -1)
        out["soft"][:] = self.labels.soft[row] * real[:, None]
        out["attributes"][:] = np.where(real[:, None], self.labels.attributes[row], np.nan)
        at, covered = self._sample_video(out, row, real, chance[:, : 1 + steps])
        shift = (2 * chance[:, shift_at] - 1) * (self.config.time_shift if self.training else 0.0)
        runs = {}
        if LOGMEL.name in self.streams:
            heard = self._sample_audio(out, row, real, covered, shift, chance[:, 0])
            if LOGMEL.name in self.large:
                runs[LOGMEL.name] = heard.start, heard.count
        else:
            heard = None
        for x in self.extra:
            stream = self.streams.get(x.name)
            if stream is None:
                continue
            if x.modality == "video":
                self._sample_extra_video(out, stream, row, at)
            else:
                found = self._sample_extra_audio(out, stream, row, real, covered, shift, chance[:, 0], heard)
                runs[x.name] = found.start, found.count
        return Sampled(out, row, at, runs)

    def copy(self, out: Mapping[str, np.ndarray], sampled: Sampled, part: slice) -> None:
        """Write the clips ``part`` of ``sampled`` into the buffers ``out``."""
        for name, values in sampled.small.items():
            out[name][:] = values[part]
        runs = {stage: (start[part], count[part]) for stage, (start, count) in sampled.runs.items()}
        self._copy(out, sampled.row[part], sampled.at[part], runs)

    def _sample_video(self, out, row, real, draws) -> tuple[np.ndarray, np.ndarray]:
        """Choose the steps; returns frame numbers [B,T] and what they cover, s [B,2] (NaN: nothing)."""
        c, faces = self.config, self.streams.get(FACES.name)
        if faces is None:
            for name in ("video_time", "scale", "video_mask", "flow_mask", "frame_at", "flow_at"):
                out[name][:] = 0
            return np.zeros((len(row), c.steps), np.int64), np.full((len(row), 2), np.nan)
        lengths = faces.length[row] * real
        at, mask = video_steps(lengths, c.steps, c.stride, c.sampling, draws if self.training else None)
        place = np.where(mask, self.first[FACES.name][row][:, None] + at, 0)
        time = np.where(mask, pick(faces.required("time"), place), 0.0)
        out["video_time"][:] = time
        out["video_mask"][:] = mask & pick(faces.required("valid"), place)
        covered = np.stack([time[:, 0], np.where(mask, time, -np.inf).max(1)], 1)
        covered[~mask[:, 0]] = np.nan
        out["scale"][:], out["flow_mask"][:] = 0, False
        if FLOW.name in self.streams:
            self._sample_flow(out, self.streams[FLOW.name], row, at, mask)
        if FACES.name in self.held:
            out["frame_at"][:] = np.where(mask, self.held[FACES.name].first[row][:, None] + at, 0)
        return at, covered

    def _sample_flow(self, out, flow: Stream, row, at, mask) -> None:
        """Choose the rows of flow that each step reads; those that are not valid get the factor 0.

        The first row of a step keeps its factor, because ``flow_mask`` states whether it is valid.
        """
        c, faces = self.config, self.streams[FACES.name]
        length = np.minimum(flow.length, faces.length)[row]
        at, first = flow_rows(at, c.flow_frames)
        has = np.repeat(mask, c.flow_frames, axis=1) & (at < length[:, None])
        place, face = (np.where(has, self.first[s][row][:, None] + at, 0) for s in (FLOW.name, FACES.name))
        valid = has & pick(flow.required("valid"), place) & pick(faces.required("valid"), face)
        out["flow_mask"][:] = valid[:, first]
        scale = flow.small("scale")
        out["scale"][:] = has if scale is None else np.where(has, pick(scale, place), 0)
        out["scale"][:, ~first] *= valid[:, ~first]
        if c.flow_per_second:
            out["scale"] *= FLOW_UNIT_S / self._step_s(row, at)
        if FLOW.name in self.held:
            out["flow_at"][:] = np.where(has, self.held[FLOW.name].first[row][:, None] + at, 0)

    def _step_s(self, row: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the time in s from each frame ``at`` to the next (for the last: from the one before), [B,F].

        The frames' own times are read, so it is right for native frames, for the regular grid of `faces.fps`,
        and for frames at irregular times.
        """
        faces = self.streams[FACES.name]
        length, first = faces.length[row], self.first[FACES.name][row]
        time = faces.required("time")
        after = np.minimum(at + 1, np.maximum(0, length - 1)[:, None])
        before = np.maximum(0, after - 1)
        place = np.where((length > 1)[:, None], first[:, None], 0)
        step = pick(time, place + after) - pick(time, place + before)
        return np.where((length > 1)[:, None], np.maximum(step, SHORTEST_STEP_S), FLOW_UNIT_S)

    def _sample_extra_video(self, out, stream: Stream, row, at) -> None:
        """Take the sampled frames' rows of a video stage."""
        part = f"extra/{stream.stage}"
        has = (stream.length[row] > 0)[:, None] & out["video_mask"]
        place = np.where(has, self.first[stream.stage][row][:, None] + at, 0)
        valid = pick(stream.required("valid"), place) if "valid" in stream.spec.small else True
        out[f"{part}/mask"][:] = has & valid
        out[f"{part}/time"][:] = out["video_time"]
        if stream.stage in self.held:
            out[f"{part}/at"][:] = np.where(has, self.held[stream.stage].first[row][:, None] + at, 0)

    def _sample_audio(self, out, row, real, covered, shift, chance) -> Window:
        """Choose the window around what the frames cover; anywhere where there are no frames."""
        steps = self.config.audio_steps
        found = self._window(self.streams[LOGMEL.name], row, real, covered + shift[:, None], chance, steps)
        if LOGMEL.name not in self.large:
            return found
        out["audio_mask"][:] = found.mask
        out["audio_time"][:] = np.where(found.mask, found.time - shift[:, None], 0.0)
        if LOGMEL.name in self.held:
            at = (self.held[LOGMEL.name].first[row] + found.start)[:, None] + np.arange(steps)
            out["hop_at"][:] = np.where(found.mask, at, 0)
        return found

    def _sample_extra_audio(
        self, out, stream: Stream, row, real, covered, shift, chance, heard: Window | None
    ) -> Window:
        """Choose an audio stage's rows within the log-mel's window; without log-mel, as for log-mel."""
        part = f"extra/{stream.stage}"
        steps = out[f"{part}/mask"].shape[1]
        around = covered + shift[:, None]
        if heard is not None:
            around = np.where(heard.count[:, None] > 0, heard.span, around)
        found = self._window(stream, row, real, around, chance, steps)
        mask = found.mask if heard is None else found.mask & heard.holds(found.time)
        if "valid" in stream.spec.small:
            at = (self.first[stream.stage][row] + found.start)[:, None] + np.arange(steps)
            mask = mask & pick(stream.required("valid"), np.where(mask, at, 0))
        out[f"{part}/mask"][:] = mask
        out[f"{part}/time"][:] = np.where(mask, found.time - shift[:, None], 0.0)
        if stream.stage in self.held:
            at = (self.held[stream.stage].first[row] + found.start)[:, None] + np.arange(steps)
            out[f"{part}/at"][:] = np.where(mask, at, 0)
        return found

    def _window(self, stream: Stream, row, real, around, chance, steps: int) -> Window:
        """Choose rows of an audio stage around the intervals ``around``, s [N,2]; NaN allows any place."""
        shift = chance - 0.5 if self.training else np.zeros(len(row))
        begin, hops = self.first[stream.stage][row], stream.length[row] * real
        return choose_rows(stream.required("time"), begin, hops, around, shift, steps)

    def _copy(self, out, row, at, runs) -> None:
        """Copy the large fields, one call per clip and field; ``take`` holds no lock while it copies."""
        for stage in self.large:
            stream, held = self.streams[stage], self.held.get(stage)
            target = out[stream.field if stream.spec.switch else f"extra/{stage}/values"]
            if not target.size or self._on_device(stage):
                continue
            first = (stream.start if held is None else held.first)[row]
            has = (out["real"] & (stream.length[row] > 0)).tolist()
            shard = stream.shard[row].tolist()
            if stage in runs:
                begin, count = (first + runs[stage][0]).tolist(), runs[stage][1].tolist()
            elif stage == FLOW.name:
                rows, _ = flow_rows(at, self.config.flow_frames)
                frames = first[:, None] + np.minimum(rows, np.maximum(0, stream.length[row] - 1)[:, None])
            else:
                frames = first[:, None] + at
            for b, there in enumerate(has):
                if not there:
                    target[b] = 0
                    continue
                source = stream.whole(shard[b]) if held is None else np.asarray(held.array)
                if stage in runs:
                    n = count[b]
                    target[b, :n] = source[begin[b] : begin[b] + n]
                    target[b, n:] = 0
                else:
                    source.take(frames[b], 0, target[b], "clip")


@dataclass
class Sampled:
    """N clips whose instants are chosen.

    Attributes:
        small: every field of `StoredBatch` but the large ones, N clips long.
        row: int64 [N], rows of the feature set; 0 for a filler.
        at: int64 [N,T], frames.
        runs: first rows, int64 [N], and numbers of rows, int64 [N], keyed by audio stage.
    """

    small: dict[str, np.ndarray]
    row: np.ndarray
    at: np.ndarray
    runs: Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass
class Resident:
    """A large field of some clips, end to end in memory; ``first`` int64 [N] is where each begins."""

    array: np.ndarray | torch.Tensor
    first: np.ndarray


def _is_large(name: str) -> bool:
    return name in LARGE or name.endswith("/values")


def _numpy(kind: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=kind).numpy().dtype
