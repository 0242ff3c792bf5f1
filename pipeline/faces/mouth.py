"""Measure how well the mouth of a tracked face follows the audio, to find out who of several people speaks.

The opening of a mouth follows the level of the voice (Chandrasekaran et al., "The natural statistics of
audiovisual speech", PLoS Computational Biology 2009). An open mouth is darker inside than around it, and one
that speaks changes from frame to frame. Both are measured in the lower part of each face box, relative to the
rest of the region, so that light and position of the head matter little.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from deiii.data.cache.outcomes import ClipError
from deiii.pipeline.media.streaming.audio import settled_reader

RATE, HOP = 16000, 320  # Hz, samples: 20 ms
NEAR_S = 0.04  # s of audio on each side of a frame that belong to it
LAGS = (-2, -1, 0, 1, 2)  # frames by which the audio may be early or late
FEWEST = 8  # frames with a measured mouth that a score needs
PATCH = (32, 20)  # px, width and height to which the region of the mouth is scaled
REGION = (0.22, 0.60, 0.78, 0.98)  # part of a face box: left, top, right, bottom


@dataclass(frozen=True)
class Envelope:
    """The level of a recording's audio.

    Attributes:
        start_s: time of the first value, s.
        level: float32 [n], square root of the RMS of each 20 ms.
    """

    start_s: float
    level: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the level around each time, float64 [k] in s; 0 outside the recording."""
        sums = np.concatenate([[0.0], np.cumsum(self.level, dtype=np.float64)])
        step = HOP / RATE
        first, stop = (
            np.clip(np.round((times + side * NEAR_S - self.start_s) / step), 0, len(self.level)).astype(int)
            for side in (-1, 1)
        )
        return (sums[stop] - sums[first]) / np.maximum(1, stop - first)


def audio_envelope(path: str | os.PathLike) -> Envelope | None:
    """Return the level of a file's audio, read in parts; ``None`` where it has none."""
    levels, held = [], np.zeros(0, np.float32)
    try:
        reader = settled_reader(path, RATE)
        for samples in reader:
            held = np.concatenate([held, samples])
            whole = len(held) // HOP * HOP
            levels.append(np.sqrt(np.sqrt(np.square(held[:whole].reshape(-1, HOP)).mean(axis=1))))
            held = held[whole:]
        level = np.concatenate(levels)
        return Envelope(reader.track.start, level) if np.isfinite(level).all() and level.any() else None
    except (ClipError, ValueError):
        return None


def mouth_patch(grey: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the region of the mouth of a face, float32 [20,32].

    Args:
        grey: the frame uint8 [H,W].
        box: box of the face, float64 [4], px.
    """
    (left, top), (right, bottom) = (box[:2] + box[2:] * np.array(part) for part in (REGION[:2], REGION[2:]))
    scale = np.array([[(right - left) / PATCH[0], 0, left], [0, (bottom - top) / PATCH[1], top]])
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(grey, scale, PATCH, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def mouth_state(patch: np.ndarray, before: np.ndarray | None) -> tuple[float, float, float]:
    """Return the darkness of the darkest tenth of a mouth's region, its unevenness, and its change."""
    middle = float(np.median(patch)) + 1.0
    dark = (middle - float(np.percentile(patch, 10))) / middle
    uneven = float(patch.std()) / middle
    change = 0.0 if before is None else float(np.abs(patch - before).mean()) / middle
    return dark, uneven, change


def audio_correlation(
    states: Mapping[int, tuple[float, float, float]], times: Mapping[int, float], audio: Envelope
) -> float:
    """Return the largest correlation of a mouth with the audio level, -1 to 1; 0 with too few frames.

    Args:
        states: results of `mouth_state`, keyed by frame.
        times: times of the frames in s, keyed by frame.
        audio: the level of the audio.
    """
    frames = sorted(states)
    if len(frames) < FEWEST:
        return 0.0
    values = np.array([states[i] for i in frames])
    at = np.array([times[i] for i in frames])
    step = float(np.median(np.diff(at)))
    best = -1.0
    for lag in LAGS:
        level = audio.at(at + lag * step)
        if level.std() < 1e-9:
            return 0.0
        for column in values.T:
            if column.std() > 1e-9:
                best = max(best, float(np.corrcoef(column, level)[0, 1]))
    return best if best > -1.0 else 0.0
