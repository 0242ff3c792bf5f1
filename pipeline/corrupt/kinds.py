"""The kinds of corruption of a recording, their severities, and the effect of each on a signal.

==========  ============================================================================  =================
kind        the number after ``=``                                                        harder
==========  ============================================================================  =================
noise       signal-to-noise ratio in dB: white noise is added to the audio                lower
blur        standard deviation of a Gaussian, in % of the width of the face               higher
occlude     share of the face's box that a grey rectangle covers, 0 to 1                  higher
compress    CRF of H.264 (libx264, preset medium, yuv420p), 0 to 51                       higher
speed       factor of the tempo of audio and video; pitch and formants change with it     farther from 1
==========  ============================================================================  =================

The power of the audio is the mean over all its samples, pauses included. The rectangle has the proportions of
the face's box, and one place in it for all frames of a clip. All random numbers depend on seed, clip and
corruption alone. Source of ``speed`` as an augmentation: Ko et al. 2015, Interspeech.

>>> parse_corruption("noise=20")
Corruption(kind='noise', value=20.0)
>>> parse_corruption("noise=20").name
'noise-20'
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import soxr  # comes with librosa, which resamples with it

GREY = 127  # grey value of the rectangle, as in the padding of most networks
MOST_SIGMAS = 3.0  # half the width of a blur's kernel, in standard deviations


class CorruptionError(ValueError):
    """A corruption that does not exist or cannot be applied; the message says which ones exist."""


@dataclass(frozen=True)
class Kind:
    """A kind of corruption.

    Attributes:
        stream: ``audio`` or ``video``; empty for both.
        low, high: limits of its number.
        unit: unit of the number.
        rising: whether a higher number is harder; of ``speed``, numbers far from 1 are harder, and it is
            sorted by number.
        words: what it does.
    """

    stream: str
    low: float
    high: float
    unit: str
    rising: bool
    words: str


KINDS = {
    "noise": Kind("audio", -20.0, 60.0, "dB SNR", False, "white noise in the audio"),
    "blur": Kind("video", 0.1, 50.0, "% of the face's width", True, "blur"),
    "occlude": Kind("video", 0.01, 1.0, "of the face's box", True, "a grey rectangle over the face"),
    "compress": Kind("video", 0.0, 51.0, "CRF", True, "H.264 compression"),
    "speed": Kind("", 0.5, 2.0, "times the speed", True, "another speed of audio and video"),
}


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption with its severity.

    Attributes:
        kind: a key of `KINDS`.
        value: its number.
    """

    kind: str
    value: float

    @property
    def name(self) -> str:
        """The name in file names, such as ``noise-20``."""
        return f"{self.kind}-{self.value:g}"

    @property
    def about(self) -> Kind:
        """The record of its kind."""
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}={self.value:g}"


def parse_corruption(word: str) -> Corruption:
    """Return the corruption that a word such as ``blur=2`` names.

    Raises:
        CorruptionError: the kind is unknown, or the number is missing, not a number or outside its limits.
    """
    kind, sign, text = word.partition("=")
    listed = ", ".join(f"{name}={k.low:g} to {k.high:g} ({k.unit})" for name, k in KINDS.items())
    if kind not in KINDS or not sign:
        raise CorruptionError(f"{word!r} is not a corruption; there are {listed}")
    try:
        value = float(text)
    except ValueError:
        raise CorruptionError(f"{word!r}: {text!r} is not a number; there are {listed}") from None
    about = KINDS[kind]
    if not about.low <= value <= about.high:
        raise CorruptionError(f"{word!r} is outside {about.low:g} to {about.high:g} ({about.unit})")
    if kind == "compress" and value != round(value):
        raise CorruptionError(f"{word!r}: a CRF is a whole number")
    return Corruption(kind, value)


def parse_corruptions(words: Sequence[str]) -> list[Corruption]:
    """Return corruptions, each once, by kind and rising severity.

    Raises:
        CorruptionError: a word does not name a corruption.

    >>> [str(c) for c in parse_corruptions(["noise=0", "blur=2", "noise=20"])]
    ['noise=20', 'noise=0', 'blur=2']
    """
    found = list(dict.fromkeys(parse_corruption(word) for word in words))
    place = {kind: n for n, kind in enumerate(KINDS)}
    return sorted(found, key=lambda c: (place[c.kind], c.value if c.about.rising else -c.value))


def generator(seed: int, clip: str, corruption: Corruption) -> np.random.Generator:
    """Return the random number generator of one clip under one corruption."""
    digest = hashlib.sha256(f"{seed}/{corruption}/{clip}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def add_noise(samples: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Return samples, float32 [n], with white Gaussian noise at a signal-to-noise ratio in dB.

    Silence stays silence, because its ratio to noise is not defined.
    """
    power = float(np.mean(samples.astype(np.float64) ** 2)) if len(samples) else 0.0
    deviation = math.sqrt(power / 10 ** (snr_db / 10))
    return (samples + deviation * rng.standard_normal(len(samples))).astype(np.float32)


def change_speed(samples: np.ndarray, rate: int, factor: float) -> np.ndarray:
    """Return samples, float32 [n / factor], that play ``factor`` times as fast at the same rate in Hz."""
    return np.asarray(soxr.resample(samples, rate, rate / factor, "soxr_hq"), np.float32)


def blur(rgb: np.ndarray, percent: float, face_px: float) -> np.ndarray:
    """Return a frame, uint8 [H,W,3], blurred by a Gaussian of ``percent`` % of the face's width in px."""
    sigma = percent / 100 * face_px
    size = 2 * math.ceil(MOST_SIGMAS * sigma) + 1
    return cv2.GaussianBlur(rgb, (size, size), sigma, borderType=cv2.BORDER_REPLICATE)


def occlude(rgb: np.ndarray, share: float, box: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """Return a frame, uint8 [H,W,3], with a grey rectangle over a share of a box.

    Args:
        rgb: the frame.
        share: covered share of the box's area, 0 to 1.
        box: x, y, width and height in px, float [4].
        place: position of the rectangle within the box, 0 to 1 from left and top.
    """
    x, y, width, height = (float(v) for v in box)
    side = math.sqrt(share)
    left, top = x + place[0] * (1 - side) * width, y + place[1] * (1 - side) * height
    covered = rgb.copy()
    rows = slice(max(0, round(top)), max(0, round(top + side * height)))
    columns = slice(max(0, round(left)), max(0, round(left + side * width)))
    covered[rows, columns] = GREY
    return covered
