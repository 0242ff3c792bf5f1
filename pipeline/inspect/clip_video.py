"""A video of a clip to check preprocessing: source, crop, flow and log-mel on one clock, with audio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from deiii.data.cache.outcomes import ClipError
from deiii.data.tools.pictures import (
    colour_wheel,
    flow_colours,
    flow_saturation,
    mel_picture,
    paste_fitted,
)
from deiii.data.tools.progress import progress_bar
from deiii.data.tools.row_times import ONE_ROW_S
from deiii.pipeline.extract import Features
from deiii.pipeline.inspect.source_frames import source_frames
from deiii.pipeline.media.writing.video_writer import VideoWriter

WIDTH, HEIGHT, MARGIN = 1280, 720, 16
STAGE = (880, 462)  # width and height in px of the place for the source
SIDE = 223  # px; height and width of the crop and of the flow
STRIP = 136  # px; height of the log-mel
SPAN_S = 4.0  # seconds of log-mel in view; the present is in the middle
STILL_FPS = 25  # frames per second of a clip without video
PAPER = (24, 24, 28)
INK = (235, 235, 235)
FAINT = (120, 120, 128)


def draw_video(features: Features, path: str | Path, fps: float | None = None) -> None:
    """Write an mp4 of a clip with its audio.

    It shows the source with box and landmarks, the crop, the flow to the next crop, and the log-mel, which
    scrolls past the present.

    Args:
        features: the features of the clip.
        path: path of the mp4.
        fps: ``faces.fps``, the grid of the rows; ``None`` for the frames' own times.

    >>> draw_video(extract("a.mp4"), "a-seen.mp4")  # doctest: +SKIP
    """
    canvas = _Canvas(features)
    total = len(features.video_time) if features.video_time is not None else None
    rows = progress_bar(_rows(features, fps), desc=Path(path).name, unit="frame", total=total, leave=False)
    with VideoWriter(path, WIDTH, HEIGHT, audio=features.path) as video:
        for row, (rgb, time) in enumerate(rows):
            video.add(canvas.draw(row, rgb, time), time)


def _rows(features: Features, fps: float | None) -> Iterator[tuple[np.ndarray | None, float]]:
    """Yield annotated source frames with their times in s; without video, ``None`` with at least one time."""
    any_frame = False
    try:
        for row in source_frames(features, fps, max(STAGE)):
            any_frame = True
            yield row
    except ClipError:
        pass
    if not any_frame:  # an unreadable file gives one frame, which shows the reason
        last = features.audio_time[-1] if features.audio_time is not None else 0.0
        for k in range(int(last * STILL_FPS) + 1):
            yield None, k / STILL_FPS


class _Canvas:
    """Draws the frames of a clip's video on a background that is drawn once."""

    def __init__(self, features: Features):
        self.features = features
        self.largest = 1.0  # px; flow length with full saturation
        if features.flow is not None and features.flow_valid is not None:
            self.largest = flow_saturation(features.flow[features.flow_valid])
        self.ground = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
        left = STAGE[0] + 2 * MARGIN
        _write(self.ground, Path(features.path).name, (MARGIN, 26), INK, 0.6)
        for n, (stage, outcome) in enumerate(features.outcomes.items()):
            words = f"{stage}: {outcome.status}" + (f" ({outcome.reason})" if outcome.reason else "")
            _write(self.ground, words[:150], (MARGIN, HEIGHT - 50 + 18 * n), FAINT, 0.42)
        self.places = [(left, 40), (left, 40 + SIDE + MARGIN)]
        for (x, y), name in zip(self.places, ("crop", "flow"), strict=True):
            _write(self.ground, name, (x + SIDE + 8, y + 14), FAINT, 0.45)
        if features.flow is not None:
            x, y = self.places[1]
            wheel = colour_wheel(64)
            wheel[(wheel == 255).all(axis=2)] = PAPER
            self.ground[y + 24 : y + 88, x + SIDE + 8 : x + SIDE + 72] = wheel
            _write(self.ground, f"edge {self.largest:.1f} px", (x + SIDE + 8, y + 106), FAINT, 0.42)
        self.mel = None if features.logmel is None else mel_picture(features.logmel)

    def draw(self, row: int, rgb: np.ndarray | None, time: float) -> np.ndarray:
        """Return one frame of the video, uint8 [HEIGHT,WIDTH,3].

        Args:
            row: the row of the clip's features.
            rgb: the annotated source frame; ``None`` without video.
            time: time of the frame in s.
        """
        out = self.ground.copy()
        _write(out, f"{time:7.3f} s   frame {row}", (WIDTH - 260, 26), INK, 0.6)
        if rgb is None:
            _write(out, "no video", (MARGIN, 40 + STAGE[1] // 2), FAINT, 0.7)
        else:
            paste_fitted(out, rgb, (MARGIN, 40, *STAGE))
        self._draw_face(out, row)
        self._draw_logmel(out, time)
        return out

    def _draw_face(self, out: np.ndarray, row: int) -> None:
        """Draw the crop of a row and its flow, or that there is none."""
        f = self.features
        if f.frames is None or f.valid is None or row >= len(f.frames) or not f.valid[row]:
            x, y = self.places[0]
            _write(out, "no valid face", (x, y + SIDE // 2), FAINT, 0.6)
            return
        paste_fitted(out, f.frames[row], (*self.places[0], SIDE, SIDE))
        if f.flow is not None and f.flow_valid is not None and f.flow_valid[row]:
            paste_fitted(out, flow_colours(f.flow[row], self.largest), (*self.places[1], SIDE, SIDE))

    def _draw_logmel(self, out: np.ndarray, now: float) -> None:
        """Draw the log-mel around the present, with ticks every second."""
        top = 40 + STAGE[1] + MARGIN
        strip = out[top : top + STRIP, :]
        times = self.features.audio_time
        if self.mel is None or times is None:
            _write(strip, "no audio", (MARGIN, STRIP // 2), FAINT, 0.7)
            return
        hop = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else ONE_ROW_S
        per_s = WIDTH / SPAN_S
        matrix = np.array(
            [
                [hop * per_s, 0, WIDTH / 2 + (times[0] - now) * per_s],
                [0, STRIP / len(self.mel), STRIP / len(self.mel) / 2 - 0.5],
            ]
        )
        size = (WIDTH, STRIP)
        strip[:] = cv2.warpAffine(self.mel, matrix, size, flags=cv2.INTER_LINEAR, borderValue=PAPER)
        for second in range(int(np.ceil(now - SPAN_S / 2)), int(now + SPAN_S / 2) + 1):
            x = round(WIDTH / 2 + (second - now) * per_s)
            if second >= 0 and 0 <= x < WIDTH:
                strip[-6:, x] = INK
                _write(strip, f"{second} s", (x + 4, STRIP - 6), INK, 0.4)
        strip[:, WIDTH // 2] = INK


def _write(
    out: np.ndarray, words: str, place: tuple[int, int], colour: tuple[int, int, int], scale: float
) -> None:
    """Write a line of text whose lower left corner is at ``place``."""
    plain = words.encode("ascii", "replace").decode()  # OpenCV's font has no other characters
    cv2.putText(out, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
