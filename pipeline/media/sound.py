"""The audio of a media file on the clip's clock."""

from __future__ import annotations

import os

import av
import av.error
import librosa
import numpy as np

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.container import (
    MAX_SECONDS,
    clock_zero,
    decode,
    falls_short,
    open_media,
    promised_seconds,
)

MAX_SAMPLE_RATE = 768_000
MAX_CHANNELS = 64
JITTER_S = 0.03  # timestamps of compressed sound wander by less than this; more is a gap

KEEPS_DURATION = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flac", "wav"})  # others guess it


def read_sound(path: str | os.PathLike, sample_rate: int, notes: list[str] | None = None) -> tuple:
    """The first sound track as mono samples.

    Samples follow the stream's timestamps: gaps longer than 30 ms are filled with zeros (and
    noted), overlaps are cut. Channels are averaged; resampling is soxr's high-quality one,
    through librosa.

    Args:
        path: the media file.
        sample_rate: wanted rate in Hz.
        notes: takes what was wrong but survivable.

    Returns:
        ``(samples float32 [n] in about [-1, 1], t0_s float, missing_s float)``: ``t0_s`` is the
        first sample's time on the clock of `deiii.pipeline.media.video.read_video`, ``missing_s`` how much
        was filled.

    Raises:
        ClipError: where there is no sound to decode.

    >>> samples, t0_s, missing_s = read_sound("clip.mp4", 16000)  # doctest: +SKIP
    """
    path, notes = os.fspath(path), [] if notes is None else notes
    parts: list[np.ndarray] = []
    with open_media(path) as container:
        stream = next((s for s in container.streams.audio), None)
        if stream is None or stream.codec_context is None:
            raise ClipError(Status.NO_AUDIO, "the file has no sound track")
        rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
        if not 1000 <= rate <= MAX_SAMPLE_RATE or not 1 <= channels <= MAX_CHANNELS:
            raise ClipError(
                Status.UNREADABLE,
                f"the file claims sound of {rate} Hz and {channels} channels: a broken header",
            )
        # Packed on purpose: of planar sound with 8 channels PyAV reads a ninth plane, and the process dies.
        packed = av.AudioResampler(format="flt", rate=rate)
        zero, start, total, missing = clock_zero(container), None, 0, 0
        promised = promised_seconds(stream) if container.format.name in KEEPS_DURATION else 0.0
        for frame in decode(container, stream, notes):
            if frame.sample_rate != rate:
                notes.append("the sound's sample rate changes; the rest was left out")
                break
            time = frame.time
            for piece in packed.resample(frame):
                samples = piece.to_ndarray().reshape(-1, piece.layout.nb_channels).T.mean(axis=0)
                if start is None:
                    start = (time - zero) if time is not None else 0.0
                at = round((time - zero - start) * rate) if time is not None else total
                if at - total > JITTER_S * rate:
                    _check_length(at / rate, path)
                    missing += at - total
                    parts.append(np.zeros(at - total, np.float32))
                    total = at
                elif total - at > JITTER_S * rate:
                    samples = samples[total - at :]
                parts.append(samples)
                total += len(samples)
                _check_length(total / rate, path)
    if not total:
        raise ClipError(Status.UNREADABLE, "nothing of the sound track can be decoded")
    if missing:
        notes.append(f"{missing / rate:.2f} s of sound are missing and were filled with silence")
    if falls_short(total / rate, promised):
        notes.append(f"the sound ends after {total / rate:.2f} of {promised:.2f} s: the file is cut off")
    sound = np.concatenate(parts)
    if rate != sample_rate:
        sound = librosa.resample(sound, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")
    return sound.astype(np.float32, copy=False), float(start), missing / rate


def _check_length(seconds: float, path: str) -> None:
    if seconds > MAX_SECONDS:
        raise ClipError(
            Status.UNREADABLE, f"the file holds more than {MAX_SECONDS:.0f} s of sound; cut it into clips"
        )
