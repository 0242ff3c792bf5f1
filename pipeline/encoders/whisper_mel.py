"""The log-mel spectrogram that is the input of Whisper.

Source: Radford et al. 2022, arXiv 2212.04356; https://github.com/openai/whisper/blob/main/whisper/audio.py
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from deiii.data.tools.compilation.librosa_loading import load_librosa

librosa = load_librosa()

SAMPLE_RATE, N_FFT, HOP = 16_000, 400, 160
LOWEST_POWER = 1e-10
RANGE = 8.0  # decades of power; values further below the loudest value of the window are raised to this floor


@lru_cache(maxsize=2)
def mel_filters(bands: int) -> np.ndarray:
    """Return mel filters float32 [bands,201]."""
    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=bands)


def whisper_mel(samples: np.ndarray, bands: int = 80) -> np.ndarray:
    """Return Whisper's log-mel float32 [bands, n // 160] of samples float32 [n]; values are around -1 to 1.

    >>> whisper_mel(np.zeros(16000, np.float32)).shape
    (80, 100)
    """
    spectrum = librosa.core.stft(
        np.asarray(samples, np.float32), n_fft=N_FFT, hop_length=HOP, window="hann", pad_mode="reflect"
    )
    power = np.abs(spectrum[:, :-1]) ** 2
    log = np.log10(np.maximum(mel_filters(bands) @ power, LOWEST_POWER))
    return ((np.maximum(log, log.max() - RANGE) + 4) / 4).astype(np.float32)
