"""The audio of a media file as mono samples on the clip's clock."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import NamedTuple

import av
import av.error
import librosa
import numpy as np

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.clock import Clock, clock_remarks
from deiii.pipeline.media.container import (
    MATROSKA,
    MAX_SECONDS,
    MP4,
    audio_stream,
    decode,
    number_of_recordings,
)
from deiii.pipeline.media.lengths import cut_off, defects_of_length
from deiii.pipeline.media.levels import SILENT_PEAK, Levels, audible_peak
from deiii.pipeline.media.survey import open_surveyed

JITTER_S = 0.03  # timestamps of compressed audio vary by less than this; a larger step is a gap
HELD_FRAMES = 48  # decoded frames that may wait for the timestamps of later ones
BATCH = 64  # decoded frames that are mixed together

# Containers whose header states the duration of the audio; in others FFmpeg estimates it.
STATES_DURATION = frozenset({MP4, MATROSKA, "flac", "wav"})


def read_audio(
    path: str | os.PathLike,
    sample_rate: int,
    notes: list[str] | None = None,
    remarks: list[str] | None = None,
) -> tuple[np.ndarray, float, float]:
    """Read an audio stream, the default or best one of the file, as mono samples.

    Samples follow the timestamps of the stream (`deiii.pipeline.media.clock`): gaps longer than 30 ms are
    filled with zeros (and noted), overlapping samples are dropped. Channels are averaged; where they cancel
    each other the strongest one is used alone. The number of channels and the sample rate may change in
    mid-stream. Where the stream has no sound, another one that has some is used. Resampling uses soxr's
    high-quality filter through librosa.

    Args:
        path: the media file.
        sample_rate: wanted rate in Hz.
        notes: a list to which defects are added that leave the audio usable.
        remarks: a list to which properties are added that were handled without loss.

    Returns:
        ``(samples float32 [n] in about [-1, 1], t0_s float, missing_s float)``: ``t0_s`` is the time
        of the first sample in s on the clock of `deiii.pipeline.media.video.read_video`, ``missing_s``
        is how many seconds were filled with zeros.

    Raises:
        ClipError: no audio can be decoded.

    >>> samples, t0_s, missing_s = read_audio("clip.mp4", 16000)  # doctest: +SKIP
    """
    path = os.fspath(path)
    found = _decode_audible(path)
    if not found.pieces:
        raise ClipError(Status.UNREADABLE, "nothing of the audio stream can be decoded")
    scale, words = found.levels.scale()
    if words:
        found.remarks.append(words)
    if notes is not None:
        notes += found.notes
    if remarks is not None:
        remarks += found.remarks
    samples = found.resampled(sample_rate)
    return (samples / np.float32(scale) if scale != 1.0 else samples), found.start, found.missing


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
        pieces: of one sample rate each.
        missing: seconds that were filled with zeros.
        levels: of the channels.
        notes, remarks: as `read_audio` returns them.
        index: of the stream in the file.
        streams: number of audio streams in the file, without commentaries and the like.
        most_s: longest audio in s that is read; ``None`` for `MAX_SECONDS`.
    """

    pieces: list[_Piece] = field(default_factory=list)
    missing: float = 0.0
    levels: Levels = field(default_factory=Levels)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    index: int = 0
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
                samples = librosa.resample(
                    samples, orig_sr=piece.rate, target_sr=sample_rate, res_type="soxr_hq"
                )
            parts.append(samples.astype(np.float32, copy=False))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _decode_audible(path: str) -> AudioTrack:
    """Decode the audio stream of a file, or another one where that has no sound."""
    first = found = _decode_mixed(path, ())
    useless: list[int] = []
    while len(useless) < found.streams - 1 and not found.is_audible:
        useless.append(found.index)
        try:
            found = _decode_mixed(path, useless)
        except ClipError:
            return first
    return first if useless and not found.is_audible else found


def _decode_mixed(path: str, useless: Sequence[int]) -> AudioTrack:
    """Decode an audio stream; where its channels cancel each other, the strongest one alone."""
    found = _decode(path, {}, useless)
    picks = found.levels.cancelled()
    if picks:
        found = _decode(path, picks, useless)
        found.remarks.append(
            "the channels cancel each other (opposite phase); the strongest one was used alone"
        )
    return found


def _decode(path: str, picks: Mapping[int, int], useless: Sequence[int]) -> AudioTrack:
    """Decode an audio stream of a file.

    Args:
        path: the media file.
        picks: by number of channels, the number of one channel to use alone.
        useless: as in `deiii.pipeline.media.container.audio_stream`.
    """
    track = AudioTrack()
    for block, time in mixed_blocks(path, picks, useless, track):
        track.add(block, time)
    return track


