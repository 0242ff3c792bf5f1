"""Measure how well the mouth of a tracked face follows the audio, to find out who of several people speaks.

Two measures follow the voice (Chandrasekaran et al., "The natural statistics of audiovisual speech", PLoS
Computational Biology 2009): the mouth moves while the voice is heard, and it opens while the voice rises.
Both come from one least-squares fit to the difference of two successive images of the mouth's region. The fit
explains what a shift, a vertical stretch and a change of light explain to first order (Lucas and Kanade, "An
iterative image registration technique", IJCAI 1981). The stretch is the opening. What the fit leaves is the
motion of the mouth without that of the head. The darkness of the region was measured as well; on real
faces it hardly helped to find the speaker.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from deiii.data.cache.outcomes import ClipError
from deiii.pipeline.faces.motion import Similarity
from deiii.pipeline.media.streaming.audio import settled_reader

RATE, HOP = 16000, 320  # Hz, samples: 20 ms
BAND = (700.0, 2500.0)  # Hz; an open mouth raises it, and it has little of the pitch and of the hum of rooms
NEAR_S = 0.04  # s of audio on each side of a frame that belong to it
LAGS = (-2, -1, 0, 1, 2)  # frames by which the audio may be early or late
FEWEST = 8  # frames with a measured mouth that a score needs
PATCH = (32, 20)  # px, width and height to which the region of the mouth is scaled
REGION = (-0.4, -0.3, 0.4, 0.6)  # left, top, right, bottom from the mouth, in distances from eyes to mouth
QUIET = 0.003  # change relative to the brightness that counts as none
DAMPING = 1e-3  # share by which the diagonal of the normal equations is raised

MouthState = tuple[float, float]  # logarithm of the change; opening, px by which the edges move apart
MouthPlace = tuple[complex, complex]  # middle of the mouth, way from the middle of the eyes to it, px


@dataclass(frozen=True)
class Envelope:
    """The level of a recording's audio in `BAND`.

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
    from scipy import signal  # slow to import, and other choices of the face do not need it

    band = signal.butter(2, BAND, "bandpass", fs=RATE, output="sos")
    state = np.zeros((len(band), 2))
    levels, held = [], np.zeros(0, np.float32)
    try:
        reader = settled_reader(path, RATE)
        for samples in reader:
            voice, state = signal.sosfilt(band, samples, zi=state)
            held = np.concatenate([held, voice.astype(np.float32)])
            whole = len(held) // HOP * HOP
            levels.append(np.sqrt(np.sqrt(np.square(held[:whole].reshape(-1, HOP)).mean(axis=1))))
            held = held[whole:]
        level = np.concatenate(levels)
        return Envelope(reader.track.start, level) if np.isfinite(level).all() and level.any() else None
    except (ClipError, ValueError):
        return None


def mouth_place(landmarks: np.ndarray) -> MouthPlace:
    """Return the place of the mouth of a face from its landmarks, float64 [5,2], px.

    >>> mouth_place(np.array([[10.0, 10.0], [30.0, 10.0], [20.0, 20.0], [12.0, 32.0], [28.0, 32.0]]))
    ((20+32j), 22j)
    """
    points = landmarks[:, 0] + 1j * landmarks[:, 1]
    mouth = complex(points[3] + points[4]) / 2
    return mouth, mouth - complex(points[0] + points[1]) / 2


def mouth_places(landmarks: np.ndarray, steps: Sequence[Similarity | None]) -> list[MouthPlace]:
    """Return the places of a mouth in the frames up to a detection, the latest one first.

    Args:
        landmarks: those of the detection, float64 [5,2], px.
        steps: the motion of the face into each frame up to that of the detection, in order of time; the
            places end where it is ``None``.

    >>> points = np.array([[10.0, 10.0], [30.0, 10.0], [20.0, 20.0], [12.0, 32.0], [28.0, 32.0]])
    >>> mouth_places(points, [None, (1 + 0j, 5 + 0j)])  # the face moved to the right by 5 px
    [((20+32j), 22j), ((15+32j), 22j)]
    """
    places = [mouth_place(landmarks)]
    for step in reversed(steps):
        if step is None:
            break
        a, b = step
        mouth, down = places[-1]
        places.append(((mouth - b) / a, down / a))
    return places


