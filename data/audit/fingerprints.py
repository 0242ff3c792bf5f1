"""Find one recording in two files by its audio or its face crops, whatever the files are called.

An audio print is a log-mel spectrogram in 16 bands, smoothed over 50 ms. The mean of each band is subtracted,
because level, microphone and codec change it. Two prints are of one recording if they correlate at a shift
of at most half a second. `LIKE_AUDIO` lies between the correlation of different takes of RAVDESS and that of
one take in two codecs.

A face print is the movement in the aligned crops: the differences between 32 grey images of 8 x 8 px. What
stays the same in a clip, such as the person and the room, does not affect it. A mirrored copy of a
video is found, too.

Axes: N clips, D numbers of a coarse or face print, T steps, F bands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

STEP_S = 0.01
SMOOTH = 5  # steps; finer detail differs between codecs
BANDS = 16
# Lower values are raised to this level below the loudest ones, in dB; noise and codecs change them.
FLOOR_DB = 40.0
COARSE_STEPS = 24
COARSE_LIKE = 0.85  # correlation of coarse prints from which two recordings are compared in full
SHIFT_S = 0.5
LIKE_AUDIO = 0.975
LIKE_FACE = 0.935
SHORTEST_S = 0.5
MOMENTS, SIDE = 32, 8
STILL = 1.0  # grey levels; a face that moves less from moment to moment has no print
BLOCK = 1024


@dataclass(frozen=True)
class AudioPrint:
    """The fingerprint of a recording with audio.

    Attributes:
        steps_TF: float16 [T,F], dB in steps of 10 ms, smoothed over 50 ms, without the mean of each band.
        coarse_D: float32 [D], a unit vector; the whole recording in 24 steps, to find candidates.
    """

    steps_TF: np.ndarray
    coarse_D: np.ndarray


def audio_print(logmel: np.ndarray, time: np.ndarray) -> AudioPrint | None:
    """Return the audio print of a recording; ``None`` if it is too short or hardly changes (silence).

    There is none of fewer than 16 mel bands, either: `LIKE_AUDIO` would not distinguish recordings by them.

    Args:
        logmel: float [m,M], dB.
        time: float [m], s.
    """
    if len(logmel) < 2 or logmel.shape[1] < BANDS or time[-1] - time[0] < SHORTEST_S:
        return None
    values = np.asarray(logmel, np.float32)
    values = np.maximum(values, np.percentile(values, 99) - FLOOR_DB)
    edges = np.linspace(0, values.shape[1], BANDS + 1).round().astype(int)[:-1]
    bands: np.ndarray = np.add.reduceat(values, edges, axis=1) / np.diff([*edges, values.shape[1]])
    step = np.rint((time - time[0]) / STEP_S).astype(int)
    first = np.flatnonzero(np.diff(step, prepend=-1))
    steps_TF: np.ndarray = np.add.reduceat(bands, first, axis=0) / np.diff([*first, len(bands)])[:, None]
    steps_TF = cv2.blur(np.ascontiguousarray(steps_TF), (1, SMOOTH))
    loud = np.flatnonzero(steps_TF.mean(axis=1) > steps_TF.mean(axis=1).max() - FLOOR_DB / 3)
    steps_TF = steps_TF[loud[0] : loud[-1] + 1]
    if len(steps_TF) * STEP_S < SHORTEST_S:
        return None
    steps_TF = steps_TF - steps_TF.mean(axis=0)
    if np.abs(steps_TF).mean() < 1:
        return None
    coarse = cv2.resize(steps_TF, (BANDS, COARSE_STEPS), interpolation=cv2.INTER_AREA).ravel()
    return AudioPrint(steps_TF.astype(np.float16), coarse / np.linalg.norm(coarse))


def audio_likeness(one: AudioPrint, other: AudioPrint) -> float:
    """Return the largest correlation of two prints over shifts of at most half a second, -1 to 1.

    At least nine tenths of the shorter one must overlap.
    """
    a_TF, b_TF = one.steps_TF.astype(np.float32), other.steps_TF.astype(np.float32)
    if len(a_TF) < len(b_TF):
        a_TF, b_TF = b_TF, a_TF
    least = int(np.ceil(0.9 * len(b_TF)))
    reach = round(SHIFT_S / STEP_S)
    best = -1.0
    for shift in range(-reach, len(a_TF) - len(b_TF) + reach + 1):
        start, stop = max(0, shift), min(len(a_TF), shift + len(b_TF))
        if stop - start < least:
            continue
        best = max(best, _correlation(a_TF[start:stop], b_TF[start - shift : stop - shift]))
    return best


def face_print(frames: np.ndarray, valid: np.ndarray) -> np.ndarray | None:
    """Return the movement of a face as a unit vector, float32 [D].

    Returns ``None`` for fewer than 16 frames, and for a still or mostly absent face.

    Args:
        frames: uint8 [n,S,S,3], aligned crops.
        valid: bool [n].
    """
    if len(frames) < MOMENTS // 2 or valid.mean() < 0.5:
        return None
    moments = np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int)
    grey = np.asarray(frames[moments], np.float32).mean(axis=3)
    small = np.stack([cv2.resize(g, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for g in grey])
    moved = np.diff(small, axis=0)
    moved -= moved.mean(axis=(1, 2), keepdims=True)  # brightness of the whole image
    if moved.std() < STILL:
        return None
    return (moved / np.linalg.norm(moved)).ravel()


def same_audio(
    here: Mapping[str, AudioPrint], there: Mapping[str, AudioPrint]
) -> Iterator[tuple[str, str, float]]:
    """Yield the pairs of clips with the same audio, and their correlation; no clip is paired with itself."""
    for a, b in _candidates(
        {i: p.coarse_D for i, p in here.items()}, {i: p.coarse_D for i, p in there.items()}, COARSE_LIKE
    ):
        likeness = audio_likeness(here[a], there[b])
        if likeness >= LIKE_AUDIO:
            yield a, b, likeness


def same_face(
    here: Mapping[str, np.ndarray], there: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str, float]]:
    """Yield the pairs of clips with the same movement of the face, also mirrored, and their correlation."""
    found: dict[tuple[str, str], float] = {}
    for others in (there, {name: mirrored(print_D) for name, print_D in there.items()}):
        for a, b in _candidates(here, others, LIKE_FACE):
            found[a, b] = max(found.get((a, b), -1.0), float(here[a] @ others[b]))
    yield from ((a, b, likeness) for (a, b), likeness in found.items())


def mirrored(print_D: np.ndarray) -> np.ndarray:
    """Return the face print of the mirrored video, float32 [D]."""
    return print_D.reshape(-1, SIDE, SIDE)[:, :, ::-1].ravel()


def _candidates(
    here: Mapping[str, np.ndarray], there: Mapping[str, np.ndarray], least: float
) -> Iterator[tuple[str, str]]:
    names, others = list(here), list(there)
    if not names or not others:
        return
    there_ND = np.stack([there[name] for name in others])
    for start in range(0, len(names), BLOCK):
        block: Sequence[str] = names[start : start + BLOCK]
        alike = np.stack([here[name] for name in block]) @ there_ND.T
        for row, column in np.argwhere(alike >= least):
            if block[row] != others[column]:
                yield block[row], others[column]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / size if size else -1.0
