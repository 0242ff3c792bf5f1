"""The log-mel spectrogram of long audio, computed in parts; memory does not grow with the length.

>>> with SpooledLogMel(LogMelConfig()) as audio:  # doctest: +SKIP
...     audio.compute("long.mp4")
...     print(audio.between(0.0, 1.0)["logmel"].shape)
"""

from __future__ import annotations

import os
import tempfile
from types import TracebackType

import numpy as np

from deiii.data.cache.outcomes import ClipError, Outcome, Status
from deiii.data.config.schema import LogMelConfig
from deiii.data.loader.recording import SLACK_S
from deiii.data.tools.temporary_files import temporary_folder_errors
from deiii.pipeline.logmel.stage import audio_outcome, loud_part, mel_rows, row_seconds, sizes
from deiii.pipeline.media.streaming.audio import AudioReader, settled_passes

LEAST_ROWS = 2048  # of a file that are computed at a time; librosa makes its filters anew for each call

Levels = tuple[np.ndarray, np.ndarray]


class MelStream:
    """Log-mel of samples that come in parts: `deiii.pipeline.logmel.stage.log_mel` without its floor.

    Args:
        config: settings.
        least_rows: hops that are computed at a time.

    >>> stream = MelStream(LogMelConfig(), least_rows=1)
    >>> sum(map(len, (stream.push(np.ones(9000, np.float32)), stream.finish())))
    57
    """

    def __init__(self, config: LogMelConfig, least_rows: int = LEAST_ROWS):
        self.config = config
        self._least = max(1, least_rows)
        self._n_fft, _, self._hop = sizes(config)
        self._held = np.zeros(self._n_fft // 2, np.float32)
        self._parts: list[np.ndarray] = []
        self._waiting = len(self._held)
        self._skip = 0  # samples to come that lie between two windows, where a hop is longer than the FFT
        self._count = 0  # samples
        self._rows = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples, float32 [n]; returns the hops that are known by now, float32 [m,n_mels] in dB."""
        self._count += len(samples)
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        self._parts.append(samples[skipped:])
        self._waiting += len(samples) - skipped
        rows = 1 + (self._waiting - self._n_fft) // self._hop
        return self._compute(rows) if rows >= self._least else self._nothing()

    def finish(self) -> np.ndarray:
        """Return the hops at the end, float32 [m,n_mels] in dB."""
        self._parts.append(np.zeros(self._n_fft, np.float32))
        rows = 1 + self._count // self._hop - self._rows
        return self._compute(rows) if rows > 0 else self._nothing()

    def _nothing(self) -> np.ndarray:
        return np.zeros((0, self.config.n_mels), np.float32)

    def _compute(self, rows: int) -> np.ndarray:
        self._held = np.concatenate([self._held, *self._parts])
        self._parts = []
        found = mel_rows(self._held[: (rows - 1) * self._hop + self._n_fft], self.config)
        self._skip = max(0, rows * self._hop - len(self._held))
        self._held = self._held[rows * self._hop :].copy()
        self._waiting = len(self._held)
        self._rows += rows
        return found


class SpooledLogMel:
    """The log-mel of a whole recording in a temporary file; `compute` fills it.

    Attributes:
        outcome: outcome that the logmel stage would record.
        end_s: end of the last hop, s.
        read_s: how much audio `compute` has read so far, s.
    """

    def __init__(self, config: LogMelConfig):
        self.config = config
        self.read_s = 0.0
        self.outcome = Outcome(Status.OK)
        self._file = tempfile.TemporaryFile()
        self._floor = np.float16(-np.inf)
        self._kept = slice(0, 0)
        self._start = 0.0
        self._stopped = False

    def __enter__(self) -> SpooledLogMel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the temporary file."""
        self._file.close()

    @property
    def end_s(self) -> float:
        """End of the last hop, s."""
        return self._start + self._kept.stop * row_seconds(self.config)

    def stop(self) -> None:
        """Make `compute` end early in another thread."""
        self._stopped = True

    def compute(self, path: str | os.PathLike) -> None:
        """Compute the log-mel of a file of any length.

        Raises:
            ClipError: as `deiii.pipeline.logmel.stage.extract_logmel`.
        """
        for reader in settled_passes(path, self.config.sample_rate):
            self._fill(reader)
        track = reader.track
        if not track.pieces:
            raise ClipError(Status.UNREADABLE, "nothing of the audio stream can be decoded")
        peak = reader.meter.value()
        self.outcome = audio_outcome(
            peak, reader.sounds, reader.count, track.missing, track.notes, track.remarks, self.config
        )

    def _fill(self, reader: AudioReader) -> None:
        """Compute the log-mel of what the reader yields; replaces what was there."""
        self._file.seek(0)
        self._file.truncate()
        mel = MelStream(self.config)
        levels = []
        for samples in reader:
            if self._stopped:
                raise ClipError(Status.UNREADABLE, "the reading was stopped")
            levels.append(self._write(mel.push(samples)))
            self.read_s = reader.count / reader.sample_rate
        if not reader.track.pieces:
            return
        levels.append(self._write(mel.finish()))
        with temporary_folder_errors():
            self._file.flush()
        level = np.concatenate(levels)
        floor = level.max() + np.float32(self.config.floor_db)
        self._floor = np.float16(floor)
        self._kept = slice(0, len(level))
        self._start = reader.track.start
        if self.config.trim_db:
            self._kept = loud_part(np.maximum(level, floor), self.config)
            self._kept = slice(self._kept.start, min(self._kept.stop, len(level)))

    def _write(self, rows: np.ndarray) -> np.ndarray:
        """Append hops; returns the level of each, float32 [m]."""
        with temporary_folder_errors():
            self._file.write(rows.astype(np.float16).tobytes())
        return rows.max(axis=1)

    def between(self, begin_s: float, end_s: float) -> dict[str, np.ndarray]:
        """Return the fields of the logmel stage for the hops in [begin, end), in s."""
        step = row_seconds(self.config)
        first = max(self._kept.start, int(np.floor((begin_s - SLACK_S - self._start) / step)))
        stop = min(self._kept.stop, int(np.ceil((end_s - self._start) / step)) + 1)
        time = self._start + np.arange(first, max(first, stop)) * step
        return {"logmel": self._read(first, len(time)), "time": time}

    def _read(self, first: int, count: int) -> np.ndarray:
        """Return hops from number ``first`` on, float16 [count,n_mels]."""
        width = 2 * self.config.n_mels
        raw = os.pread(self._file.fileno(), count * width, first * width)
        return np.maximum(np.frombuffer(raw, np.float16).reshape(-1, self.config.n_mels), self._floor)

    def levels(self, least: float) -> Levels:
        """Return mean and deviation of the mel bands; see `deiii.data.loader.stage_arrays.band_levels`."""
        total, squares = np.zeros(self.config.n_mels), np.zeros(self.config.n_mels)
        for first in range(self._kept.start, self._kept.stop, LEAST_ROWS):
            values = self._read(first, min(LEAST_ROWS, self._kept.stop - first)).astype(np.float64)
            total += values.sum(0)
            squares += (values**2).sum(0)
        count = self._kept.stop - self._kept.start
        mean = total / count
        return mean, np.maximum(least, np.sqrt(np.maximum(0.0, squares / count - mean**2)))
