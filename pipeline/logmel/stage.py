"""The logmel stage: the log-mel spectrogram of a clip's audio, timed on the media clock.

The mel spectrogram is librosa's with its defaults (Hann window, Slaney mel scale and area
normalisation, power 2), centred windows and zero padding; then ``10 log10`` of power.
"""

from __future__ import annotations

import os

import numpy as np

from deiii.data.cache.outcomes import ClipError, Outcome, StageResult, Status
from deiii.data.config.schema import LogMelConfig
from deiii.data.tools.compilation.librosa_loading import load_librosa
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.levels import SILENT_PEAK, audible_peak

librosa = load_librosa()
LOWEST_POWER = 1e-12  # digital zeros become -120 dB, which float16 stores with an error below 0.06 dB
TRIM_MARGIN_MS = 50.0  # kept on both sides of the loud part, so that onsets and decays are not cut
BLOCK = 4096  # hops that are computed at a time, so that the spectrum of an hour is never in memory


def extract_logmel(path: str | os.PathLike, config: LogMelConfig) -> StageResult:
    """Return the log-mel spectrogram of one clip.

    Audio that is digitally silent throughout, with a peak below -80 dB of full scale, ends as ``no_audio``,
    like missing audio. Silent parts of other audio are kept.

    Args:
        path: the media file.
        config: settings.

    Returns:
        Arrays ``logmel`` float16 [m,n_mels] in dB (0 dB is a power of 1 for samples in [-1, 1]; lower values
        than ``floor_db`` relative to the loudest one of the clip are raised to it) and ``time`` float64 [m]
        in s, the centre of each window on the clock of `deiii.pipeline.media.video.read_video`. The outcome
        is ``ok_partial`` if part of the audio is missing.

    Raises:
        ClipError: there is no audio to decode, or it is silent or too short.

    >>> extract_logmel("clip.mp4", LogMelConfig()).arrays["logmel"].shape[1]  # doctest: +SKIP
    80
    """
    notes: list[str] = []
    remarks: list[str] = []
    samples, start, missing = read_audio(path, config.sample_rate, notes, remarks)
    peak = audible_peak(samples)
    outcome = audio_outcome(peak, bool(samples.any()), len(samples), missing, notes, remarks, config)
    logmel = log_mel(samples, config)
    time = start + np.arange(len(logmel)) * row_seconds(config)
    if config.trim_db:
        kept = loud_part(logmel.max(axis=1), config)
        logmel, time = logmel[kept], time[kept]
    return StageResult(outcome, {"logmel": logmel.astype(np.float16), "time": time})


def audio_outcome(
    peak: float,
    sounds: bool,
    count: int,
    missing: float,
    notes: list[str],
    remarks: list[str],
    config: LogMelConfig,
) -> Outcome:
    """Return the outcome of a clip's audio.

    Args:
        peak: `deiii.pipeline.media.levels.audible_peak` of the samples.
        sounds: whether any sample is not zero.
        count: number of samples.
        missing: length of the samples that were filled with silence, s.
        notes, remarks: notes and remarks from `deiii.pipeline.media.audio.read_audio`.
        config: settings.

    Raises:
        ClipError: the audio is silent, too short or not finite.
    """
    if not np.isfinite(peak):
        raise ClipError(Status.UNREADABLE, "the audio holds samples that are not finite")
    if count < sizes(config)[1]:
        seconds = count / config.sample_rate
        raise ClipError(Status.TOO_SHORT, f"{seconds:.3f} s of audio is shorter than a window")
    if peak < SILENT_PEAK:
        level = "it holds nothing but a constant offset" if sounds else "every sample is zero"
        if peak:
            level = f"its peak is {20 * np.log10(peak):.0f} dB of full scale"
        raise ClipError(Status.NO_AUDIO, "; ".join([f"the audio is silent ({level})", *remarks]))
    if not notes:
        return Outcome(Status.OK, "; ".join(remarks))
    fraction = 1.0 - missing * config.sample_rate / count
    return Outcome(Status.OK_PARTIAL, "; ".join([*notes, *remarks]), float(np.clip(fraction, 0.0, 1.0)))


def log_mel(samples: np.ndarray, config: LogMelConfig) -> np.ndarray:
    """Return the log-mel spectrogram float32 [1 + n // hop, n_mels] in dB of samples float32 [n].

    >>> log_mel(np.ones(16000, np.float32), LogMelConfig()).shape
    (101, 80)
    """
    n_fft, _, hop = sizes(config)
    padded = np.pad(samples, n_fft // 2)
    rows = 1 + len(samples) // hop
    blocks = []
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        blocks.append(mel_rows(padded[first * hop : (last - 1) * hop + n_fft], config))
    db = np.concatenate(blocks)
    return np.maximum(db, db.max() + config.floor_db)


def mel_rows(samples: np.ndarray, config: LogMelConfig) -> np.ndarray:
    """Return the log-mel of the hops whose windows lie in samples float32 [n], [m,n_mels] in dB, no floor."""
    n_fft, window, hop = sizes(config)
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=config.sample_rate,
        n_fft=n_fft,
        hop_length=hop,
        win_length=window,
        center=False,
        n_mels=config.n_mels,
        fmin=config.fmin,
        fmax=min(config.fmax, config.sample_rate / 2),
    )
    return librosa.power_to_db(mel, ref=1.0, amin=LOWEST_POWER, top_db=None).T


def loud_part(level: np.ndarray, config: LogMelConfig) -> slice:
    """Return the hops from first to last within ``trim_db`` of the loudest, plus 50 ms on each side.

    Args:
        level: level of the strongest band of each hop in dB, float32 [m], so that hum or hiss in all bands
            does not count as voice.
        config: settings.
    """
    loud = np.flatnonzero(level >= level.max() - config.trim_db)
    margin = round(TRIM_MARGIN_MS / config.hop_ms)
    return slice(max(0, loud[0] - margin), loud[-1] + margin + 1)


def row_seconds(config: LogMelConfig) -> float:
    """Return the distance of the hops in s, a whole number of samples."""
    return sizes(config)[2] / config.sample_rate


def sizes(config: LogMelConfig) -> tuple[int, int, int]:
    """Return the length of the FFT (the next power of two), of the window and of a hop, in samples."""
    window = max(2, round(config.window_ms * config.sample_rate / 1000))
    hop = max(1, round(config.hop_ms * config.sample_rate / 1000))
    return 1 << (window - 1).bit_length(), window, hop
