"""The overlay video of a live source, written by a thread while predictions are made.

The panel shows the last `SPAN_S` seconds. Frames that the thread cannot write in time are left out, so that
predictions do not wait for the drawing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.stages import FACES, FLOW
from deiii.model.network.task import Task
from deiii.model.prediction.overlay.layout import Layout
from deiii.model.prediction.overlay.panel import Panel, headline
from deiii.model.prediction.overlay.track import Track
from deiii.model.prediction.result import Prediction, Timeline
from deiii.model.prediction.windows.moments import Moment
from deiii.pipeline.media.streaming.items import Picture
from deiii.pipeline.media.writing.video_writer import VideoWriter

SPAN_S = 30.0  # length of the past that the panel shows
WAITING = 25  # frames that may wait; more are left out

Arrays = Mapping[str, Mapping[str, np.ndarray]]


class _Job(NamedTuple):
    picture: Picture
    box: np.ndarray | None
    flow: np.ndarray | None
    moments: Sequence[Moment]


class LiveOverlay:
    """Draws video frames with their face box, flow, and the predictions so far.

    Args:
        path: mp4 file to write; it appears under this name when the block ends.
        task: the classes and attributes.
        hop_s: time between two predictions, s.
        window_s: length of a window, s.
        reads_video: whether the network reads faces.

    Attributes:
        skipped: number of frames that were left out.

    Raises:
        OSError: by `add` and at the end of the block, where the file cannot be written.
    """

    def __init__(self, path: str | Path, task: Task, hop_s: float, window_s: float, reads_video: bool = True):
        self.path = Path(path)
        self._reads_video = reads_video
        self.skipped = 0
        self._task, self._hop_s, self._window_s = task, hop_s, window_s
        self._rows = max(1, round(SPAN_S / hop_s))
        self._moments: tuple[Moment, ...] = ()
        self._largest = 1.0
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> LiveOverlay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        if kind is None:
            self._raise()

    def predicted(self, moment: Moment, arrays: Arrays) -> None:
        """Add a prediction, which later frames show, and the features of its window."""
        self._moments = (*self._moments, moment)[-self._rows :]
        track = Track.of(arrays)
        self._largest = self._largest if track is None else track.largest

    def add(self, pictures: Sequence[Picture], arrays: Arrays) -> None:
        """Add video frames for which faces and flow are known.

        Args:
            pictures: video frames in order.
            arrays: rows of a live source, keyed by stage; those of faces and flow may differ in number.
        """
        self._raise()
        if not pictures:
            return
        track = Track.of(_same_rows(arrays), self._largest)
        for picture in pictures:
            row = track.row(picture.time_s) if track is not None else None
            box = flow = None
            if track is not None and row is not None:
                box = track.box[row] if track.valid[row] else None
                flow = track.flow_tile(row)
            with self._changed:
                if len(self._waiting) >= WAITING:
                    self._waiting.popleft()
                    self.skipped += 1
                self._waiting.append(_Job(picture, box, flow, self._moments))
                self._changed.notify()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _jobs(self) -> Any:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait(0.5)
                if not self._waiting:
                    return
                job = self._waiting.popleft()
            yield job

    def _write(self) -> None:
        try:
            self._write_all()
        except BaseException as error:  # `add` raises it in the thread that predicts
            self._error = error

    def _write_all(self) -> None:
        jobs = self._jobs()
        first = next(jobs, None)
        if first is None:
            return
        height, width = first.picture.frame.shape
        layout = Layout(width, height)
        drawn: Sequence[Moment] = ()
        panel = self._panel(drawn, layout.width)
        with VideoWriter(self.path, layout.width, layout.height + panel.height) as video:
            job: _Job | None = first
            while job is not None:
                if job.moments is not drawn:
                    panel, drawn = self._panel(job.moments, layout.width), job.moments
                upper = layout.place(job.picture.frame.rgb())
                now = self._hop_s * (min(len(job.moments), self._rows) - 0.5)
                if job.box is not None:
                    layout.draw_box(upper, job.box, headline(panel.p, now))
                video.add(np.concatenate([upper, panel.draw(now, job.flow)]), job.picture.time_s)
                job = next(jobs, None)

    def _panel(self, moments: Sequence[Moment], width: int) -> Panel:
        """Return the panel of the predictions so far, the newest at the right of what is filled."""
        classes, attributes = self._task.classes, self._task.attributes
        p = np.zeros((self._rows, len(classes)), np.float32)
        a = np.zeros((self._rows, len(attributes)), np.float32)
        present = np.zeros(self._rows, bool)
        for i, moment in enumerate(moments):
            if moment.usable:
                p[i] = [moment.probabilities[name] for name in classes]
                a[i] = [moment.attributes[name] for name in attributes]
                present[i] = True
        time = self._hop_s * (np.arange(self._rows) + 0.5)
        seen: Arrays = {FACES.name: {}} if moments and moments[-1].face_share else {}
        outcomes = {FACES.name: Outcome(Status.OK)} if moments and self._reads_video else {}
        return Panel(
            Prediction(
                "", self._hop_s * self._rows, outcomes, dict.fromkeys(classes, 0.0),
                dict.fromkeys(attributes, 0.0), timeline=Timeline(time, p, a, present, self._window_s),
                arrays=seen,
            ), self._task.ranges, width, self._reads_video,
        )  # fmt: skip


def _same_rows(arrays: Arrays) -> dict[str, Mapping[str, np.ndarray]]:
    """Return the rows that faces and flow of a live source both have; faces alone if there is no flow."""
    faces, flow = arrays.get(FACES.name), arrays.get(FLOW.name)
    if not faces:
        return {}
    small = {name: faces[name] for name in ("time", "valid", "box")}
    if not flow:
        return {FACES.name: small}
    _, own, other = np.intersect1d(small["time"], flow["time"], return_indices=True)
    return {
        FACES.name: {name: values[own] for name, values in small.items()},
        FLOW.name: {name: values[other] for name, values in flow.items()},
    }
