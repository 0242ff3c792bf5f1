"""The overlay video of one prediction: face box, flow, probabilities over time, and the source's audio.

A panel below the video frames shows the flow of the face (hue is direction, saturation is length), the
probabilities of the sliding window around the current time as bars, and their course over the recording with
a cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deiii.data.cache.stages import FACES
from deiii.data.tools.progress import progress_bar
from deiii.model.prediction.overlay.layout import Layout
from deiii.model.prediction.overlay.panel import Panel, headline
from deiii.model.prediction.overlay.people import PeoplePanel
from deiii.model.prediction.overlay.track import Track
from deiii.model.prediction.predictor import Predictor
from deiii.model.prediction.result import Prediction
from deiii.pipeline.media.streaming.audio import LONGEST_S
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.writing.video_writer import VideoWriter


def draw_overlay(
    prediction: Prediction | Sequence[Prediction],
    network: Predictor,
    path: str | Path,
    progress: bool = False,
) -> Path:
    """Write the overlay video of a file; returns its path.

    Args:
        prediction: prediction with its arrays and timeline; or those of all people, whose boxes then have
            their numbers. The flow of a long recording is shown if `predict` was given ``keep_flow``.
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
    tracks = [Track.of(p.arrays) for p in people]
    layout = Layout(first.shape[1], first.shape[0])
    ranges = network.task.ranges
    panel: Panel | PeoplePanel
    if len(people) == 1:
        panel = Panel(people[0], ranges, layout.width, FACES.name in network.stages)
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
