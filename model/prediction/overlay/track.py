"""Box and flow of the face by video frame, for overlay videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.stages import FACES, FLOW
from deiii.data.tools.pictures import flow_colours, flow_saturation
from deiii.data.tools.row_times import row_step
from deiii.model.prediction.overlay.panel import SQUARE

SATURATION_FRAMES = 100  # video frames whose flow decides on the saturation


@dataclass(frozen=True)
class Track:
    """The stored arrays of the face, by video frame.

    Attributes:
        time: float64 [n], s.
        valid: bool [n].
        box: float32 [n,4], source px.
        flow: the fields of the flow stage, or ``None`` where it did not run.
        reach: largest distance in s between a time and its video frame.
        largest: flow length in px with full saturation.
    """

    time: np.ndarray
    valid: np.ndarray
    box: np.ndarray
    flow: Mapping[str, np.ndarray] | None
    reach: float
    largest: float

    @classmethod
    def of(cls, arrays: Mapping[str, Mapping[str, np.ndarray]], largest: float | None = None) -> Track | None:
        """Return the track of what the stages stored; ``None`` where the faces stage stored nothing.

        Args:
            arrays: arrays of the recording, keyed by stage; faces and flow have the same rows.
            largest: flow length with full saturation, px; by default that of the flow.
        """
        faces, flow = arrays.get(FACES.name), arrays.get(FLOW.name)
        if not faces:
            return None
        if flow is not None and FLOW.large not in flow:
            flow = None  # a long recording was predicted without ``keep_flow``
        time = faces["time"]
        step = row_step(time)
        if largest is None:
            largest = 1.0
            if flow is not None and flow["valid"].any():
                some = np.flatnonzero(flow["valid"])
                some = some[:: max(1, len(some) // SATURATION_FRAMES)]
                largest = flow_saturation(_flow_rows(flow, some))
        return cls(time, faces["valid"], faces["box"], flow, 0.75 * step, largest)

    def row(self, time: float) -> int | None:
        """Return the row of the video frame at a time in s; ``None`` where the faces stage left it out."""
        i = int(np.clip(np.searchsorted(self.time, time), 1, max(1, len(self.time) - 1)))
        near = min((j for j in (i - 1, i) if j < len(self.time)), key=lambda j: abs(self.time[j] - time))
        return near if abs(self.time[near] - time) <= self.reach else None

    def flow_tile(self, row: int) -> np.ndarray | None:
        """Return the flow colours of a video frame, uint8 [SQUARE,SQUARE,3]; ``None`` without valid flow."""
        if self.flow is None or not self.flow["valid"][row]:
            return None
        colours = flow_colours(_flow_rows(self.flow, [row])[0], self.largest)
        return cv2.resize(colours, (SQUARE, SQUARE), interpolation=cv2.INTER_AREA)


def _flow_rows(flow: Mapping[str, np.ndarray], rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return some rows of the stored flow, float32 [n,S,S,2] in px."""
    return decode_flow({name: flow[name][rows] for name in ("flow", "scale") if name in flow})
