"""The overlay video of one prediction: face box, flow, probabilities over time, and the source's audio.

A panel below the video frames shows the flow of the face (hue is direction, saturation is length), the
probabilities of the sliding window around the current time as bars, and their course over the recording with
a cursor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.stages import FACES, FLOW
from deiii.data.tools.pictures import flow_colours, flow_saturation
from deiii.data.tools.progress import progress_bar
from deiii.model.prediction.overlay.layout import Layout
from deiii.model.prediction.overlay.panel import SQUARE, Panel, headline
from deiii.model.prediction.overlay.people import PeoplePanel
from deiii.model.prediction.predictor import Predictor
from deiii.model.prediction.result import Prediction
from deiii.pipeline.media.streaming.audio import LONGEST_S
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.video_writer import VideoWriter

SATURATION_FRAMES = 100  # video frames whose flow decides on the saturation


def draw_overlay(
    prediction: Prediction | Sequence[Prediction],
    network: Predictor,
    path: str | Path,
    progress: bool = False,
) -> Path:
    """Write the overlay video of a file; returns its path.

    Args:
        prediction: with its arrays and timeline; or those of all people, whose boxes then have their numbers.
            The flow of a long recording is shown where `predict` was given ``keep_flow``.
        network: made the prediction.
        path: mp4 file to write.
        progress: whether to show a bar.

    Raises:
        ClipError: the file has no video.

    >>> draw_overlay(network.predict("clip.mp4"), network, "prediction.mp4")   # doctest: +SKIP
    """
    people = [prediction] if isinstance(prediction, Prediction) else list(prediction)
    frames = read_video(people[0].path, most_s=LONGEST_S)
    first, _ = next(iter(frames))
    tracks = [_Track.of(p) for p in people]
    layout = Layout(first.shape[1], first.shape[0])
    ranges = network.task.ranges
    panel: Panel | PeoplePanel
    if len(people) == 1:
        panel = Panel(people[0], ranges, layout.width)
    else:
        panel = PeoplePanel(people, ranges, layout.width)
    total = max((len(track.time) for track in tracks if track), default=None)
    with (
        VideoWriter(path, layout.width, layout.height + panel.height, audio=people[0].path) as video,
        progress_bar(frames, desc="overlay", unit="frame", total=total, leave=False, shown=progress) as bar,
    ):
        for rgb, time in bar:
            upper = layout.place(rgb)
            flow_tile = None
            for one, track in zip(people, tracks, strict=True):
                row = track.row(time) if track else None
                if track is None or row is None:
                    continue
                if len(people) == 1:
                    flow_tile = track.flow_tile(row)
                if track.valid[row]:
                    number = [str(one.person.number)] if one.person is not None else []
                    layout.draw_box(upper, track.box[row], " ".join([*number, headline(one, time)]))
            video.add(np.concatenate([upper, panel.draw(time, flow_tile)]), time)
    return Path(path)


@dataclass(frozen=True)
class _Track:
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
    def of(cls, prediction: Prediction) -> _Track | None:
        faces, flow = prediction.arrays.get(FACES.name), prediction.arrays.get(FLOW.name)
        if not faces:
            return None
        if flow is not None and FLOW.large not in flow:
            flow = None  # of a long recording, predicted without ``keep_flow``
        time = faces["time"]
        step = float(np.median(np.diff(time))) if len(time) > 1 else 0.04
        largest = 1.0
        if flow is not None and flow["valid"].any():
            some = np.flatnonzero(flow["valid"])
            some = some[:: max(1, len(some) // SATURATION_FRAMES)]
            largest = flow_saturation(_flow_rows(flow, some))
        return cls(time, faces["valid"], faces["box"], flow, 0.75 * step, largest)

    def row(self, time: float) -> int | None:
        """Return the video frame at a time; ``None`` where the faces stage left it out."""
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
