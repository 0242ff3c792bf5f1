"""The source's frames as faces saw them, with box and landmarks drawn, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from deiii.data.cache.outcomes import ClipError
from deiii.pipeline.extract import Features
from deiii.pipeline.faces.stage import resampled
from deiii.pipeline.media.video import read_video

FOUND, INTERPOLATED, INVALID = (60, 220, 90), (255, 170, 30), (235, 50, 50)


def source_frames(features: Features, fps: float | None, longest: int) -> Iterator[tuple[np.ndarray, float]]:
    """The frames of a clip's rows in order, annotated, with their times in s.

    Box and landmarks are green where the face was found or followed, orange where they are
    interpolated; a frame without a valid face has a red edge.

    Args:
        features: of the clip; with or without faces.
        fps: the grid that its rows lie on, ``faces.fps``.
        longest: the longer side of the frames in px.
    """
    row = 0
    for picture, _, times in resampled(read_video(features.path).frames(), fps):
        rgb = picture.rgb(longest)
        for time in times:
            yield annotated(rgb, picture.shape, features, row), time
            row += 1


def chosen_frames(features: Features, fps: float | None, longest: int, count: int) -> dict[int, tuple]:
    """Evenly spread annotated frames, (rgb, time in s) by row; none where nothing decodes."""
    try:
        total = len(features.video_time) if features.video_time is not None else _count(features.path, fps)
        wanted = set(spread(total, count))
        rows = enumerate(source_frames(features, fps, longest))
        return {i: row for i, row in rows if i in wanted}
    except ClipError:
        return {}


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` rows, evenly spread; never the last one of several, which has no flow."""
    return np.unique(np.linspace(0, max(0, total - 2), count).round().astype(int)).tolist() if total else []


def annotated(rgb: np.ndarray, shape: tuple[int, int], features: Features, row: int) -> np.ndarray:
    """A copy of a picture with what faces found in this row; ``shape`` is the source's height and width."""
    rgb = rgb.copy()
    thick = max(1, round(max(rgb.shape) / 240))
    if features.valid is None or not features.valid[row]:
        cv2.rectangle(rgb, (0, 0), (rgb.shape[1] - 1, rgb.shape[0] - 1), INVALID, 3 * thick)
        return rgb
    scale = np.array([rgb.shape[1] / shape[1], rgb.shape[0] / shape[0]])
    colour = INTERPOLATED if features.interpolated[row] else FOUND
    box = features.box[row].reshape(2, 2) * scale
    corners = [tuple(int(v) for v in p.round()) for p in (box[0], box[0] + box[1])]
    cv2.rectangle(rgb, *corners, colour, thick, cv2.LINE_AA)
    for point in (features.landmarks[row] + 0.5) * scale - 0.5:
        cv2.circle(rgb, tuple(int(v) for v in (point * 16).round()), 20 * thick, colour, -1, cv2.LINE_AA, 4)
    return rgb


def _count(path: str, fps: float | None) -> int:
    return sum(len(times) for _, _, times in resampled(read_video(path).frames(), fps))
