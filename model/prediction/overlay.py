"""The overlay video of one prediction: face box, flow, probabilities over time, and the source's audio.

A panel below the video frames shows the flow of the face (hue is direction, saturation is length), the
probabilities of the sliding window around the current time as bars, and their course over the recording with
a cursor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.stages import FACES, FLOW, LOGMEL
from deiii.data.tools.pictures import flow_colours, flow_saturation
from deiii.data.tools.progress import progress_bar
from deiii.model.prediction.predictor import Predictor
from deiii.model.prediction.result import Prediction, Timeline
from deiii.pipeline.media.streaming.audio import LONGEST_S
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.video_writer import VideoWriter

NARROWEST, WIDEST = 640, 1280  # px, width of the overlay video; larger sources are reduced
PANEL, SQUARE, EDGE = 168, 120, 12  # px: height of the panel, side of the flow tile, margins
BACK = (24, 28, 36)
INK = (236, 239, 244)
SOFT = (150, 158, 172)
TRACK = (48, 55, 68)
BOX = (120, 220, 140)
SATURATION_FRAMES = 100  # video frames whose flow decides on the saturation
COLOURS = (  # Okabe and Ito's, distinct for most colour-blind people, and two more
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (150, 150, 150), (110, 84, 60), (200, 200, 220),
)  # fmt: skip


def draw_overlay(
    prediction: Prediction, network: Predictor, path: str | Path, progress: bool = False
) -> Path:
    """Write the overlay video of one prediction; returns its path.

    Args:
        prediction: with its arrays and timeline. The flow of a long recording is shown where `predict` was
            given ``keep_flow``.
        network: made the prediction.
        path: mp4 file to write.
        progress: whether to show a bar.

    Raises:
        ClipError: the file has no video.

    >>> draw_overlay(network.predict("clip.mp4"), network, "prediction.mp4")   # doctest: +SKIP
    """
    frames = read_video(prediction.path, most_s=LONGEST_S)
    first, _ = next(iter(frames))
    faces, flow = prediction.arrays.get(FACES.name), prediction.arrays.get(FLOW.name)
    if flow is not None and FLOW.large not in flow:
        flow = None  # of a long recording, predicted without ``keep_flow``
    track = _Track.of(faces, flow) if faces else None
    layout = _Layout(first.shape[1], first.shape[0])
    panel = Panel(prediction, network.task.ranges, layout.width)
    total = len(faces["time"]) if faces else None
    with (
        VideoWriter(path, layout.width, layout.height + PANEL, audio=prediction.path) as video,
        progress_bar(frames, desc="overlay", unit="frame", total=total, leave=False, shown=progress) as bar,
    ):
        for rgb, time in bar:
            upper = layout.place(rgb)
            flow_tile = None
            row = track.row(time) if track else None
            if track is not None and row is not None:
                flow_tile = track.flow_tile(row)
                if track.valid[row]:
                    layout.draw_box(upper, track.box[row], panel.headline(time))
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
    def of(cls, faces: Mapping[str, np.ndarray], flow: Mapping[str, np.ndarray] | None) -> _Track:
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


class _Layout:
    """The place of the source's video frame in the overlay video."""

    def __init__(self, width: int, height: int):
        self.scale = min(1.0, WIDEST / width)
        self.inner = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        self.width = max(NARROWEST, _even(self.inner[0]))
        self.height = _even(self.inner[1])
        self.left = max(0, (self.width - self.inner[0]) // 2)

    def place(self, rgb: np.ndarray) -> np.ndarray:
        """Return the video frame on the canvas, uint8 [height,width,3]."""
        if rgb.shape[1::-1] != self.inner:
            rgb = cv2.resize(rgb, self.inner, interpolation=cv2.INTER_AREA)
        canvas = np.full((self.height, self.width, 3), BACK, np.uint8)
        rgb = rgb[: self.height, : self.width]  # the last column or row of an odd size
        canvas[: len(rgb), self.left : self.left + rgb.shape[1]] = rgb
        return canvas

    def draw_box(self, canvas: np.ndarray, box: np.ndarray, words: str) -> None:
        """Draw the face's box, float [4] in source px, with a label."""
        x, y, w, h = box * self.scale + np.array([self.left, 0, 0, 0])
        low, high = (round(float(x)), round(float(y))), (round(float(x + w)), round(float(y + h)))
        cv2.rectangle(canvas, low, high, BOX, 2)
        label = _label(words)
        top = max(0, low[1] - label.shape[0])
        left = min(max(0, low[0]), canvas.shape[1] - label.shape[1])
        if left >= 0:
            canvas[top : top + label.shape[0], left : left + label.shape[1]] = label[: self.height - top]


class Panel:
    """The panel below the video frames; what depends on the sliding window alone is drawn once a window."""

    def __init__(self, prediction: Prediction, ranges: Sequence[tuple[float, float]], width: int):
        self.p = prediction
        self.ranges = ranges
        self.width = width
        self.names = [*prediction.probabilities, *prediction.attributes]
        self.timeline = prediction.timeline or _empty_timeline(prediction)
        self.steps = len(self.timeline.time)
        self.hop = 2 * float(self.timeline.time[0]) if self.steps else 1.0
        self.chart = (2 * EDGE + SQUARE + self._bars() + EDGE, width - EDGE)  # left and right, px
        self._drawn = -2  # the window that `_still` shows; none yet
        self._still = np.zeros((PANEL, width, 3), np.uint8)
        self._curves = self._draw_curves()

    def _bars(self) -> int:
        return max(190, round(0.3 * (self.width - SQUARE)))

    def step(self, time: float) -> int:
        """Return the window around a time; -1 where it holds no input."""
        i = min(int(time / self.hop), self.steps - 1)
        return i if i >= 0 and self.timeline.present[i] else -1

    def headline(self, time: float) -> str:
        """Return the most probable class at a time with its probability, or the attributes."""
        i = self.step(time)
        if i < 0:
            return ""
        if not self.p.probabilities:
            pairs = zip(self.p.attributes, self.timeline.attributes[i], strict=True)
            return ", ".join(f"{n} {v:+.2f}" for n, v in pairs)
        row = self.timeline.probabilities[i]
        return f"{list(self.p.probabilities)[row.argmax()]} {row.max():.2f}"

    def draw(self, time: float, flow: np.ndarray | None) -> np.ndarray:
        """Return the panel at a time, uint8 [PANEL,width,3]; ``flow`` is what `_Track.flow_tile` returns."""
        i = self.step(time)
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
        small = _font(12)
        draw.rectangle((EDGE, EDGE, EDGE + SQUARE - 1, EDGE + SQUARE - 1), fill=TRACK)
        missing_flow = "no face" if FACES.name not in self.p.arrays else "no flow"
        draw.text((EDGE + SQUARE / 2, EDGE + SQUARE / 2), missing_flow, SOFT, small, anchor="mm")
        draw.text((EDGE, EDGE + SQUARE + 6), "flow of the face", SOFT, small)
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
        font = _font(int(min(13, max(8, height - 3))))
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
            draw.text((left + 5, middle), name, INK, font, anchor="lm")
            draw.text((left + width - 5, middle), words, INK, font, anchor="rm")

    def _draw_curves(self) -> np.ndarray:
        """Return the course over the recording, uint8 [SQUARE,w,3]: stacked classes, or attribute lines."""
        width = self.chart[1] - self.chart[0]
        canvas = np.full((SQUARE, width, 3), TRACK, np.uint8)
        if not self.steps:
            return canvas
        t = self.timeline
        at = np.minimum((np.arange(width) + 0.5) / width * self.p.seconds / self.hop, self.steps - 1)
        at = at.astype(int)
        if self.p.probabilities:
            edges = np.cumsum(t.probabilities[at], axis=1)
            level = (np.arange(SQUARE)[:, None] + 0.5) / SQUARE
            for k in reversed(range(edges.shape[1])):
                canvas[level < edges[None, :, k]] = COLOURS[k % len(COLOURS)]
        else:
            for k, (low, high) in enumerate(self.ranges):
                share = (t.attributes[at, k] - low) / (high - low)
                y = np.clip(((1 - share) * (SQUARE - 1)).round().astype(int), 1, SQUARE - 2)
                for d in (-1, 0, 1):
                    canvas[y + d, np.arange(width)] = COLOURS[k % len(COLOURS)]
        canvas[:, ~t.present[at]] = TRACK
        return canvas


def _empty_timeline(prediction: Prediction) -> Timeline:
    """Return a timeline without any window, for a file without usable input."""
    widths = len(prediction.probabilities), len(prediction.attributes)
    return Timeline(np.zeros(0), np.zeros((0, widths[0])), np.zeros((0, widths[1])), np.zeros(0, bool), 0.0)


@lru_cache(maxsize=64)
def _label(words: str) -> np.ndarray:
    """Return text on the colour of the box, uint8 [h,w,3]; 2 x 2 px for no text."""
    font = _font(14)
    width = int(font.getlength(words)) + 10 if words else 2
    image = Image.new("RGB", (width, 20 if words else 2), BOX)
    ImageDraw.Draw(image).text((5, 10), words, (15, 30, 18), font, anchor="lm")
    return np.asarray(image)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _even(n: int) -> int:
    return max(2, n - n % 2)
