"""The audio of a media file as mono samples on the clip's clock."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import av
import av.error
import librosa
import numpy as np

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.container import (
    MAX_SECONDS,
    clock_zero,
    declared_seconds,
    decode,
    is_cut_off,
    open_media,
)

MAX_SAMPLE_RATE = 768_000  # Hz
MAX_CHANNELS = 64
JITTER_S = 0.03  # timestamps of compressed audio vary by less than this; a larger step is a gap

# Containers whose header states the duration of the audio; in others FFmpeg estimates it.
STATES_DURATION = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flac", "wav"})


def read_audio(
    path: str | os.PathLike, sample_rate: int, notes: list[str] | None = None
) -> tuple[np.ndarray, float, float]:
    """Read the first audio stream as mono samples.

    Samples follow the timestamps of the stream: gaps longer than 30 ms are filled with zeros (and
    noted), overlapping samples are dropped. Channels are averaged. Resampling uses soxr's
    high-quality filter through librosa.

    Args:
        path: the media file.
        sample_rate: wanted rate in Hz.
        notes: a list to which defects are added that leave the audio usable.

    Returns:
        ``(samples float32 [n] in about [-1, 1], t0_s float, missing_s float)``: ``t0_s`` is the time
        of the first sample in s on the clock of `deiii.pipeline.media.video.read_video`, ``missing_s``
        is how many seconds were filled with zeros.

    Raises:
        ClipError: no audio can be decoded.

    >>> samples, t0_s, missing_s = read_audio("clip.mp4", 16000)  # doctest: +SKIP
    """
    path = os.fspath(path)
    notes = [] if notes is None else notes
    with open_media(path) as container:
        stream = _audio_stream(container)
        rate = stream.codec_context.sample_rate
        # Packed samples ("flt"): for planar audio with 8 channels PyAV reads a ninth plane and crashes.
        resampler = av.AudioResampler(format="flt", rate=rate)
        timeline = _Timeline(rate, clock_zero(container))
        declared = declared_seconds(stream) if container.format.name in STATES_DURATION else 0.0
        for frame in decode(container, stream, notes):
            if frame.sample_rate != rate:
                notes.append("the sample rate of the audio changes; the rest was left out")
                break
            time = frame.time
            for piece in resampler.resample(frame):
                timeline.add(piece.to_ndarray().reshape(-1, piece.layout.nb_channels).T.mean(axis=0), time)
    if not timeline.total:
        raise ClipError(Status.UNREADABLE, "nothing of the audio stream can be decoded")
    seconds = timeline.total / rate
    missing = timeline.missing / rate
    if missing:
        notes.append(f"{missing:.2f} s of audio are missing and were filled with silence")
    if is_cut_off(seconds, declared):
        notes.append(f"the audio ends after {seconds:.2f} of {declared:.2f} s: the file is cut off")
    samples = np.concatenate(timeline.pieces)
    if rate != sample_rate:
        samples = librosa.resample(samples, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")
    return samples.astype(np.float32, copy=False), timeline.start, missing


def _audio_stream(container: av.container.InputContainer) -> av.AudioStream:
    """The first audio stream. Raises ClipError where there is none or its header is damaged."""
    stream = next(iter(container.streams.audio), None)
    if stream is None or stream.codec_context is None:
        raise ClipError(Status.NO_AUDIO, "the file has no audio stream")
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    if not 1000 <= rate <= MAX_SAMPLE_RATE or not 1 <= channels <= MAX_CHANNELS:
        raise ClipError(
            Status.UNREADABLE,
            f"the header declares audio of {rate} Hz and {channels} channels: it is damaged",
        )
    return stream


@dataclass
class _Timeline:
    """Joins decoded samples according to their timestamps.

    Attributes:
        rate: sample rate in Hz.
        zero: time 0 of the clip on the container's clock, in s.
        start: time of the first sample on the clip's clock, in s.
        total: samples so far.
        missing: how many of them fill gaps.
        pieces: float32 arrays to be joined.
    """

    rate: int
    zero: float
    start: float = 0.0
    total: int = 0
    missing: int = 0
    pieces: list[np.ndarray] = field(default_factory=list)

    def add(self, samples: np.ndarray, time: float | None) -> None:
        """Append samples float32 [n] that begin at ``time`` s; without a time they follow the last ones.

        Raises:
            ClipError: the audio is longer than `MAX_SECONDS`.
        """
        if not self.pieces:
            self.start = float(time - self.zero) if time is not None else 0.0
        at = round((time - self.zero - self.start) * self.rate) if time is not None else self.total
        gap = at - self.total
        if gap > JITTER_S * self.rate:
            _check_length(at / self.rate)
            self.missing += gap
            self.pieces.append(np.zeros(gap, np.float32))
            self.total = at
        elif -gap > JITTER_S * self.rate:
            samples = samples[-gap:]
        self.pieces.append(samples)
        self.total += len(samples)
        _check_length(self.total / self.rate)


def _check_length(seconds: float) -> None:
    if seconds > MAX_SECONDS:
        raise ClipError(
            Status.UNREADABLE, f"the file holds more than {MAX_SECONDS:.0f} s of audio; cut it into clips"
        )