def mixed_blocks(
    path: str, picks: Mapping[int, int], useless: Sequence[int], track: AudioTrack
) -> Iterator[tuple[Block, float]]:
    """Yield the samples of an audio stream with their times in s; the caller adds each block to ``track``.

    Args:
        path: the media file.
        picks, useless: as in `_decode`.
        track: gets the levels of the channels, notes and remarks.
    """
    with open_surveyed(path, "audio", useless) as opened:
        container, times = opened.container, opened.times
        stream, remark = audio_stream(container, useless)
        if times.audio is None:  # the file changed meanwhile
            raise ClipError(Status.UNREADABLE, "the file changed while it was read")
        track.index, track.streams = stream.index, number_of_recordings(container)
        track.remarks += [words for words in (remark, times.audio.remark) if words]
        clock: Clock[Block] = times.audio.clock(JITTER_S, HELD_FRAMES, reorder=False)
        frames = decode(container, stream, track.notes, opened.packets)
        for block, time in _timed(clock, frames, track, picks):
            early = round(-time * block.rate) if times.audio.primed and time < 0 else 0
            if early < len(block.samples):
                yield Block(block.samples[early:], block.rate), time + early / block.rate
        if not track.pieces:
            return
        track.remarks += clock_remarks(clock, "audio")
        rates = [piece.rate for piece in track.pieces]
        if len(rates) > 1:
            track.remarks.append(f"the sample rate of the audio changes ({len(set(rates))} rates in Hz: "
                                 f"{', '.join(map(str, dict.fromkeys(rates)))})")  # fmt: skip
        counts = track.levels.channel_counts
        if len(counts) > 1:
            track.remarks.append(
                f"the number of audio channels changes ({', '.join(map(str, counts))}); all were mixed down"
            )
        track.notes += defects_of_length(path, container, track.seconds)
        if track.missing:
            track.notes.append(f"{track.missing:.2f} s of audio are missing and were filled with silence")
        if container.format.name in STATES_DURATION and not clock.restarts and clock.end is not None:
            reach = max(t.end or 0.0 for t in (times.video, times.audio) if t)
            short = cut_off(container, stream, clock.end, reach)
            if short:
                track.notes.append(
                    f"the audio ends after {short[0]:.2f} of {short[1]:.2f} s: the file is cut off"
                )


def _timed(
    clock: Clock[Block], frames: Iterator[av.AudioFrame], track: AudioTrack, picks: Mapping[int, int]
) -> Iterator[tuple[Block, float]]:
    """Yield the frames' samples, mixed to mono, with the times that the clock gives them."""
    for batch in _batches(frames):
        track.levels.add(batch.channels, batch.is_float)
        pick = picks.get(len(batch.channels))
        mono = batch.channels.mean(axis=0) if pick is None else batch.channels[pick].copy()
        at = 0
        for n, time in zip(batch.lengths, batch.times, strict=True):
            yield from clock.add(Block(mono[at : at + n], batch.rate), time, n / batch.rate)
            at += n
    yield from clock.finish()


class _Batch(NamedTuple):
    """Samples float32 [channels,n] of successive frames of one format, and each frame's length and time."""

    channels: np.ndarray
    is_float: bool  # whether the file stores its samples as floats
    rate: int
    lengths: list[int]
    times: list[float | None]


def _batches(frames: Iterator[av.AudioFrame]) -> Iterator[_Batch]:
    """Join the samples of frames of one format: for each alone NumPy's calls take longer than the sums."""
    for (form, _, rate), same in groupby(frames, lambda f: (f.format.name, f.layout.name, f.sample_rate)):
        # Packed samples ("flt"): for planar audio with 8 channels PyAV reads a ninth plane and crashes.
        resampler = av.AudioResampler(format="flt", rate=rate)
        while some := list(islice(same, BATCH)):
            found: list[tuple[np.ndarray, int, float | None]] = []
            for frame in some:
                time = frame.time
                for piece in resampler.resample(frame):
                    count = piece.samples * piece.layout.nb_channels
                    packed = np.frombuffer(memoryview(piece.planes[0]), np.float32, count)
                    found.append((packed.reshape(piece.samples, -1), piece.samples, time))
                    time = None if time is None else time + piece.samples / rate
            if found:
                # Contiguous, because sums over every second value take several times as long.
                channels = np.ascontiguousarray(np.concatenate([packed for packed, *_ in found]).T)
                if form.startswith(("flt", "dbl")) and not np.isfinite(channels).all():
                    raise ClipError(Status.UNREADABLE, "the audio holds samples that are not finite")
                lengths, times = [n for _, n, _ in found], [time for *_, time in found]
                yield _Batch(channels, form.startswith(("flt", "dbl")), rate, lengths, times)
