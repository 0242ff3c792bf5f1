"""The video frames of a clip with the box and landmarks that the faces stage found."""

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
    """Yield the annotated frames of a clip's rows in order, uint8 [H,W,3], with their times in s.

    Box and landmarks are green if the face was detected or tracked, and orange if they are interpolated. A
    frame without a valid face has a red edge.

    Args:
        features: the features of the clip, with or without faces.
        fps: ``faces.fps``, the grid of the rows.
        longest: bound of the longer side of the frames in px.

    Raises:
        ClipError: the clip has no video that can be decoded.
    """
    row = 0
    for frame, _, times in resampled(read_video(features.path).frames(), fps):
        rgb = frame.rgb(longest)
        for time in times:
            yield annotated(rgb, frame.shape, features, row), time
            row += 1


def chosen_frames(
    features: Features, fps: float | None, longest: int, count: int
) -> dict[int, tuple[np.ndarray, float]]:
    """Return at most ``count`` evenly spaced annotated frames by row: the frame and its time in s.

    The result is empty if no video can be decoded. See `source_frames` for the other arguments.
    """
    try:
        total = len(features.video_time) if features.video_time is not None else _count(features.path, fps)
        wanted = set(spread(total, count))
        rows = enumerate(source_frames(features, fps, longest))
        return {i: row for i, row in rows if i in wanted}
    except ClipError:
        return {}


def spread(total: int, count: int) -> list[int]:
    """Return at most ``count`` evenly spaced rows of ``total``, without the last one, which has no flow.

    >>> spread(10, 3)
    [0, 4, 8]
    """
    return np.unique(np.linspace(0, max(0, total - 2), count).round().astype(int)).tolist() if total else []


def annotated(rgb: np.ndarray, shape: tuple[int, int], features: Features, row: int) -> np.ndarray:
    """Return a copy of a frame with the box and landmarks of a row drawn.

    Args:
        rgb: the frame uint8 [H,W,3].
        shape: height and width of the source in px.
        features: the features of the clip.
        row: the row that shows the frame.

    Raises:
        ValueError: the row is valid, but the features have no boxes.
    """
    rgb = rgb.copy()
    thick = max(1, round(max(rgb.shape) / 240))
    if features.valid is None or not features.valid[row]:
        cv2.rectangle(rgb, (0, 0), (rgb.shape[1] - 1, rgb.shape[0] - 1), INVALID, 3 * thick)
        return rgb
    scale = np.array([rgb.shape[1] / shape[1], rgb.shape[0] / shape[0]])
    if features.box is None or features.landmarks is None or features.interpolated is None:
        raise ValueError(f"{features.path}: the features have valid faces but no boxes")
    colour = INTERPOLATED if features.interpolated[row] else FOUND
    place, size = features.box[row].reshape(2, 2) * scale
    cv2.rectangle(rgb, _px(place), _px(place + size), colour, thick, cv2.LINE_AA)
    for point in (features.landmarks[row] + 0.5) * scale - 0.5:
        cv2.circle(rgb, tuple(int(v) for v in (point * 16).round()), 20 * thick, colour, -1, cv2.LINE_AA, 4)
    return rgb


def _px(point: np.ndarray) -> tuple[int, int]:
    x, y = point.round()
    return int(x), int(y)


def _count(path: str, fps: float | None) -> int:
    """Return the number of rows of a video."""
    return sum(len(times) for _, _, times in resampled(read_video(path).frames(), fps))
