"""Levels of audio: channels that cancel each other, integer samples stored as floats, offsets, silence.

>>> import numpy as np
>>> levels = Levels()
>>> wave = np.sin(np.arange(100, dtype=np.float32))
>>> levels.add(np.stack([wave, -wave]), is_float=False)
>>> levels.cancelled()  # of two channels, use the first alone
{2: 0}
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

CANCELLED = 0.1  # of the power that a mix of unrelated channels would have; less is cancellation
FULL_SCALES = (2.0**15, 2.0**23, 2.0**31)  # full scales of integer samples that were stored as floats
TOO_LOUD = 8.0  # times full scale, 18 dB: louder float samples have the scale of integers
SILENT_PEAK = 1e-4  # -80 dB of full scale; a lower level is dither, not audio
BLOCK = 512  # samples over which an offset is taken for constant
EDGES = 2  # blocks in which an offset may be switched on and off
LEAST = 64  # samples of a last block that show an offset; a single sample of noise is constant, too


@dataclass
class _Sums:
    """Sums over the samples of all blocks with one number of channels n.

    Attributes:
        count: number of samples.
        first: sums of each channel's samples, [n].
        products: products of each two channels' samples, [n,n].
    """

    count: int
    first: np.ndarray
    products: np.ndarray


@dataclass
class Levels:
    """Levels of each channel of a recording, block by block."""

    _sums: dict[int, _Sums] = field(default_factory=dict)
    _peak: float = 0.0  # peak of the samples that are stored as floats
    _all_float: bool = True

    @property
    def channel_counts(self) -> list[int]:
        """The numbers of channels that occurred, in order."""
        return list(self._sums)

    def add(self, channels: np.ndarray, is_float: bool) -> None:
        """Take a block of samples, float32 [channels,n]; ``is_float`` if they are stored as floats."""
        if not channels.size:
            return
        n = len(channels)
        self._all_float &= is_float
        if is_float:
            self._peak = max(self._peak, float(channels.max()), -float(channels.min()))
        sums = self._sums.get(n)
        if sums is None:
            sums = self._sums[n] = _Sums(0, np.zeros(n), np.zeros((n, n)))
        if n > 1:
            sums.count += channels.shape[1]
            sums.first += channels @ np.ones(channels.shape[1], np.float32)
            sums.products += channels @ channels.T

    def cancelled(self) -> dict[int, int]:
        """Return the strongest channel where the mean of all loses most power, by number of channels.

        The mean of n unrelated channels has 1/n^2 of the sum of their powers; less than a tenth of that is
        cancellation. Offsets do not count as power.
        """
        picks = {}
        for n, sums in self._sums.items():
            if n == 1:
                continue
            mean = sums.first / sums.count
            covariance = sums.products / sums.count - np.outer(mean, mean)
            power = np.diag(covariance)
            if power.max() > SILENT_PEAK**2 / 4 and covariance.sum() < CANCELLED * power.sum():
                picks[n] = int(power.argmax())
        return picks

    def scale(self) -> tuple[float, str]:
        """Return the divisor of the samples, and a remark ("" where it is 1)."""
        peak = self._peak
        if not self._all_float or not np.isfinite(peak) or peak <= TOO_LOUD:
            return 1.0, ""
        scale = next((s for s in FULL_SCALES if peak <= 1.01 * s), None)
        if scale is None:
            return 1.0, ""
        bits = round(np.log2(scale)) + 1
        return (
            scale,
            f"the float samples have the scale of {bits}-bit integers; they were divided by {scale:.0f}",
        )


def audible_peak(samples: np.ndarray) -> float:
    """Return the peak of samples float32 [n]; 0 where they hold nothing but a constant offset.

    A constant is inaudible, also where it is switched on and off once.

    >>> audible_peak(np.full(4000, 0.05, np.float32))
    0.0
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak) or peak < SILENT_PEAK:
        return peak
    whole = len(samples) // BLOCK * BLOCK
    offset = False
    loud = 0
    for blocks in (samples[:whole].reshape(-1, BLOCK), samples[None, whole:]):
        if blocks.size:
            is_quiet = (blocks.max(axis=1) - blocks.min(axis=1)) / 2 < SILENT_PEAK
            loud += int((~is_quiet).sum())
            if _shows_offset(blocks.shape[1], whole > 0):
                offset |= bool((np.abs(blocks[is_quiet].mean(axis=1)) >= SILENT_PEAK).any())
    return 0.0 if offset and loud <= EDGES else peak


def _shows_offset(length: int, others: bool) -> bool:
    """Return whether a block of this length can show an offset; ``others`` if there are whole blocks."""
    return length >= LEAST or not others


class PeakMeter:
    """Computes `audible_peak` of samples that come in parts.

    >>> meter = PeakMeter()
    >>> meter.add(np.full(4000, 0.05, np.float32))
    >>> meter.value()
    0.0
    """

    def __init__(self) -> None:
        self._peak = np.float32(0.0)
        self._loud = 0  # blocks
        self._offset = False
        self._whole = False  # whether there was a whole block
        self._rest = np.zeros(0, np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Take the next samples, float32 [n]."""
        if len(samples):
            self._peak = np.maximum(self._peak, np.abs(samples).max())  # NaN stays
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // BLOCK * BLOCK
        self._rest = joined[whole:].copy()
        self._whole |= whole > 0
        self._count(joined[:whole].reshape(-1, BLOCK))

    def value(self) -> float:
        """Return the peak of all samples; 0 where they hold nothing but a constant offset."""
        if len(self._rest):
            self._count(self._rest[None])
            self._rest = self._rest[:0]
        peak = float(self._peak)
        if not np.isfinite(peak) or peak < SILENT_PEAK:
            return peak
        return 0.0 if self._offset and self._loud <= EDGES else peak

    def _count(self, blocks: np.ndarray) -> None:
        if not len(blocks):
            return
        swings = np.ptp(blocks, axis=1) / 2
        self._loud += int((swings >= SILENT_PEAK).sum())
        if _shows_offset(blocks.shape[1], self._whole):
            levels = np.abs(blocks.mean(axis=1))
            self._offset |= bool(((swings < SILENT_PEAK) & (levels >= SILENT_PEAK)).any())
