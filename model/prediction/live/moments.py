"""Predictions of a live source, with figures on it and an overlay video.

`deiii.model.prediction.predictor.Predictor.stream` gives the predictions alone.

>>> with LiveMoments(network, "rtsp://camera/stream") as live:     # doctest: +SKIP
...     for moment in live:
...         print(moment.label, moment.delay_s)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from deiii.data.cache.stages import FACES
from deiii.model.prediction.predictor import STREAM_HOP_S, Predictor
from deiii.model.prediction.windows.moments import Moment
from deiii.model.prediction.windows.newest import NEWEST_SLACK_S, newest_moments
from deiii.model.prediction.windows.units import check_window
from deiii.pipeline.streaming.live import LiveStream

if TYPE_CHECKING:
    from deiii.model.prediction.overlay.live import LiveOverlay


class LiveMoments:
    """Predictions of a live source; iterating yields one `Moment` a hop, of the newest window.

    Args:
        network: a trained network.
        source: number of a camera, URL or file; see `deiii.pipeline.media.streaming.address.address`.
        window_s: length of the window in s; by default that of the median training clip.
        hop_s: time between two predictions, s.
        overlay: mp4 file for an overlay video, which is finished when the block ends; ``None`` for none.
        report: receives a line when a connection is lost, and when it is restored.

    Attributes:
        delays: delay of each prediction in s, from the arrival of its newest frame to the result.

    Raises:
        ConfigError: the network reads a stage that needs the whole recording, or ``window_s`` or ``hop_s``
            cannot be used.
        LiveError: the source cannot be opened; by iterating, where nothing arrives from it.
    """

    def __init__(
        self,
        network: Predictor,
        source: str,
        window_s: float | None = None,
        hop_s: float = STREAM_HOP_S,
        overlay: str | Path | None = None,
        report: Callable[[str], None] = lambda text: None,
    ):
        self.network = network
        check_window(window_s, hop_s)
        self.window_s = window_s or network.median_s
        self.hop_s = hop_s
        self.delays: list[float] = []
        self._sums = np.zeros(len(network.classes))
        self._count = 0
        if overlay is not None:  # needs Pillow, which nothing else here needs
            from deiii.model.prediction.overlay.live import LiveOverlay
        self.features = LiveStream(source, network.config, network.stages, overlay is not None, report)
        self._overlay: LiveOverlay | None = None
        if overlay is not None:
            reads_video = FACES.name in network.stages
            self._overlay = LiveOverlay(overlay, network.task, hop_s, self.window_s, reads_video)

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
        network = self.network
        found = newest_moments(
            self.features, network.scorer, network.task, self.window_s, self.hop_s, self._draw
        )
        for moment, arrays in found:
            if self._overlay is not None:
                self._overlay.predicted(moment, arrays)
            self.delays.append(moment.delay_s or 0.0)
            if moment.probabilities:
                self._sums += np.array(list(moment.probabilities.values()))
                self._count += 1
            yield moment

    def _draw(self) -> None:
        if self._overlay is not None and (pictures := self.features.settled_pictures()):
            begin = pictures[0].time_s
            self._overlay.add(pictures, self.features.arrays(begin, self.features.ready_s + NEWEST_SLACK_S))

    def summary(self) -> dict[str, Any]:
        """Return figures on the source so far, for JSON and `deiii.model.prediction.live.show.describe`.

        ``seconds`` is its length, ``frames`` to ``connections`` are numbers, ``delay_median_s`` and
        ``delay_worst_s`` are delays, and ``probabilities`` are the means over all predictions.
        """
        reader = self.features.reader
        mean = self._sums / max(1, self._count)
        worst = max(self.delays, default=0.0)
        return {
            "seconds": round(self.features.end_s, 3),
            "predictions": len(self.delays),
            "frames": reader.frames,
            "dropped": reader.dropped,
            "damaged": reader.damage.damaged,
            "missing": reader.damage.missing,
            "connections": reader.connections,
            **({} if self._overlay is None else {"not_drawn": self._overlay.skipped}),
            "delay_median_s": round(float(np.median(self.delays)), 4) if self.delays else None,
            "delay_worst_s": round(worst, 4),
            "probabilities": dict(zip(self.network.classes, mean.round(6).tolist(), strict=True))
            if self._count
            else {},
        }
