"""Windows of several clips in one call of a speech encoder.

A network whose function takes windows [B,n] gets windows of one length in a call. A network with a method
``ragged`` takes windows of unequal lengths (`deiii.data.encoders.record.Encoder.load`). Windows wait until
enough others are there to fill a call with similar lengths, because a call takes as long as its longest one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deiii.pipeline.encoders.load import Loaded

AHEAD = 4  # calls for which windows are collected, so that those of one call have similar lengths


class _Window(NamedTuple):
    """Samples float32 [n], and what takes their rows float32 [r,L,D]."""

    samples: np.ndarray
    take: Callable[[np.ndarray], None]


class WindowBatches:
    """Collects windows and encodes them in batches, which depend only on the windows and their order.

    The oldest window is in the next call, so none waits for long. With a batch of 1 no window waits.

    Args:
        encoder: encoder from `deiii.pipeline.encoders.load.load_encoder`.

    >>> batches = WindowBatches(encoder)  # doctest: +SKIP
    >>> batches.add(samples, rows.append)  # doctest: +SKIP
    >>> while batches.waiting:  # doctest: +SKIP
    ...     batches.encode()
    """

    def __init__(self, encoder: Loaded):
        self._network = encoder.network
        self._ragged = getattr(encoder.network, "ragged", None)
        self._batch = encoder.batch
        self._most = 1 if encoder.batch == 1 else AHEAD * encoder.batch
        self._windows: list[_Window] = []

    @property
    def waiting(self) -> int:
        """Number of windows that are not encoded yet."""
        return len(self._windows)

    def add(self, samples: np.ndarray, take: Callable[[np.ndarray], None]) -> None:
        """Take a window, and encode a batch if `AHEAD` batches of windows wait.

        Args:
            samples: float32 [n]; the array is kept until it is encoded.
            take: is called with the window's rows float32 [r,L,D], now or in a later call of a method.
        """
        self._windows.append(_Window(samples, take))
        if len(self._windows) >= self._most:
            self.encode()

    def encode(self) -> None:
        """Encode one batch: the oldest window, and those whose lengths are next to its length."""
        length = len(self._windows[0].samples)
        if self._ragged is None:
            near = [window for window in self._windows if len(window.samples) == length]
        else:  # of equal distances, the older window comes first
            near = sorted(self._windows, key=lambda window: abs(len(window.samples) - length))
        batch = near[: self._batch]
        taken = {id(window) for window in batch}
        self._windows = [window for window in self._windows if id(window) not in taken]
        samples = [window.samples for window in batch]
        if self._ragged is None or len({len(window) for window in samples}) == 1:
            encoded = self._network(np.stack(samples))
        else:
            encoded = self._ragged(samples)
        for window, rows in zip(batch, encoded, strict=True):
            window.take(rows)
