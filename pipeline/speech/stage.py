"""The speech stage: features of a frozen encoder for a clip's audio, on the media clock.

The audio is read as 16 kHz mono. A clip that is longer than the encoder's window is read in overlapping
windows (`deiii.pipeline.encoders.windows`). One pass of the encoder gives all chosen layers. Batches hold
windows of several clips.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.config.schema import SpeechConfig
from deiii.data.encoders.record import SAMPLE_RATE
from deiii.pipeline.encoders.load import Loaded
from deiii.pipeline.encoders.windows import JoinedRows, Means, window_starts
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.levels import SILENT_PEAK, audible_peak
from deiii.pipeline.speech.batches import WindowBatches

MOST_HELD = 1 << 24  # samples, about 17 min (64 MiB), of clips that wait before the next clip is taken


def read_speech(path: str | os.PathLike, config: SpeechConfig) -> StageResult:
    """Read the audio of one clip for `SpeechClips`.

    Args:
        path: the media file.
        config: settings; none of them changes what is read.

    Returns:
        Arrays ``samples`` float32 [n] at 16 kHz, ``start`` float64 [] in s on the clock of
        `deiii.pipeline.media.video.read_video`, ``missing`` float64 [], s of audio that could not be decoded,
        and ``notes`` and ``remarks`` str [k], those of `deiii.pipeline.media.audio.read_audio`.

    Raises:
        ClipError: there is no audio to decode.

    >>> read_speech("clip.mp4", config).arrays["samples"].shape  # doctest: +SKIP
    (58848,)
    """
    notes: list[str] = []
    remarks: list[str] = []
    samples, start, missing = read_audio(path, SAMPLE_RATE, notes, remarks)
    arrays = {
        "samples": samples,
        "start": np.array(start, np.float64),
        "missing": np.array(missing, np.float64),
    }
    words = {"notes": np.array(notes, np.str_), "remarks": np.array(remarks, np.str_)}
    return StageResult(Outcome(Status.OK), arrays | words)


class SpeechClips:
    """Encodes the audio of clips; a batch may hold windows of several clips.

    The result of a clip has the arrays ``states`` float16 [m,L,D] and ``time`` float64 [m] in s, the centre
    of each row on the clock of `deiii.pipeline.media.video.read_video`. The outcome is ``ok_partial`` if part
    of the audio is missing. There are no arrays if the audio is silent or too short, or if the encoder's
    output is not finite in float16; the outcome states the reason.

    Memory holds the windows of `deiii.pipeline.speech.batches.AHEAD` batches and the clips that they belong
    to: at most `MOST_HELD` samples and those of one more clip, and their states.

    Args:
        config: settings.
        encoder: encoder from `deiii.pipeline.encoders.load.load_encoder`.

    >>> clips = SpeechClips(config, load_encoder(config))  # doctest: +SKIP
    >>> results = clips.add(read_speech("clip.mp4", config).arrays) + clips.rest()  # doctest: +SKIP
    >>> results[0].arrays["states"].shape  # doctest: +SKIP
    (92, 4, 384)
    """

    def __init__(self, config: SpeechConfig, encoder: Loaded):
        self._encoder = encoder
        self._batches = WindowBatches(encoder)
        self._clips: deque[_Clip] = deque()

    def add(self, arrays: Mapping[str, np.ndarray]) -> list[StageResult]:
        """Take a clip from `read_speech`; returns results as `deiii.data.cache.stage.Together.add` does."""
        clip = _Clip(arrays, self._encoder)
        self._clips.append(clip)
        for number, window in enumerate(clip.windows()):
            self._batches.add(window, partial(clip.take, number))
        found = self._complete()
        while sum(len(clip.samples) for clip in self._clips) > MOST_HELD:
            self._batches.encode()
            found += self._complete()
        return found

    def rest(self) -> list[StageResult]:
        """Return the results of the clips that are left."""
        while self._batches.waiting:
            self._batches.encode()
        return self._complete()

    def _complete(self) -> list[StageResult]:
        """Return the results of the first clips, as far as they are encoded."""
        found = []
        while self._clips and self._clips[0].done:
            found.append(self._clips.popleft().result())
        return found


class _Clip:
    """A clip, and the part of its states that is computed."""

    def __init__(self, arrays: Mapping[str, np.ndarray], encoder: Loaded):
        self.samples = arrays["samples"]
        self._start, self._missing = float(arrays["start"]), float(arrays["missing"])
        self._notes, self._remarks = ([str(text) for text in arrays[name]] for name in ("notes", "remarks"))
        self._encoder = encoder
        choice = encoder.choice
        self._refusal = self._unusable()
        usable = self._refusal is None
        self._starts = window_starts(len(self.samples), choice.window, choice.step) if usable else []
        if usable:
            self._joined = JoinedRows(len(self.samples), choice.window, choice.step, choice.encoder.hop)
        self._means = Means(choice.pool)
        self._states: list[np.ndarray] = []  # float16 [r,L,D]
        self._early: dict[int, np.ndarray] = {}  # rows of windows that were encoded before an earlier one
        self._next = 0  # number of the window whose rows are joined next

    def windows(self) -> Iterator[np.ndarray]:
        """Yield the windows float32 [n_i] to encode; none if the audio cannot be used."""
        for start in self._starts:
            yield self.samples[start : start + self._encoder.choice.window]

    def take(self, number: int, rows: np.ndarray) -> None:
        """Take the rows float32 [r,L,D] of one window."""
        self._early[number] = rows
        while self._next in self._early:
            for block in self._joined.add(self._early.pop(self._next)):
                self._store(self._means.add(block))
            self._next += 1
        if self.done:
            self._store(self._means.rest())

    @property
    def done(self) -> bool:
        return self._next == len(self._starts)

    def result(self) -> StageResult:
        if self._refusal is not None:
            return StageResult(self._refusal)
        choice = self._encoder.choice
        states = np.concatenate(self._states)
        odd = int((~np.isfinite(states)).any(axis=(1, 2)).sum())
        if odd:
            reason = (
                f"the encoder {choice.encoder.name} gives values in {odd} of {len(states)} rows that are "
                "not finite, or too large for float16; choose other layers or another encoder"
            )
            return StageResult(Outcome(Status.UNREADABLE, reason, 0.0))
        first = choice.encoder.first + (choice.pool - 1) * choice.encoder.hop / 2
        hop = choice.pool * choice.encoder.hop
        time = self._start + (first + np.arange(len(states)) * hop) / SAMPLE_RATE
        outcome = Outcome(Status.OK, "; ".join(self._remarks))
        if self._notes:
            fraction = float(np.clip(1.0 - self._missing * SAMPLE_RATE / len(self.samples), 0.0, 1.0))
            outcome = Outcome(Status.OK_PARTIAL, "; ".join([*self._notes, *self._remarks]), fraction)
        return StageResult(outcome, {"states": states, "time": time})

    def _store(self, rows: np.ndarray) -> None:
        with np.errstate(over="ignore"):  # `result` reports it
            self._states.append(rows.astype(np.float16))

    def _unusable(self) -> Outcome | None:
        """Return the outcome for audio that the encoder cannot use; None if it can."""
        encoder = self._encoder.choice.encoder
        peak = audible_peak(self.samples)
        if not np.isfinite(peak):
            return Outcome(Status.UNREADABLE, "the audio holds samples that are not finite", 0.0)
        if len(self.samples) < encoder.shortest:
            seconds = len(self.samples) / SAMPLE_RATE
            reason = f"{seconds:.3f} s of audio is too short for the encoder {encoder.name}"
            return Outcome(Status.TOO_SHORT, reason, 0.0)
        if peak < SILENT_PEAK:
            return Outcome(Status.NO_AUDIO, "; ".join(["the audio is silent", *self._remarks]), 0.0)
        return None
