"""The speech stage: features of a frozen encoder for a clip's audio, on the media clock.

The audio is read as 16 kHz mono. A clip that is longer than the encoder's window is read in overlapping
windows (`deiii.pipeline.encoders.windows`). One pass of the encoder gives all chosen layers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from deiii.data.cache.outcomes import ClipError, Outcome, StageResult, Status
from deiii.data.config.schema import SpeechConfig
from deiii.data.encoders.record import SAMPLE_RATE
from deiii.pipeline.encoders.load import Loaded
from deiii.pipeline.encoders.windows import averaged, join_windows
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.levels import SILENT_PEAK, audible_peak


def encode_speech(path: str | os.PathLike, config: SpeechConfig, encoder: Loaded) -> StageResult:
    """Return features of one clip's audio.

    Args:
        path: the media file.
        config: settings.
        encoder: encoder from `deiii.pipeline.encoders.load.load_encoder`.

    Returns:
        Arrays ``states`` float16 [m,L,D] and ``time`` float64 [m] in s, the centre of each row on the clock
        of `deiii.pipeline.media.video.read_video`. The outcome is ``ok_partial`` if part of the audio is
        missing.

    Raises:
        ClipError: there is no audio to decode, it is silent or too short, or the encoder's output is not
            finite in float16.

    >>> encode_speech("clip.mp4", config, load_encoder(config)).arrays["states"].shape  # doctest: +SKIP
    (92, 4, 384)
    """
    notes: list[str] = []
    remarks: list[str] = []
    samples, start, missing = read_audio(path, SAMPLE_RATE, notes, remarks)
    _check_audio(samples, encoder, remarks)
    with np.errstate(over="ignore"):  # reported below
        states = np.concatenate([block.astype(np.float16) for block in _rows(samples, encoder)])
    odd = int((~np.isfinite(states)).any(axis=(1, 2)).sum())
    if odd:
        raise ClipError(
            Status.UNREADABLE,
            f"the encoder {encoder.choice.encoder.name} gives values in {odd} of {len(states)} rows that are "
            "not finite, or too large for float16; choose other layers or another encoder",
        )
    choice = encoder.choice
    first = choice.encoder.first + (choice.pool - 1) * choice.encoder.hop / 2
    hop = choice.pool * choice.encoder.hop
    time = start + (first + np.arange(len(states)) * hop) / SAMPLE_RATE
    outcome = Outcome(Status.OK, "; ".join(remarks))
    if notes:
        fraction = float(np.clip(1.0 - missing * SAMPLE_RATE / len(samples), 0.0, 1.0))
        outcome = Outcome(Status.OK_PARTIAL, "; ".join([*notes, *remarks]), fraction)
    return StageResult(outcome, {"states": states, "time": time})


def _check_audio(samples: np.ndarray, encoder: Loaded, remarks: list[str]) -> None:
    """Raise ClipError for audio that the encoder cannot use."""
    peak = audible_peak(samples)
    if not np.isfinite(peak):
        raise ClipError(Status.UNREADABLE, "the audio holds samples that are not finite")
    if len(samples) < encoder.choice.encoder.shortest:
        seconds = len(samples) / SAMPLE_RATE
        name = encoder.choice.encoder.name
        raise ClipError(Status.TOO_SHORT, f"{seconds:.3f} s of audio is too short for the encoder {name}")
    if peak < SILENT_PEAK:
        raise ClipError(Status.NO_AUDIO, "; ".join(["the audio is silent", *remarks]))


def _rows(samples: np.ndarray, encoder: Loaded) -> Iterator[np.ndarray]:
    """Yield the stored rows float32 [r,L,D]."""
    choice = encoder.choice

    def encode(windows: list[np.ndarray]) -> list[np.ndarray]:
        if len({len(window) for window in windows}) == 1:
            return list(encoder.network(np.stack(windows)))
        return [encoder.network(window[None])[0] for window in windows]

    rows = join_windows(samples, choice.window, choice.step, choice.encoder.hop, encode, encoder.batch)
    return averaged(rows, choice.pool)
