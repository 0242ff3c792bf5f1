"""The faces stage: one clip's aligned face crops.

Frames are decoded, every face is tracked (`deiii.pipeline.faces.tracking`), the speaker's is chosen
(`deiii.pipeline.faces.speaker`), its landmarks are smoothed without lag and its crops cut
(`deiii.pipeline.faces.align`). Whose face it is and where the smooth path runs is only known at the clip's
end, so frames wait for
their crops: as the decoder made them where the whole clip fits `KEEP_BYTES`; else a first pass decodes
to the size that tracking needs and a second one cuts the crops. Memory does not grow with the length.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeVar

import numpy as np

from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.config.schema import FacesConfig
from deiii.pipeline.faces import align
from deiii.pipeline.faces.detectors import load_detector
from deiii.pipeline.faces.face import Detector, Face, shrink
from deiii.pipeline.faces.speaker import pick_speaker
from deiii.pipeline.faces.tracking import Track, Tracker
from deiii.pipeline.media.video import DecodedFrame, expected_bytes, read_video

__all__ = ["extract_faces", "load_detector"]

KEEP_BYTES = 256 * 2**20  # decoded frames kept for their crops; a larger clip is decoded twice
SPOOL_BYTES = 64 * 2**20  # a clip's crops; more than this wait on disk, not in memory

T = TypeVar("T")


def extract_faces(path: str | os.PathLike, config: FacesConfig, detector: Detector) -> StageResult:
    """Aligned crops of the speaker's face in one clip.

    Args:
        path: the media file.
        config: settings.
        detector: from `load_detector`.

    Returns:
        Arrays, one row a frame (or one each 1/``fps`` s): ``frames`` uint8 [n,S,S,3] RGB; ``time``
        float64 [n] in s on the clock of `deiii.pipeline.media.video.read_video`; ``box`` float32 [n,4] (x,
        y, w, h) and ``landmarks`` float32 [n,5,2] (eyes, nose, mouth corners, the picture's left first) in
        px of the upright source; ``valid`` bool [n]; ``interpolated`` bool [n]. Rows without a face hold
        black and NaN and are not valid; gaps up to ``max_gap`` are interpolated, valid and marked.
        ``no_face`` where no frame shows one, ``too_short`` where less than ``min_valid`` of them do.

    Raises:
        data.outcomes.ClipError: where there is no video to decode.

    >>> config = FacesConfig()
    >>> extract_faces("clip.mp4", config, load_detector(config)).outcome  # doctest: +SKIP
    """
    longest = 2 * config.detect_size  # as large as a second look may use
    kept: list[DecodedFrame | np.ndarray] | None = [] if expected_bytes(path) <= KEEP_BYTES else None
    reader = read_video(path, longest if kept is None else None)
    tracker = Tracker(lambda rgb: look(detector, rgb, config.detect_size), config.every, config.max_gap)
    times: list[float] = []  # of the frames, and of the rows that show each of them
    rows: list[list[float]] = []
    held, shape, small_shape = 0, (0, 0), (0, 0)
    for picture, time, shown in resampled(reader.frames(), config.fps):
        small = picture.rgb(longest)
        shape, small_shape = picture.shape, small.shape[:2]
        tracker.push(small, time)
        times.append(time)
        rows.append(shown)
        if kept is not None:
            kept.append(small if shape == small_shape else picture)
            held += small.nbytes if shape == small_shape else picture.nbytes
            kept = kept if held <= 2 * KEEP_BYTES else None  # the header promised less
    tracks = pick_speaker(tracker.finish(), config.pick, small_shape)
    scale = np.array([small_shape[1] / shape[1], small_shape[0] / shape[0]])
    points, transforms, present, valid = _geometry(tracks, config, detector, scale, shape, len(times))
    frame_of = np.repeat(np.arange(len(times)), [len(r) for r in rows])
    time = np.array([t for r in rows for t in r], np.float64)
    hole = np.abs(time - np.asarray(times)[frame_of]) > config.max_gap / 2
    row_valid = valid[frame_of] & ~hole
    if not row_valid.any() or row_valid.mean() < config.min_valid:
        return StageResult(_no_face(row_valid, present.any(), config))
    if kept is None:
        again = resampled(read_video(path).frames(), config.fps)
        source: Iterable[DecodedFrame | np.ndarray] = (picture for picture, _, _ in again)
    else:
        source = kept
    points[~valid] = np.nan
    row_points = np.where(hole[:, None], np.nan, points[frame_of])
    arrays = {
        "frames": _crops(source, transforms, row_valid, frame_of, config.size),
        "time": time,
        "box": align.boxes(row_points).astype(np.float32),
        "landmarks": np.stack([row_points.real, row_points.imag], axis=-1).astype(np.float32),
        "valid": row_valid,
        "interpolated": row_valid & ~present[frame_of],
    }
    return StageResult(_outcome(reader.notes, reader.remarks, reader.share, row_valid, frame_of), arrays)


def _outcome(
    notes: list[str], remarks: list[str], share: float, valid: np.ndarray, frame_of: np.ndarray
) -> Outcome:
    repeats = len(frame_of) - len(np.unique(frame_of))
    if repeats:
        slow = f"{repeats} of {len(frame_of)} rows repeat a frame: the video is slower than faces.fps"
        remarks = [*remarks, slow]
    if not valid.all():
        notes = [f"no face in {(~valid).sum()} of {len(valid)} frames", *notes]
    reason = "; ".join([*notes, *remarks])
    return (
        Outcome(Status.OK_PARTIAL, reason, float(valid.mean() * share))
        if notes
        else Outcome(Status.OK, reason)
    )


def look(detector: Detector, rgb: np.ndarray, detect_size: int) -> list[Face]:
    """Faces in a picture, in its px: looked for at ``detect_size`` and, where none, at full size."""
    small = shrink(rgb, detect_size)[0]
    faces = detector(small)
    if small.shape == rgb.shape:
        return faces
    if not faces:
        return detector(rgb) if detector.second_look else []
    ratio = np.array([rgb.shape[1] / small.shape[1], rgb.shape[0] / small.shape[0]])
    return [Face(f.box * np.tile(ratio, 2), (f.landmarks + 0.5) * ratio - 0.5, f.score) for f in faces]


def resampled(frames: Iterable[tuple[T, float]], fps: float | None) -> Iterator[tuple[T, float, list[float]]]:
    """Frames that a regular grid of times shows, each with its own time and those of the grid.

    Every instant of the grid, which starts at the first frame, shows the frame nearest to it (the
    earlier one of two). Frames that no instant shows are left out; where the video is slower than the
    grid a frame is shown more than once. None is blended. Without ``fps`` the grid is the frames' own.

    >>> [(f, grid) for f, _, grid in resampled([("a", 0.0), ("b", 0.3), ("c", 0.5)], fps=4)]
    [('a', [0.0]), ('b', [0.25]), ('c', [0.5])]
    """
    first, count = 0.0, 0
    before: tuple[T, float] | None = None
    for frame, time in frames:
        if fps is None:
            yield frame, time, [time]
            continue
        if before is None:
            first = time
        else:
            grid, count = _until((before[1] + time) / 2, first, count, fps)
            if grid:
                yield *before, grid
        before = frame, time
    if before is not None:
        grid, _ = _until(before[1], first, count, fps)
        if grid:
            yield *before, grid


def _until(end: float, first: float, count: int, fps: float) -> tuple[list[float], int]:
    """The grid's instants from number ``count`` to ``end``, and the number after them."""
    stop = max(count, int(np.floor((end - first) * fps + 1e-6)) + 1)
    return [first + k / fps for k in range(count, stop)], stop


def _crops(
    source: Iterable[DecodedFrame | np.ndarray],
    transforms: np.ndarray,
    valid: np.ndarray,
    frame_of: np.ndarray,
    size: int,
) -> np.ndarray:
    """The crops of all rows, uint8 [n,S,S,3]; black where not valid. Many of them lie in a file."""
    item = size * size * 3
    if len(valid) * item <= SPOOL_BYTES:
        memory = None
        frames = np.zeros((len(valid), size, size, 3), np.uint8)
    else:
        with tempfile.TemporaryFile() as file:
            file.truncate(len(valid) * item)
            memory = mmap.mmap(file.fileno(), len(valid) * item)
        frames = np.frombuffer(memory, np.uint8).reshape(-1, size, size, 3)
    ends = np.searchsorted(frame_of, np.arange(frame_of[-1] + 2))
    filled = 0
    for i, (frame, start, stop) in enumerate(zip(source, ends[:-1], ends[1:], strict=False)):
        wanted = np.flatnonzero(valid[start:stop]) + start
        if len(wanted):
            frames[wanted] = _crop(frame, transforms[i], size)
        if memory is not None and (stop * item - filled) > SPOOL_BYTES:
            filled = stop * item  # written pages need not stay with us
            memory.flush()
            memory.madvise(mmap.MADV_DONTNEED)
    return frames


def _crop(frame: DecodedFrame | np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    if isinstance(frame, np.ndarray):
        return align.crop(frame, transform, size)
    window = align.window(transform, size, frame.shape)
    return align.crop(frame.part(*window), transform, size, window[:2])


def _geometry(
    tracks: list[Track],
    config: FacesConfig,
    detector: Detector,
    scale: np.ndarray,
    shape: tuple[int, int],
    n: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks (complex, source px), crop transforms, presence and validity of every frame."""
    points = np.full((n, 5), np.nan + 0j)
    transforms, present, valid = np.zeros((n, 2, 3)), np.zeros(n, bool), np.zeros(n, bool)
    for track in tracks:
        path = align.landmark_path(track, detector.oriented, detector.settle_s, config.smooth)
        path = ((path.real + 0.5) / scale[0] - 0.5) + 1j * ((path.imag + 0.5) / scale[1] - 0.5)
        rows = slice(track.start, track.stop)
        points[rows] = path
        transforms[rows] = align.crop_transforms(path, config.size, config.margin, config.align)
        present[rows] = track.present
        valid[rows] = _bridge_gaps(present[rows], track.times, config.max_gap)
    for i in np.flatnonzero(valid):
        inside = align.share_inside(transforms[i], config.size, shape[1], shape[0])
        valid[i] = inside >= config.min_inside
    return points, transforms, present, valid


def _bridge_gaps(present: np.ndarray, times: list[float], max_gap: float) -> np.ndarray:
    """Absences of at most ``max_gap`` s between two appearances filled in."""
    out = present.copy()
    for left, right in pairwise(np.flatnonzero(present)):
        if times[right] - times[left] <= max_gap:
            out[left:right] = True
    return out


def _no_face(valid: np.ndarray, seen: bool, config: FacesConfig) -> Outcome:
    found, n = int(valid.sum()), len(valid)
    if not seen:
        cure = "lower faces.min_score" if config.detector == "yunet" else "try faces.detector=yunet"
        reason = f"no face in {n} frames; {cure}, or raise faces.detect_size for small faces"
        return Outcome(Status.NO_FACE, reason, 0.0)
    if not found:
        reason = "a face, but less than faces.min_inside of its crop lies inside the picture"
        return Outcome(Status.TOO_SHORT, reason, 0.0)
    reason = f"a face in only {found} of {n} frames, fewer than faces.min_valid={config.min_valid:g}"
    return Outcome(Status.TOO_SHORT, reason, found / n)
