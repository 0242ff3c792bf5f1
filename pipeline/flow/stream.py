"""Optical flow of crops that arrive in blocks; each pair of crops is computed once.

>>> stream = FlowStream(config.flow, load_engine(config.flow))   # doctest: +SKIP
>>> stream.push(rows)["flow"].shape                              # doctest: +SKIP
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from deiii.data.config.schema import FlowConfig
from deiii.pipeline.flow.engine import Engine
from deiii.pipeline.flow.stage import GAP, FaceClip, compute_flow

STEPS = 250  # number of frames whose median distance shows where frames are missing

Rows = dict[str, np.ndarray]


class FlowStream:
    """Computes the rows of the flow stage while the rows of the faces stage arrive.

    Args:
        config: settings, the same as those of the engine.
        engine: engine from `deiii.pipeline.flow.engines.load_engine`.
    """

    def __init__(self, config: FlowConfig, engine: Engine):
        self.config, self.engine = config, engine
        self._last: FaceClip | None = None  # the newest row, whose flow needs the next one
        self._steps: deque[float] = deque(maxlen=STEPS)

    def push(self, faces: Mapping[str, np.ndarray]) -> Rows | None:
        """Take rows of the faces stage; returns new rows of flow to the last but one frame, or ``None``."""
        clip = FaceClip(faces["frames"], faces["time"], faces["valid"])
        if self._last is not None:
            clip = FaceClip(
                np.concatenate([self._last.frames, clip.frames]),
                np.concatenate([self._last.time, clip.time]),
                np.concatenate([self._last.valid, clip.valid]),
            )
        self._last = FaceClip(clip.frames[-1:].copy(), clip.time[-1:], clip.valid[-1:])
        if len(clip.time) < 2:
            return None
        steps = np.diff(clip.time)
        self._steps.extend(steps[clip.valid[:-1] & clip.valid[1:] & (steps > 0)].tolist())
        found = next(compute_flow([clip], self.config, self.engine)).arrays
        found = {name: values[:-1] for name, values in found.items()}
        if self._steps:  # the clip alone may be too short to measure the usual step
            late = steps > GAP * float(np.median(self._steps))
            found["valid"] = found["valid"] & ~late
            for name in found.keys() & {"flow", "scale"}:
                found[name][late] = 0
        return found

    def finish(self) -> Rows | None:
        """Return the row of the last frame, which has no flow; ``None`` if there was no frame."""
        if self._last is None:
            return None
        size = self._last.frames.shape[1]
        rows = {
            "flow": np.zeros((1, size, size, 2), np.dtype(self.config.storage)),
            "valid": np.zeros(1, bool),
            "time": np.asarray(self._last.time, np.float64),
        }
        return rows | ({"scale": np.zeros(1, np.float32)} if self.config.storage == "int8" else {})
