"""The audio of a file as it is read: pieces of one sample rate, with silence where some is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from deiii.data.cache.outcomes import ClipError, Status
from deiii.data.tools.compilation.librosa_loading import load_librosa
from deiii.pipeline.media.container import MAX_SECONDS
from deiii.pipeline.media.levels import SILENT_PEAK, Levels, audible_peak

JITTER_S = 0.03  # timestamps of compressed audio vary by less than this; a larger step is a gap


class Block(NamedTuple):
    """Samples of one decoded frame, mixed to mono, float32 [n], and their rate in Hz."""

    samples: np.ndarray
    rate: int


@dataclass
class _Piece:
    """Samples of one rate, without a gap between them.

    Attributes:
        rate: Hz.
        start: time of the first sample, s.
        arrays: float32, to be joined.
        total: how many samples they hold.
    """

    rate: int
    start: float
    arrays: list[np.ndarray] = field(default_factory=list)
    total: int = 0


@dataclass
class AudioTrack:
    """The audio of a file, joined according to its times.

    Attributes:
        pieces: pieces of one sample rate each.
        missing: seconds that were filled with zeros.
        levels: levels of the channels.
        notes, remarks: notes and remarks that `deiii.pipeline.media.audio.read_audio` returns.
        index: index of the stream in the file; -1 before it is opened.
        streams: number of audio streams in the file, without commentaries and the like.
        most_s: longest audio in s that is read; ``None`` for `MAX_SECONDS`.
    """

    pieces: list[_Piece] = field(default_factory=list)
    missing: float = 0.0
    levels: Levels = field(default_factory=Levels)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    index: int = -1
    streams: int = 1
    most_s: float | None = None

    @property
    def is_audible(self) -> bool:
        """Whether it holds any sound."""
        peaks = [audible_peak(np.concatenate(piece.arrays)) for piece in self.pieces]
        return any(not peak < SILENT_PEAK for peak in peaks)

    @property
    def start(self) -> float:
        """Time of the first sample, s."""
        return float(self.pieces[0].start)

    @property
    def seconds(self) -> float:
        """Duration from the first sample to the last, s."""
        last = self.pieces[-1]
        return last.start + last.total / last.rate - self.start

    def add(self, block: Block, time: float) -> None:
        """Append samples that begin at ``time`` s.

        Raises:
            ClipError: the audio is longer than ``most_s``.
        """
        found = self.place(block, time)
        self.pieces[-1].arrays += found

    def place(self, block: Block, time: float) -> list[np.ndarray]:
        """Return what `add` appends to the last piece, without keeping it: silence for a gap, the samples."""
        samples, rate = block
        if not self.pieces:
            self.pieces.append(_Piece(rate, time))
        piece = self.pieces[-1]
        if piece.rate != rate:
            end = piece.start + piece.total / piece.rate
            piece = _Piece(rate, end)
            self.pieces.append(piece)
        gap = round((time - piece.start) * rate) - piece.total
        found: list[np.ndarray] = []
        if gap > JITTER_S * rate:
            self._check_length(time - self.start)
            self.missing += gap / rate
            second = np.zeros(rate, np.float32)  # the same array many times: a gap may last hours
            found += [second] * (gap // rate) + [second[: gap % rate]]
        elif -gap > JITTER_S * rate:
            samples = samples[-gap:]
        found.append(samples)
        piece.total += sum(map(len, found))
        self._check_length(self.seconds)
        return found

    def _check_length(self, seconds: float) -> None:
        most = self.most_s or MAX_SECONDS
        if seconds > most:
            raise ClipError(
                Status.UNREADABLE, f"the file holds more than {most:.0f} s of audio; cut it into clips"
            )

    def resampled(self, sample_rate: int) -> np.ndarray:
        """Return all samples at one rate, float32 [n]."""
        parts = []
        for piece in self.pieces:
            samples = np.concatenate(piece.arrays)
            if piece.rate != sample_rate:
                samples = load_librosa().resample(
                    samples, orig_sr=piece.rate, target_sr=sample_rate, res_type="soxr_hq"
                )
            parts.append(samples.astype(np.float32, copy=False))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
