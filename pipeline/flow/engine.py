"""What every flow engine takes and returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

Stored = dict[str, np.ndarray]


class Engine(Protocol):
    """Computes flow.

    Attributes:
        batch: pairs a call should hold.
    """

    batch: int

    def submit(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        """Start on the flow from each frame ``first[i]`` to the next; the result is called for.

        Args:
            frames: uint8 [m,S,S,3].
            first: int64 [N].
            continues: ``frames[0]`` was the last frame of the call before.

        Returns:
            a function that waits and gives ``flow`` [N,S,S,2], ``scale`` [N] where int8, and
            ``finite`` bool [N].
        """
        ...
