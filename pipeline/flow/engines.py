"""The engines that compute the flow of a batch of pairs: RAFT, and OpenCV's DIS and TV-L1.

Each engine takes the frames of a batch once and returns stored flow, so that only compact arrays
leave the device. Axes: m frames, N pairs, S crop size in px.
Sources: Kroeger et al. 2016 (DIS), Zach et al. 2007 (TV-L1).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from deiii.data.cache.flow_codec import encode_flow
from deiii.data.config.schema import FlowConfig
from deiii.pipeline.flow.engine import Engine, Stored


def load_engine(config: FlowConfig) -> Engine:
    """The configured method, ready to compute; once per worker.

    Raises:
        data.weights.WeightsError: where RAFT's weights cannot be had or are not what they must be.
        RuntimeError: where the device or OpenCV's TV-L1 is not there.

    >>> load_engine(FlowConfig(method="dis")).batch
    1
    """
    if config.method != "raft":
        return PairEngine(config.method, config.storage)
    from deiii.pipeline.flow.raft.engine import load_raft

    return load_raft(config)


class PairEngine:
    """OpenCV's methods, pair by pair on grey pictures.

    Args:
        method: ``dis`` or ``tvl1``.
        storage: ``int8`` or ``float16``.
    """

    batch = 1

    def __init__(self, method: str, storage: str):
        self.storage = storage
        if method == "dis":
            self._method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        elif hasattr(cv2, "optflow"):
            self._method = cv2.optflow.DualTVL1OpticalFlow_create()
        else:
            raise RuntimeError(
                "flow.method=tvl1 is part of opencv-contrib-python, which another OpenCV package hides here: "
                "uninstall opencv-python and opencv-python-headless, then install opencv-contrib-python again"
            )

    def submit(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        flow = np.stack([self._method.calc(greys[i], greys[i + 1], None) for i in first])
        finite = np.isfinite(flow).all(axis=(1, 2, 3))
        stored = encode_flow(np.where(finite[:, None, None, None], flow, 0), self.storage)
        return lambda: stored | {"finite": finite}
