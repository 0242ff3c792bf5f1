"""The faces stage: aligned crops of the speaker's face in one clip.

Video frames are decoded, every face is tracked (`deiii.pipeline.faces.tracking`), the speaker's face is
chosen (`deiii.pipeline.faces.speaker`), its landmarks are smoothed without lag and its crops are cut
(`deiii.pipeline.faces.align`). The choice and the smooth path are known only at the end of the clip. If the
decoded frames of the clip fit into `KEEP_BYTES`, they are kept until then. Else a first pass decodes to the
size that tracking needs, and a second pass cuts the crops, so memory does not grow with the length.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.config.schema import FacesConfig
from deiii.data.tools.temporary_files import temporary_file
from deiii.pipeline.faces import align
from deiii.pipeline.faces.detectors import load_detector
from deiii.pipeline.faces.face import Detector, Face, shrink
from deiii.pipeline.faces.grid import resampled
from deiii.pipeline.faces.mouth import audio_envelope
from deiii.pipeline.faces.speaker import others_note, others_seconds, pick_speaker, rows_of
from deiii.pipeline.faces.tracking import Track, Tracker
from deiii.pipeline.media.lengths import expected_bytes
from deiii.pipeline.media.video import DecodedFrame, GpuDecodingFailed, VideoReader, read_video

__all__ = ["extract_faces", "load_detector", "resampled"]

KEEP_BYTES = 256 * 2**20  # decoded frames that are kept; a larger clip is decoded twice
SPOOL_BYTES = 64 * 2**20  # crops of a clip in memory; a larger array is a temporary file


def extract_faces(path: str | os.PathLike, config: FacesConfig, detector: Detector) -> StageResult:
    """Return aligned crops of the speaker's face in one clip.

    Args:
        path: the media file.
        config: settings.
        detector: detector from `load_detector`.

    Returns:
        Arrays with one row per frame, or one each 1/``fps`` s: ``frames`` uint8 [n,S,S,3] RGB; ``time``
        float64 [n] in s on the clock of `deiii.pipeline.media.video.read_video`; ``box`` float32 [n,4] (x,
        y, width, height) and ``landmarks`` float32 [n,5,2] (eyes, nose tip, mouth corners, left in the image
        first) in px of the upright source; ``valid`` bool [n]; ``interpolated`` bool [n]. Rows without a face
        are black, have NaN and are not valid. Gaps of at most ``max_gap`` are interpolated, valid and marked.
        The outcome is ``no_face`` if no frame shows a face, ``too_short`` if a smaller share of the rows than
        ``min_valid`` is valid, and ``ok_partial`` if some row is not valid or part of the video is lost.

    Raises:
        ClipError: there is no video to decode.

    >>> config = FacesConfig()
    >>> extract_faces("clip.mp4", config, load_detector(config)).outcome  # doctest: +SKIP
    """
    try:
        return _extract(path, config, detector)
    except GpuDecodingFailed as error:
        why = f"the processor decoded the video, because the GPU failed ({error})"
    result = _extract(path, replace(config, decoder="cpu"), detector)
    outcome = replace(result.outcome, reason="; ".join(filter(None, [result.outcome.reason, why])))
    return replace(result, outcome=outcome)


def _extract(path: str | os.PathLike, config: FacesConfig, detector: Detector) -> StageResult:
    active = config.pick == "active"
    tracked = track_faces(path, config, detector, active)
    audio = audio_envelope(path) if active else None
    tracks = pick_speaker(tracked.tracks, config.pick, tracked.small, audio)
    result = crops_of(path, tracked, tracks, config, detector)
    note = others_note(others_seconds(tracked.tracks, tracks, tracked.times), config.pick)
    return replace(result, notes=(note,)) if note and result.outcome.usable else result


@dataclass(frozen=True)
class Tracked:
    """Every face of a clip, and the clip's frames.

    Attributes:
        tracks: tracks of all faces, sorted by their first frame, in px of the tracked frames.
        times: times of the frames, s.
        rows: times of the rows that show each frame, s.
        kept: the decoded frames; ``None`` where they are too large to be kept.
        shape, small: height and width of the source and of the tracked frames, px.
        reader: reader of the video, with its notes.
    """

    tracks: list[Track]
    times: list[float]
    rows: list[list[float]]
    kept: list[DecodedFrame | np.ndarray] | None
    shape: tuple[int, int]
    small: tuple[int, int]
    reader: VideoReader


def track_faces(
    path: str | os.PathLike,
    config: FacesConfig,
    detector: Detector,
    mouths: bool,
    keep: bool = True,
    most_s: float | None = None,
    seen: Callable[[np.ndarray, list[Face]], None] | None = None,
    progress: Callable[[float], None] = lambda done_s: None,
) -> Tracked:
    """Decode a clip and track all its faces.

    Args:
        path: the media file.
        config, detector: settings, and the detector that `load_detector` returns for them.
        mouths: whether to measure the mouth of every face in every frame.
        keep: whether to keep the decoded frames where they fit into `KEEP_BYTES`.
        most_s: longest video that is read, s; by default that of `read_video`.
        seen: receives each frame uint8 [H,W,3] in which the detector ran, and the faces in it.
        progress: receives the time in s of each frame that is done.

    Raises:
        ClipError: there is no video to decode.
    """
    longest = 2 * config.detect_size  # px; the size of the detector's second search
    kept: list[DecodedFrame | np.ndarray] | None = [] if keep and expected_bytes(path) <= KEEP_BYTES else None
    reader = read_video(path, longest if kept is None else None, most_s, config.decoder)

    def detect(rgb: np.ndarray) -> list[Face]:
        faces = look(detector, rgb, config.detect_size)
        if seen is not None:
            seen(rgb, faces)
        return faces

    tracker = Tracker(detect, config.every, config.max_gap, mouths)
    times: list[float] = []
    rows: list[list[float]] = []
    held = 0  # bytes of kept frames
    shape = small_shape = (0, 0)
    for frame, frame_time, shown in resampled(reader.frames(), config.fps):
        small = frame.rgb(longest)
        shape = frame.shape
        small_shape = (small.shape[0], small.shape[1])
        tracker.push(small, frame_time)
        times.append(frame_time)
        rows.append(shown)
        if kept is not None:
            kept.append(small if shape == small_shape else frame)
            held += small.nbytes if shape == small_shape else frame.nbytes
            kept = kept if held <= 2 * KEEP_BYTES else None  # the header declared too few frames
        progress(frame_time)
    return Tracked(tracker.finish(), times, rows, kept, shape, small_shape, reader)


def crops_of(
    path: str | os.PathLike,
    tracked: Tracked,
    tracks: list[Track],
    config: FacesConfig,
    detector: Detector,
    own: bool = False,
) -> StageResult:
    """Cut the crops of one person in a clip.

    Args:
        path: the media file, which is decoded again where its frames were not kept.
        tracked: result of `track_faces`.
        tracks: tracks of the person's face; no two of them overlap in time.
        config: settings.
        detector: the one that found the faces.
        own: whether the outcome counts the frames of the tracks alone, not those of the whole clip.

    Returns:
        as `extract_faces`.
    """
    times, rows, shape, small_shape = tracked.times, tracked.rows, tracked.shape, tracked.small
    scale = np.array([small_shape[1] / shape[1], small_shape[0] / shape[0]])
    points, transforms, present, valid = geometry(tracks, config, detector, scale, shape, len(times))
    frame_of = np.repeat(np.arange(len(times)), [len(r) for r in rows])
    time = np.array([t for r in rows for t in r], np.float64)
    hole = np.abs(time - np.asarray(times)[frame_of]) > config.max_gap / 2
    row_valid = valid[frame_of] & ~hole
    counted = rows_of(tracks, frame_of) if own else np.ones(len(row_valid), bool)
    shown = row_valid[counted]
    if not shown.any() or shown.mean() < config.min_valid:
        return StageResult(no_face(shown, bool(present.any()), config))
    source: Iterable[DecodedFrame | np.ndarray]
    if tracked.kept is None:
        again = read_video(path, decoder=tracked.reader.decoder).frames()
        source = (frame for frame, _, _ in resampled(again, config.fps))
    else:
        source = tracked.kept
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
    reader = tracked.reader
    return StageResult(
        faces_outcome(reader.notes, reader.remarks, reader.share, shown, frame_of[counted]), arrays
    )


def faces_outcome(
    notes: list[str], remarks: list[str], share: float, valid: np.ndarray, frame_of: np.ndarray
) -> Outcome:
    """Return the outcome of a clip with enough valid rows; ``ok_partial`` if some rows or video is lost."""
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
    """Detect faces in an image uint8 [H,W,3], first at ``detect_size`` px; if there are none, at full size.

    Returns:
        faces in px of the image.
    """
    small = shrink(rgb, detect_size)[0]
    faces = detector(small)
    if small.shape == rgb.shape:
        return faces
    if not faces:
        return detector(rgb) if detector.second_look else []
    ratio = np.array([rgb.shape[1] / small.shape[1], rgb.shape[0] / small.shape[0]])
    return [Face(f.box * np.tile(ratio, 2), (f.landmarks + 0.5) * ratio - 0.5, f.score) for f in faces]


def _crops(
    source: Iterable[DecodedFrame | np.ndarray],
    transforms: np.ndarray,
    valid: np.ndarray,
    frame_of: np.ndarray,
    size: int,
) -> np.ndarray:
    """Cut the crops of all rows, uint8 [n,S,S,3]; rows that are not valid are black.

    More than `SPOOL_BYTES` are in a temporary file that is mapped to memory.
    """
    item = size * size * 3
    if len(valid) * item <= SPOOL_BYTES:
        memory = None
        frames = np.zeros((len(valid), size, size, 3), np.uint8)
    else:
        with temporary_file(len(valid) * item) as file:
            memory = mmap.mmap(file.fileno(), len(valid) * item)
        frames = np.frombuffer(memory, np.uint8).reshape(-1, size, size, 3)
    ends = np.searchsorted(frame_of, np.arange(frame_of[-1] + 2))
    filled = 0
    for i, (frame, start, stop) in enumerate(zip(source, ends[:-1], ends[1:], strict=False)):
        wanted = np.flatnonzero(valid[start:stop]) + start
        if len(wanted):
            frames[wanted] = cut(frame, transforms[i], size)
        if memory is not None and (stop * item - filled) > SPOOL_BYTES:
            filled = stop * item  # give the written pages back to the system
            memory.flush()
            memory.madvise(mmap.MADV_DONTNEED)
    return frames


def cut(frame: DecodedFrame | np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """Return the crop of a frame, uint8 [S,S,3].

    The transform is float64 [2,3] from `align.crop_transforms`; the size S is in px. Of a decoded frame only
    the window of the crop is converted; an array is RGB, uint8 [H,W,3].
    """
    if isinstance(frame, np.ndarray):
        return align.crop(frame, transform, size)
    window = align.window(transform, size, frame.shape)
    return align.crop(frame.part(*window), transform, size, window[:2])


def geometry(
    tracks: list[Track],
    config: FacesConfig,
    detector: Detector,
    scale: np.ndarray,
    shape: tuple[int, int],
    n: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the place of the face in each frame.

    Args:
        tracks: tracks of the speaker's face.
        config: settings.
        detector: the detector that found the face.
        scale: float64 [2], width and height of the tracked frames as a share of the source.
        shape: height and width of the source in px.
        n: number of frames.

    Returns:
        landmarks complex128 [n,5] in source px, crop transforms float64 [n,2,3], whether the face is present
        bool [n], and whether the frame gives a valid crop bool [n].
    """
    points = np.full((n, 5), np.nan + 0j)
    transforms, present, valid = np.zeros((n, 2, 3)), np.zeros(n, bool), np.zeros(n, bool)
    for track in tracks:
        path = align.landmark_path(track, detector.oriented, detector.settle_s, config.smooth)
        path = ((path.real + 0.5) / scale[0] - 0.5) + 1j * ((path.imag + 0.5) / scale[1] - 0.5)
        rows = slice(track.start, track.stop)
        points[rows] = path
        transforms[rows] = align.crop_transforms(path, config.size, config.margin, config.align)
        sized = ~np.isnan(transforms[rows]).any(axis=(1, 2))  # not where all landmarks are one point
        present[rows] = np.array(track.present, bool) & sized
        valid[rows] = _bridge_gaps(present[rows], track.times, config.max_gap) & sized
    for i in np.flatnonzero(valid):
        inside = align.share_inside(transforms[i], config.size, shape[1], shape[0])
        valid[i] = inside >= config.min_inside
    return points, transforms, present, valid


def _bridge_gaps(present: np.ndarray, times: list[float], max_gap: float) -> np.ndarray:
    """Return ``present``, bool [n], with gaps of at most ``max_gap`` s filled."""
    out = present.copy()
    for left, right in pairwise(np.flatnonzero(present)):
        if times[right] - times[left] <= max_gap:
            out[left:right] = True
    return out


def no_face(valid: np.ndarray, seen: bool, config: FacesConfig) -> Outcome:
    """Return the outcome of a clip with too few valid rows; ``seen``: whether any frame shows a face."""
    found = int(valid.sum())
    n = len(valid)
    if not seen:
        remedy = "lower faces.min_score" if config.detector == "yunet" else "try faces.detector=yunet"
        reason = f"no face in {n} frames; {remedy}, or raise faces.detect_size for small faces"
        return Outcome(Status.NO_FACE, reason, 0.0)
    if not found:
        reason = "a face was found, but less than faces.min_inside of its crop lies inside the frame"
        return Outcome(Status.TOO_SHORT, reason, 0.0)
    reason = f"a face in only {found} of {n} frames, fewer than faces.min_valid={config.min_valid:g}"
    return Outcome(Status.TOO_SHORT, reason, found / n)