def mouth_patch(grey: np.ndarray, place: MouthPlace) -> np.ndarray:
    """Return the upright region of the mouth of a face, float32 [20,32].

    Args:
        grey: the frame uint8 [H,W].
        place: result of `mouth_place`.
    """
    mouth, down = place
    left, top, right, bottom = REGION
    x, y = -1j * down * (right - left) / PATCH[0], down * (bottom - top) / PATCH[1]
    corner = mouth + -1j * down * left + down * top + (x + y) / 2  # middle of the first pixel
    move = np.array([[x.real, y.real, corner.real], [x.imag, y.imag, corner.imag]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(grey, move, PATCH, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def mouth_state(before: np.ndarray, after: np.ndarray) -> MouthState:
    """Return the change and the opening of a mouth from one frame to the next.

    Args:
        before, after: results of `mouth_patch`, float32 [20,32], at places that move with the head.

    Returns:
        the logarithm of the mean change relative to the brightness, without what a shift, a stretch and light
        explain; and the opening: px by which the upper and the lower edge of the region move away from its
        middle, positive where the mouth opens.
    """
    middle = (before + after) / 2
    down, across = np.gradient(middle)
    height = np.linspace(-1, 1, len(middle), dtype=np.float32)[:, None]
    terms = np.stack([across, down, down * height, np.ones_like(middle), middle]).reshape(5, -1)
    change = (after - before).ravel()
    products = (terms @ terms.T).astype(np.float64)
    products[np.diag_indices(5)] = products.diagonal() * (1 + DAMPING) + 1e-9
    fit = np.linalg.solve(products, (terms @ change).astype(np.float64))
    rest = float(np.abs(change - fit.astype(np.float32) @ terms).mean())
    return math.log(rest / (float(np.median(middle)) + 1.0) + QUIET), -float(fit[2])


@dataclass(eq=False)
class Mouth:
    """The measures of one mouth in successive frames.

    Attributes:
        states: results of `mouth_state`, keyed by the later frame.
    """

    states: dict[int, MouthState] = field(default_factory=dict)
    _last: tuple[int, np.ndarray] | None = None  # the last measured frame, and the region in it

    def measure(self, index: int, grey: np.ndarray, place: MouthPlace) -> None:
        """Measure the mouth in a frame; a frame that has been measured already is left out.

        Args:
            index: number of the frame; frames come in order of time.
            grey: the frame uint8 [H,W].
            place: place of the mouth in it.
        """
        if self._last is not None and index <= self._last[0]:
            return
        patch = mouth_patch(grey, place)
        if self._last is not None and index == self._last[0] + 1:
            self.states[index] = mouth_state(self._last[1], patch)
        self._last = index, patch

    def forget(self, before: int) -> None:
        """Remove the states of the frames before an index."""
        self.states = {i: state for i, state in self.states.items() if i >= before}


def audio_correlation(states: Mapping[int, MouthState], times: Mapping[int, float], audio: Envelope) -> float:
    """Return how well a mouth follows the audio, -1 to 1; 0 with too few frames.

    It is the mean of two correlations, that of the change with the level of the audio and that of the opening
    with the rise of the level, at the lag where this mean is largest.

    Args:
        states: results of `mouth_state`, keyed by the later frame.
        times: times of the frames in s, keyed by frame.
        audio: the level of the audio.
    """
    frames = sorted(states)
    if len(frames) < FEWEST:
        return 0.0
    change, opening = np.array([states[i] for i in frames]).T
    at = np.array([times[i] for i in frames])
    step = float(np.median(np.diff(at)))
    best = -1.0
    for lag in LAGS:
        heard = at + lag * step
        level = audio.at(heard)
        if level.std() < 1e-9:
            return 0.0
        rise = audio.at(heard + NEAR_S) - audio.at(heard - NEAR_S)
        best = max(best, (_correlation(change, level) + _correlation(opening, rise)) / 2)
    return best


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two series; 0 where one is constant."""
    if min(one.std(), other.std()) < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
