"""Audio frames of a live source as mono samples of one rate."""

from __future__ import annotations

from typing import Any

import av
import numpy as np


class ToMono:
    """Convert audio frames to mono float32 samples at the rate of the first frame.

    A stream may change its channels or its rate; the output keeps its rate.

    Attributes:
        rate: sample rate of the output, Hz; 0 before the first frame.
    """

    def __init__(self) -> None:
        self.rate = 0
        self._resampler: Any = None
        self._form: tuple[str, str, int] | None = None  # sample format, channel layout, rate of the input

    def convert(self, frame: av.AudioFrame) -> list[np.ndarray]:
        """Return the samples that are complete after ``frame``, float32 [n] each and none of them empty."""
        form = frame.format.name, frame.layout.name, frame.sample_rate
        if form != self._form:
            self._form, self.rate = form, self.rate or frame.sample_rate
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=self.rate)
        found = [piece.to_ndarray().ravel() for piece in self._resampler.resample(frame)]
        return [samples for samples in found if len(samples)]
