"""The newest window of a live source, scored again and again.

>>> with live_moments(network, "rtsp://camera/stream") as live:     # doctest: +SKIP
...     for moment in live:
...         print(moment.label, moment.delay_s)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deiii.data.cache.stages import LOGMEL
from deiii.data.loader.stage_arrays import LEAST_DB
from deiii.model.prediction.overlay.live import LiveOverlay
from deiii.model.prediction.predictor import STREAM_HOP_S, Predictor
from deiii.model.prediction.windows.moments import Job, Moment, Scored, moment_of
from deiii.pipeline.streaming.live import LiveStream

SLACK_S = 1e-4  # so that a window holds the row at its end


class LiveMoments:
    """Predictions of a live source; iterating yields one `Moment` a hop, of the newest window.

    Args:
        network: a trained network.
        source: number of a camera, URL or file; see `deiii.pipeline.media.streaming.live.address`.
        window_s: length of the window in s; by default that of the median training clip.
        hop_s: time between two predictions, s.
        overlay: mp4 file for an overlay video, which is finished when the block ends; ``None`` for none.

    Attributes:
        delays: of each prediction, from the arrival of its newest frame to the result, s.

    Raises:
        ConfigError: the network reads a stage that needs the whole recording.
        LiveError: the source cannot be opened.
    """

    def __init__(
        self,
        network: Predictor,
        source: str,
        window_s: float | None = None,
        hop_s: float = STREAM_HOP_S,
        overlay: str | Path | None = None,
    ):
        self.network = network
        self.window_s = window_s or network.median_s
        self.hop_s = hop_s
        self.delays: list[float] = []
        self._sums = np.zeros(len(network.classes))
        self._count = 0
        self.features = LiveStream(source, network.config, network.stages, overlay is not None)
        self._overlay: LiveOverlay | None = None
        if overlay is not None:
            self._overlay = LiveOverlay(overlay, network.task, hop_s, self.window_s)

    def __enter__(self) -> LiveMoments:
        if self._overlay is not None:
            self._overlay.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.features.close()
        if self._overlay is not None:
            self._overlay.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Moment]:
        features, due = self.features, self.hop_s
        while features.advance():
            end = features.ready_s
            self._draw()
            if end < due:
                continue
            moment = self._moment(max(0.0, end - self.window_s), end)
            features.forget(end - self.window_s - self.hop_s)
            due += self.hop_s * max(1, int((end - due) / self.hop_s) + 1)
            yield moment

    def _draw(self) -> None:
        if self._overlay is not None and (pictures := self.features.settled_pictures()):
            begin = pictures[0].time_s
            self._overlay.add(pictures, self.features.arrays(begin, self.features.ready_s + SLACK_S))

    def _moment(self, begin: float, end: float) -> Moment:
        network, features = self.network, self.features
        job = Job(begin, end + SLACK_S, 0)
        arrays = features.arrays(job.begin, job.end)
        own = features.levels(LEAST_DB) if network.by_speaker else None
        levels = None if own is None else {LOGMEL.name: own}
        outputs = network.scorer(arrays, [(job.begin, job.end)], [set()], levels)
        found = moment_of(Scored(job, outputs, 0, arrays), network.task)
        delay = time.monotonic() - features.arrived(end)
        if self._overlay is not None:
            self._overlay.predicted(found, arrays)
        self.delays.append(delay)
        if found.probabilities:
            self._sums += np.array(list(found.probabilities.values()))
            self._count += 1
        return replace(found, time_s=end, end_s=end, delay_s=delay)

    def summary(self) -> dict[str, Any]:
        """Return a summary of the source so far, as text and for JSON."""
        reader = self.features.reader
        mean = self._sums / max(1, self._count)
        worst = max(self.delays, default=0.0)
        return {
            "seconds": round(self.features.end_s, 3),
            "predictions": len(self.delays),
            "frames": reader.frames,
            "dropped": reader.dropped,
            "connections": reader.connections,
            **({} if self._overlay is None else {"not_drawn": self._overlay.skipped}),
            "delay_median_s": round(float(np.median(self.delays)), 4) if self.delays else None,
            "delay_worst_s": round(worst, 4),
            "probabilities": dict(zip(self.network.classes, mean.round(6).tolist(), strict=True))
            if self._count
            else {},
        }
