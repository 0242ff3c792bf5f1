"""Flow engines: RAFT, and OpenCV's DIS and TV-L1.

An engine gets each frame of a batch once and returns encoded flow, so that only small arrays leave the
device. Axes: m frames, N pairs, S crop size in px.
Sources: Kroeger et al. 2016 (DIS), Zach et al. 2007 (TV-L1).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from deiii.data.cache.flow_codec import encode_flow
from deiii.data.config.schema import FlowConfig
from deiii.pipeline.flow.engine import Engine, Stored


def load_engine(config: FlowConfig) -> Engine:
    """Load the configured method; this is needed once per process.

    Raises:
        WeightsError: RAFT's weights cannot be found or are damaged.
        DeviceError: the configured device does not exist.
        RuntimeError: the installed OpenCV has no TV-L1.

    >>> load_engine(FlowConfig(method="dis")).batch
    1
    """
    if config.method != "raft":
        return PairEngine(config.method, config.storage)
    from deiii.pipeline.flow.raft.engine import load_raft

    return load_raft(config)


class PairEngine:
    """OpenCV's methods, one pair of grey frames after the other.

    Threads take turns, because a method of OpenCV keeps its image pyramids: with two threads at once the flow
    of both would be wrong.

    Args:
        method: ``dis`` or ``tvl1``.
        storage: ``int8`` or ``float16``.

    Raises:
        RuntimeError: the installed OpenCV has no TV-L1.
    """

    batch = 1

    def __init__(self, method: str, storage: str):
        self.storage = storage
        self._turn = threading.Lock()
        self._method: Any
        if method == "dis":
            self._method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        elif hasattr(cv2, "optflow"):
            optflow: Any = cv2.optflow  # its stub lacks this function
            self._method = optflow.DualTVL1OpticalFlow_create()
        else:
            raise RuntimeError(
                "flow.method=tvl1 needs opencv-contrib-python, whose files another OpenCV package has "
                "overwritten: uninstall opencv-python and opencv-python-headless, then install "
                "opencv-contrib-python again"
            )

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """See `Engine.buffer`."""
        return np.empty(shape, np.uint8)

    def submit(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        """See `Engine.submit`; the flow is computed before this returns."""
        greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        with self._turn:
            flow = np.stack([self._method.calc(greys[i], greys[i + 1], None) for i in first])
        finite = np.isfinite(flow).all(axis=(1, 2, 3))
        stored = encode_flow(np.where(finite[:, None, None, None], flow, 0), self.storage)
        return lambda: stored | {"finite": finite}
