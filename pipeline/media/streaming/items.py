"""What a live source gives: pieces of audio, and video frames with the time at which they arrived."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deiii.pipeline.media.frame import DecodedFrame


class AudioPiece(NamedTuple):
    """Audio that was decoded: mono samples float32 [n], their rate in Hz, and when they begin, s."""

    samples: np.ndarray
    rate: int
    time_s: float


class Picture(NamedTuple):
    """A video frame, its time in s, and when it arrived, s on `time.monotonic`."""

    frame: DecodedFrame
    time_s: float
    arrived: float
