"""The panel below the video frames of an overlay video: probabilities as bars, and their course over time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deiii.data.cache.stages import FACES, LOGMEL
from deiii.data.tools.text.printable import printable_name
from deiii.model.prediction.result import Prediction, Timeline

PANEL, SQUARE, EDGE = 168, 120, 12  # px: height of the panel, side of the flow tile, margins
BACK = (24, 28, 36)
INK = (236, 239, 244)
SOFT = (150, 158, 172)
TRACK = (48, 55, 68)
COLOURS = (  # Okabe and Ito's, distinct for most colour-blind people, and three more
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (150, 150, 150), (110, 84, 60), (200, 200, 220),
)  # fmt: skip


class Panel:
    """The panel below the video frames; the parts that change only with the window are drawn once a window.

    Args:
        prediction: the prediction with its timeline.
        ranges: lowest and highest value of each attribute.
        width: width of the panel in px.
        reads_video: whether the network reads faces; if not, the square of the flow states this.
    """

    def __init__(
        self,
        prediction: Prediction,
        ranges: Sequence[tuple[float, float]],
        width: int,
        reads_video: bool = True,
    ):
        self.height = PANEL
        self.reads_video = reads_video
        self.p = prediction
        self.ranges = ranges
        self.width = width
        names = (*prediction.probabilities, *prediction.attributes)
        self.names = [printable_name(name) for name in names]
        self.timeline = prediction.timeline or empty_timeline(prediction)
        self.chart = (2 * EDGE + SQUARE + self._bars() + EDGE, width - EDGE)  # left and right, px
        self._drawn = -2  # the window that `_still` shows; none yet
        self._still = np.zeros((PANEL, width, 3), np.uint8)
        left, right = self.chart
        self._curves = draw_course(prediction, ranges, right - left, SQUARE)

    def _bars(self) -> int:
        return max(190, round(0.3 * (self.width - SQUARE)))

    def draw(self, time: float, flow: np.ndarray | None) -> np.ndarray:
        """Return the panel at a time, uint8 [PANEL,width,3]; ``flow`` comes from `Track.flow_tile`."""
        i = window_at(self.timeline, time)
        if i != self._drawn:
            self._drawn = i
            self._still = self._draw_still(i)
        canvas = self._still.copy()
        if flow is not None:
            canvas[EDGE : EDGE + SQUARE, EDGE : EDGE + SQUARE] = flow
        left, right = self.chart
        x = left + round((right - left - 1) * min(1.0, time / max(self.p.seconds, 1e-9)))
        canvas[EDGE : EDGE + SQUARE, x] = INK
        return canvas

    def _draw_still(self, i: int) -> np.ndarray:
        image = Image.new("RGB", (self.width, PANEL), BACK)
        draw = ImageDraw.Draw(image)
        small = font(12)
        draw.rectangle((EDGE, EDGE, EDGE + SQUARE - 1, EDGE + SQUARE - 1), fill=TRACK)
        centre = (EDGE + SQUARE / 2, EDGE + SQUARE / 2)
        if self.reads_video:
            missing_flow = "no face" if FACES.name not in self.p.arrays else "no flow"
            draw.text(centre, missing_flow, SOFT, small, anchor="mm")
            draw.text((EDGE, EDGE + SQUARE + 6), "flow of the face", SOFT, small)
        else:
            draw.text(centre, "the network\nreads no video", SOFT, small, anchor="mm", align="center")
        self._draw_rows(draw, i)
        left = self.chart[0]
        under = f"{self.p.seconds:.1f} s; window {self.timeline.window_s:.1f} s" if self.p.timeline else ""
        missing = [n for n, s in (("no audio", LOGMEL.name), ("no face", FACES.name))
                   if s in self.p.outcomes and s not in self.p.arrays]  # fmt: skip
        draw.text((left, EDGE + SQUARE + 6), "; ".join([under, *missing]), SOFT, small)
        canvas = np.asarray(image).copy()
        canvas[EDGE : EDGE + SQUARE, left : self.chart[1]] = self._curves
        return canvas

    def _draw_rows(self, draw: ImageDraw.ImageDraw, i: int) -> None:
        left, width = 2 * EDGE + SQUARE, self._bars() - EDGE
        height = min(24.0, SQUARE / max(1, len(self.names)))
        small = font(int(min(13, max(8, height - 3))))
        t = self.timeline
        classes = len(self.p.probabilities)
        for k, name in enumerate(self.names):
            top = EDGE + k * height
            area = (left, top, left + width, top + height - 2)
            draw.rectangle(area, fill=TRACK)
            words = "–"
            if i >= 0:
                if k < classes:
                    value, share = f"{t.probabilities[i, k]:.2f}", float(t.probabilities[i, k])
                else:
                    number, (low, high) = float(t.attributes[i, k - classes]), self.ranges[k - classes]
                    value, share = f"{number:+.2f}", (number - low) / (high - low)
                words = value
                colour = tuple(round(0.62 * c) for c in COLOURS[k % len(COLOURS)])
                draw.rectangle((left, top, left + max(1.0, width * share), top + height - 2), fill=colour)
            middle = top + height / 2 - 1
            draw.text((left + 5, middle), name, INK, small, anchor="lm")
            draw.text((left + width - 5, middle), words, INK, small, anchor="rm")


def empty_timeline(prediction: Prediction) -> Timeline:
    """Return a timeline without any window, for a file without usable input."""
    widths = len(prediction.probabilities), len(prediction.attributes)
    return Timeline(np.zeros(0), np.zeros((0, widths[0])), np.zeros((0, widths[1])), np.zeros(0, bool), 0.0)


def window_at(timeline: Timeline, time: float) -> int:
    """Return the number of the window around a time in s; -1 where the window holds no input."""
    if not len(timeline.time):
        return -1
    i = min(int(time / (2 * float(timeline.time[0]))), len(timeline.time) - 1)
    return i if i >= 0 and timeline.present[i] else -1


def headline(prediction: Prediction, time: float) -> str:
    """Return the most probable class around a time in s with its probability, or the attributes."""
    timeline = prediction.timeline
    i = -1 if timeline is None else window_at(timeline, time)
    if timeline is None or i < 0:
        return ""
    if not prediction.probabilities:
        pairs = zip(prediction.attributes, timeline.attributes[i], strict=True)
        return ", ".join(f"{printable_name(n)} {v:+.2f}" for n, v in pairs)
    row = timeline.probabilities[i]
    return f"{printable_name(list(prediction.probabilities)[row.argmax()])} {row.max():.2f}"


def draw_course(
    prediction: Prediction, ranges: Sequence[tuple[float, float]], width: int, height: int
) -> np.ndarray:
    """Return the course over the recording, uint8 [height,width,3]: stacked classes, or attribute lines."""
    canvas = np.full((height, width, 3), TRACK, np.uint8)
    t = prediction.timeline
    if t is None or not len(t.time):
        return canvas
    hop = 2 * float(t.time[0])
    at = np.minimum((np.arange(width) + 0.5) / width * prediction.seconds / hop, len(t.time) - 1)
    at = at.astype(int)
    if prediction.probabilities:
        edges = np.cumsum(t.probabilities[at], axis=1)
        level = (np.arange(height)[:, None] + 0.5) / height
        for k in reversed(range(edges.shape[1])):
            canvas[level < edges[None, :, k]] = COLOURS[k % len(COLOURS)]
    else:
        for k, (low, high) in enumerate(ranges):
            share = (t.attributes[at, k] - low) / (high - low)
            y = np.clip(((1 - share) * (height - 1)).round().astype(int), 1, height - 2)
            for d in (-1, 0, 1):
                canvas[y + d, np.arange(width)] = COLOURS[k % len(COLOURS)]
    canvas[:, ~t.present[at]] = TRACK
    return canvas


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of the overlay in a size in px."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
