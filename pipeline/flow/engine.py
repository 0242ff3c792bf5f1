"""The interface of flow engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

Stored = dict[str, np.ndarray]  # arrays by field, as `deiii.data.cache.flow_codec` encodes them


class Engine(Protocol):
    """Computes the flow of pairs of frames.

    Attributes:
        batch: number of pairs with which `submit` should be called.
    """

    batch: int

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return memory for the frames of a batch, uint8; page-locked where a GPU copies from it."""
        ...

    def submit(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        """Start to compute the flow from each frame ``first[i]`` to the next frame.

        Several threads may call this at a time, each for clips of its own.

        Args:
            frames: uint8 [m,S,S,3], best in an array from `buffer`; it must not be changed afterwards.
            first: int64 [N], rows of ``frames``.
            continues: whether ``frames[0]`` is the last frame of the previous call of this thread.

        Returns:
            a function that waits for the result and returns it: ``flow`` [N,S,S,2], ``scale`` [N] if it is
            stored as int8, and ``finite`` bool [N].
        """
        ...
