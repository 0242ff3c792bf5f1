"""The faces stage: one clip's aligned face crops.

Frames are decoded, every face is tracked (`pipeline.tracking`), the speaker's is chosen, its
landmarks are smoothed without lag and its crops cut (`pipeline.align`). Short clips are decoded
once; a long one is decoded a second time for its crops, so frames are never all in memory.

Where the speaker leaves and another face is in view, nothing is cropped: a track continues
another only where it lies near it and has its size, or where no shot ever shows two faces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from data.outcomes import Outcome, Status
from data.schema import FacesConfig
from pipeline import align
from pipeline.detectors import Detector, Face, load_detector, shrink, weights_digest
from pipeline.media import read_video
from pipeline.result import StageResult
from pipeline.tracking import Track, Tracker

__all__ = ["FIELDS", "VERSION", "extract_faces", "load_detector", "weights_digest"]

VERSION = 1
FIELDS = {  # dtype and the shape after the frame axis; S is faces.size
    "frames": ("uint8", ("S", "S", 3)),
    "time": ("float64", ()),
    "box": ("float32", (4,)),
    "landmarks": ("float32", (5, 2)),
    "valid": ("bool", ()),
}
KEEP_BYTES = 256 * 2**20  # decoded frames kept for the crops; above it the clip is decoded again
LEAST_INSIDE = 0.6  # a crop that shows less of the frame than this is not valid


def extract_faces(path: str | os.PathLike, config: FacesConfig, detector: Detector) -> StageResult:
    """Aligned crops of the speaker's face in one clip.

    Args:
        path: the media file.
        config: settings.
        detector: from `load_detector`.

    Returns:
        Arrays, one row a frame: ``frames`` uint8 [n,S,S,3] RGB; ``time`` float64 [n] in s on the
        clock of `pipeline.media.read_video`; ``box`` float32 [n,4] (x, y, w, h) and ``landmarks``
        float32 [n,5,2] (eyes, nose, mouth corners, the picture's left first) in px of the upright
        source; ``valid`` bool [n]. Rows without a face hold black and NaN and are not valid; gaps
        up to ``max_gap`` are interpolated and valid. ``no_face`` where no frame, or less than
        ``min_valid`` of them, shows one.

    Raises:
        data.outcomes.ClipError: where there is no video to decode.

    >>> config = FacesConfig()
    >>> extract_faces("clip.mp4", config, load_detector(config)).outcome  # doctest: +SKIP
    """
    reader = read_video(path)
    tracker = Tracker(lambda rgb: look(detector, rgb, config.detect_size), config.every, config.max_gap)
    kept: list[np.ndarray] | None = []
    times: list[float] = []
    held, shape, scale = 0, (0, 0), np.ones(2)
    for rgb, time in thinned(reader, config.fps):
        shape, held = rgb.shape[:2], held + rgb.nbytes
        small = shrink(rgb, 2 * config.detect_size)[0]  # as large as a second look may use
        scale = np.array([small.shape[1] / shape[1], small.shape[0] / shape[0]])
        tracker.push(small, time)
        times.append(time)
        if kept is not None and held <= KEEP_BYTES:
            kept.append(rgb)
        else:
            kept = None
    notes, share = list(reader.notes), reader.share
    tracks = choose(tracker.finish(), config.pick, np.asarray(shape) * scale[::-1])
    points, transforms, valid = _geometry(tracks, config, detector, scale, shape, len(times))
    if not valid.any() or valid.mean() < config.min_valid:
        return StageResult(_no_face(valid, config))
    source = zip(kept, times, strict=True) if kept is not None else thinned(read_video(path), config.fps)
    frames = np.zeros((len(times), config.size, config.size, 3), np.uint8)
    for i, (rgb, _) in enumerate(source):
        if valid[i]:
            frames[i] = align.crop(rgb, transforms[i], config.size)
    points[~valid] = np.nan
    arrays = {
        "frames": frames,
        "time": np.asarray(times, np.float64),
        "box": align.boxes(points).astype(np.float32),
        "landmarks": np.stack([points.real, points.imag], axis=-1).astype(np.float32),
        "valid": valid,
    }
    if not valid.all():
        notes.insert(0, f"no face in {(~valid).sum()} of {len(valid)} frames")
    if notes:
        return StageResult(Outcome(Status.OK_PARTIAL, "; ".join(notes), float(valid.mean() * share)), arrays)
    return StageResult(Outcome(Status.OK), arrays)


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


def thinned(
    frames: Iterable[tuple[np.ndarray, float]], fps: float | None
) -> Iterator[tuple[np.ndarray, float]]:
    """Frames nearest to a regular grid of ``fps``, with their own times; none is blended or repeated.

    A grid finer than the video keeps every frame.

    >>> [t for _, t in thinned(((None, n / 4) for n in range(5)), fps=2)]
    [0.0, 0.5, 1.0]
    """
    wanted, before = None, None
    for rgb, time in frames:
        if fps is None:
            yield rgb, time
            continue
        half = (time - before) / 2 if before is not None else 0.0
        before = time
        if wanted is None:
            wanted = time
        if time >= wanted - half - 1e-9:
            yield rgb, time
            while wanted <= time + half + 1e-9:
                wanted += 1 / fps


def choose(tracks: list[Track], pick: str, shape: tuple[float, float] | np.ndarray) -> list[Track]:
    """The tracks that show the clip's face, none overlapping another in time, in order.

    Args:
        tracks: all that were followed.
        pick: ``speaker`` (size times centrality, summed over the frames, so that lasting counts),
            ``largest``, ``central`` or ``first``.
        shape: height and width of the pictures in px.
    """
    # Found once although its neighbours were searched: a false alarm.
    lasting = {t.shot for t in tracks if len(t.times) > 1}
    tracks = [t for t in tracks if len(t.times) > 1 or t.shot not in lasting]
    crowded = {a.shot for a in tracks for b in tracks if a is not b and a.shot == b.shot and _together(a, b)}
    chosen: list[Track] = []
    for track in sorted(tracks, key=lambda t: (-_weight(t, pick, shape), t.start)):
        if any(_together(track, c) for c in chosen):
            continue
        if track.shot in crowded and any(c.shot == track.shot for c in chosen):
            if not any(c.shot == track.shot and _alike(track, c) for c in chosen):
                continue
        chosen.append(track)
    return sorted(chosen, key=lambda t: t.start)


def _together(one: Track, other: Track) -> bool:
    return one.start < other.stop and other.start < one.stop


def _alike(one: Track, other: Track) -> bool:
    """Whether one track may continue the other: near where it ended and of its size."""
    first, second = sorted((one, other), key=lambda t: t.start)
    before = next(f.box for f in reversed(first.seen) if f is not None)
    after = next(f.box for f in second.seen if f is not None)
    apart = np.abs(before[:2] + before[2:] / 2 - after[:2] - after[2:] / 2).max()
    return bool(0.5 < after[2] / before[2] < 2 and apart < 1.5 * max(before[2], after[2]))


def _weight(track: Track, pick: str, shape: tuple[float, float] | np.ndarray) -> float:
    seen = np.array([f.box for f in track.seen if f is not None])
    side = float(np.sqrt(seen[:, 2] * seen[:, 3]).mean())
    middle = seen[:, :2] + seen[:, 2:] / 2
    offset = (middle - [shape[1] / 2, shape[0] / 2]) / max(shape)
    central = float(np.exp(-4 * (offset**2).sum(axis=1)).mean())
    return {
        "speaker": side * central * sum(track.present),
        "largest": side,
        "central": central,
        "first": -float(track.start),
    }[pick]


def _geometry(
    tracks: list[Track],
    config: FacesConfig,
    detector: Detector,
    scale: np.ndarray,
    shape: tuple[int, int],
    n: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks (complex, source px), crop transforms and validity of every frame of the clip."""
    points = np.full((n, 5), np.nan + 0j)
    transforms, valid = np.zeros((n, 2, 3)), np.zeros(n, bool)
    for track in tracks:
        path = align.landmark_path(track, detector.oriented, detector.settle_s, config.smooth)
        path = ((path.real + 0.5) / scale[0] - 0.5) + 1j * ((path.imag + 0.5) / scale[1] - 0.5)
        rows = slice(track.start, track.stop)
        points[rows] = path
        transforms[rows] = align.crop_transforms(path, config.size, config.margin, config.align)
        valid[rows] = _bridge_gaps(np.asarray(track.present), track.times, config.max_gap)
    for i in np.flatnonzero(valid):
        inside = align.share_inside(transforms[i], config.size, shape[1], shape[0])
        valid[i] = inside >= LEAST_INSIDE
    return points, transforms, valid


def _bridge_gaps(present: np.ndarray, times: list[float], max_gap: float) -> np.ndarray:
    """Absences of at most ``max_gap`` s between two appearances filled in."""
    out = present.copy()
    for left, right in pairwise(np.flatnonzero(present)):
        if times[right] - times[left] <= max_gap:
            out[left:right] = True
    return out


def _no_face(valid: np.ndarray, config: FacesConfig) -> Outcome:
    found = int(valid.sum())
    cure = "lower faces.min_score" if config.detector == "yunet" else "try faces.detector=yunet"
    if not found:
        return Outcome(
            Status.NO_FACE,
            f"no face in {len(valid)} frames; {cure}, or raise faces.detect_size for small faces",
            0.0,
        )
    return Outcome(
        Status.NO_FACE,
        f"a face in only {found} of {len(valid)} frames, fewer than faces.min_valid={config.min_valid:g}",
        found / len(valid),
    )
