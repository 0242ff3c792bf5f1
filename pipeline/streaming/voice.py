"""Where somebody speaks in a recording: silero-vad, a small voice activity detector, and segments from it.

Sources: https://github.com/snakers4/silero-vad (MIT licence), version 6.2.3, for 16 kHz. It reads 32
ms at a time, after 4 ms of what came before, and keeps a state. The rules for segments are those of its
``get_speech_timestamps``, with longer pauses inside a segment.

>>> speech_segments("interview.mp4")  # doctest: +SKIP
[(0.42, 3.81), (5.02, 9.37)]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from deiii.data.cache.outcomes import ClipError
from deiii.data.encoders.onnx_session import open_session, refused
from deiii.data.tools.weights import SILERO_VAD, resolve
from deiii.pipeline.media.streaming.audio import AudioReader, settled_passes

RATE, CHUNK, CONTEXT = 16000, 512, 64  # Hz, samples
BEGINS, ENDS = 0.5, 0.35  # probabilities at which speech begins and ends
SHORTEST_S = 0.25  # shortest segment of speech
PAUSE_S = 0.3  # shorter silence is part of a segment
PAD_S = 0.05  # added on both sides, because the detector reacts late to weak audio

Segments = list[tuple[float, float]]  # begin and end in s


class VoiceDetector:
    """The probability of speech in each 32 ms of audio.

    Args:
        weights: path of ``silero_vad_16k_op15.onnx``; ``None`` to find or download it by its name.

    Raises:
        WeightsError: the weights cannot be found, or are those of another network.
    """

    def __init__(self, weights: str | None = None):
        path, _ = resolve(weights, SILERO_VAD)
        with refused(path, "the voice activity detector silero-vad", f"give the path of {SILERO_VAD}"):
            self._session = open_session(path, threads=1)
            names = sorted(value.name for value in self._session.get_inputs())
            if names != ["input", "sr", "state"]:
                raise ValueError(f"it reads {', '.join(names)}, not input, sr and state")

    def probabilities(self, parts: Iterable[np.ndarray]) -> Iterator[float]:
        """Yield the probability of speech in each chunk of 512 samples.

        Args:
            parts: the samples of a recording in order, float32 [n] at 16 kHz; silence fills the last chunk.
        """
        state = np.zeros((2, 1, 128), np.float32)
        before = np.zeros(CONTEXT, np.float32)
        rate = np.array(RATE, np.int64)
        for chunk in _chunks(parts):
            inputs = {"input": np.concatenate([before, chunk])[None], "state": state, "sr": rate}
            found, state = self._session.run(None, inputs)
            before = chunk[-CONTEXT:]
            yield float(found[0, 0])


def _chunks(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    held = np.zeros(0, np.float32)
    for part in parts:
        held = np.concatenate([held, part.astype(np.float32, copy=False)])
        whole = len(held) // CHUNK * CHUNK
        yield from held[:whole].reshape(-1, CHUNK)
        held = held[whole:]
    if len(held):
        yield np.pad(held, (0, CHUNK - len(held)))


def segments_of(probabilities: Iterable[float], start_s: float = 0.0) -> Segments:
    """Return the segments of speech.

    Args:
        probabilities: probabilities of speech, one for each 32 ms.
        start_s: time of the first sample, s.

    >>> segments_of([0.0] * 10 + [0.9] * 20 + [0.0] * 30)
    [(0.27, 1.01)]
    """
    step = CHUNK / RATE
    runs: list[list[int]] = []  # first chunk, and the chunk after the last one
    speaks = False
    for i, p in enumerate(probabilities):
        speaks = p >= (ENDS if speaks else BEGINS)
        if not speaks:
            continue
        if runs and (i - runs[-1][1]) * step < PAUSE_S:
            runs[-1][1] = i + 1
        else:
            runs.append([i, i + 1])
    found: Segments = []
    for first, stop in runs:
        if (stop - first) * step >= SHORTEST_S:
            begin = max(start_s, start_s + first * step - PAD_S)
            found.append((round(begin, 6), round(start_s + stop * step + PAD_S, 6)))
    return found


def speech_segments(
    path: str | os.PathLike,
    detector: VoiceDetector | None = None,
    progress: Callable[[float], None] = lambda done_s: None,
) -> Segments:
    """Find where somebody speaks in a file of any length; empty where it has no audio.

    Args:
        path: the media file.
        detector: detector to use for several files.
        progress: receives the time in s up to which the audio is read.

    Raises:
        WeightsError: the weights cannot be found.
    """
    detector = detector or VoiceDetector()
    try:
        for reader in settled_passes(path, RATE):
            probabilities = list(detector.probabilities(_counted(reader, progress)))
        return segments_of(probabilities, reader.track.start) if probabilities else []
    except ClipError:
        return []


def _counted(reader: AudioReader, progress: Callable[[float], None]) -> Iterator[np.ndarray]:
    """Yield the samples of a reader; reports how many seconds of them were taken."""
    for samples in reader:
        yield samples
        progress(reader.count / reader.sample_rate)
