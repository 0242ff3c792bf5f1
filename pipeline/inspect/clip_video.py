"""A video to see and hear whether preprocessing is right: source, crop, flow and log-mel on one clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from deiii.data.cache.outcomes import ClipError
from deiii.data.tools.pictures import colour_wheel, flow_colours
from deiii.data.tools.progress import progress_bar
from deiii.pipeline.extract import Features
from deiii.pipeline.inspect.contact_sheet import flow_reach
from deiii.pipeline.inspect.source_frames import source_frames
from deiii.pipeline.media.video_writer import VideoWriter

WIDTH, HEIGHT, MARGIN = 1280, 720, 16
STAGE, SIDE = (880, 462), 223  # the source's place; sides of crop and flow, px
STRIP = 136  # height of the log-mel, px
SPAN_S = 4.0  # seconds of log-mel in view; now is in the middle
STILL_FPS = 25  # frames a second where there is no picture
PAPER, INK, FAINT = (24, 24, 28), (235, 235, 235), (120, 120, 128)


def draw_video(features: Features, path: str | Path, fps: float | None = None) -> None:
    """Write an mp4: the source with box and landmarks, its crop, the flow that leaves it, the log-mel
    scrolling through the present, with the clip's sound.

    Args:
        features: of the clip.
        path: of the mp4.
        fps: the grid that the rows lie on, ``faces.fps``.

    >>> draw_video(extract("a.mp4"), "a-seen.mp4")  # doctest: +SKIP
    """
    canvas = _Canvas(features)
    total = len(features.video_time) if features.video_time is not None else None
    rows = progress_bar(_rows(features, fps), desc=Path(path).name, unit="frame", total=total, leave=False)
    with VideoWriter(path, WIDTH, HEIGHT, audio=features.path) as video:
        for row, (rgb, time) in enumerate(rows):
            video.add(canvas.draw(row, rgb, time), time)


def _rows(features: Features, fps: float | None) -> Iterator[tuple[np.ndarray | None, float]]:
    """Annotated source frames with their times; without a picture, times alone (at least one)."""
    any_frame = False
    try:
        for row in source_frames(features, fps, max(STAGE)):
            any_frame = True
            yield row
    except ClipError:
        pass
    if not any_frame:  # of an unreadable file there is one picture, which says why
        last = features.audio_time[-1] if features.audio_time is not None else 0.0
        for k in range(int(last * STILL_FPS) + 1):
            yield None, k / STILL_FPS


class _Canvas:
    """Draws one frame after the other on a ground that all share."""

    def __init__(self, features: Features):
        self.features = features
        self.reach = flow_reach(features)
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
            _write(self.ground, f"edge {self.reach:.1f} px", (x + SIDE + 8, y + 106), FAINT, 0.42)
        self.mel = None
        if features.logmel is not None:
            levels = features.logmel.astype(np.float32).T[::-1]
            low, high = float(levels.min()), float(levels.max())
            grey = ((levels - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
            self.mel = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)

    def draw(self, row: int, rgb: np.ndarray | None, time: float) -> np.ndarray:
        """The whole frame, uint8 [HEIGHT,WIDTH,3]."""
        out, f = self.ground.copy(), self.features
        _write(out, f"{time:7.3f} s   frame {row}", (WIDTH - 260, 26), INK, 0.6)
        if rgb is None:
            _write(out, "no picture", (MARGIN, 40 + STAGE[1] // 2), FAINT, 0.7)
        else:
            _fit(out, rgb, (MARGIN, 40), STAGE)
        if f.frames is not None and row < len(f.frames) and f.valid[row]:
            _fit(out, f.frames[row], self.places[0], (SIDE, SIDE))
            if f.flow is not None and f.flow_valid[row]:
                _fit(out, flow_colours(f.flow[row], self.reach), self.places[1], (SIDE, SIDE))
        else:
            x, y = self.places[0]
            _write(out, "no valid face", (x, y + SIDE // 2), FAINT, 0.6)
        self._strip(out, time)
        return out

    def _strip(self, out: np.ndarray, now: float) -> None:
        top = 40 + STAGE[1] + MARGIN
        strip = out[top : top + STRIP, :]
        if self.mel is None:
            _write(strip, "no sound", (MARGIN, STRIP // 2), FAINT, 0.7)
            return
        times = self.features.audio_time
        hop = (times[-1] - times[0]) / max(1, len(times) - 1)
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


def _fit(out: np.ndarray, rgb: np.ndarray, place: tuple[int, int], room: tuple[int, int]) -> None:
    """Paint a picture as large as the room allows, centred in it."""
    scale = min(room[0] / rgb.shape[1], room[1] / rgb.shape[0])
    width, height = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    x, y = place[0] + (room[0] - width) // 2, place[1] + (room[1] - height) // 2
    out[y : y + height, x : x + width] = cv2.resize(rgb, (width, height), interpolation=how)


def _write(out: np.ndarray, words: str, place: tuple[int, int], colour: tuple, scale: float) -> None:
    plain = words.encode("ascii", "replace").decode()  # OpenCV's font holds no more
    cv2.putText(out, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
