"""Track faces between detections.

The detector runs on every k-th video frame. Between two such frames, sparse optical flow carries a face
from one to the next (`deiii.pipeline.faces.motion`). Where the two ends of such an interval do not agree,
because a face appears, leaves or is lost, the detector runs on every frame of the interval. A scene cut
ends all tracks.

A similarity is a pair (a, b) of complex numbers that maps a point p = x + iy to a p + b.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import cv2
import numpy as np

from deiii.pipeline.faces.face import Face
from deiii.pipeline.faces.motion import Similarity, follow, moved_box
from deiii.pipeline.faces.mouth import Mouth, mouth_places
from deiii.pipeline.media.frame import is_cut, thumbnail

Motion = list[Similarity | None]  # motion from the first frame of an interval to each later frame
SAME_FACE = 0.3  # boxes with at least this intersection over union belong to one face


@dataclass(eq=False)
class Track:
    """One face in consecutive video frames of one shot.

    Attributes:
        shot: number of the shot, counted from 0.
        start: index of the first frame.
        times: time of each frame in s.
        seen: the detection in each frame, ``None`` where there is none.
        steps: motion of the face from the frame before, ``None`` where it is unknown.
        present: whether the face is in the frame for certain: detected, or carried to a detection.
        box: the last known box, float64 [4], px.
        mouth: measures of the mouth; empty if the mouth is not measured.
        dropped, dropped_present: number of frames that `drop` removed, and in how many the face was present.
    """

    shot: int
    start: int
    times: list[float] = field(default_factory=list)
    seen: list[Face | None] = field(default_factory=list)
    steps: list[Similarity | None] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)
    box: np.ndarray = field(default_factory=lambda: np.zeros(4))
    dropped: int = 0
    dropped_present: int = 0
    mouth: Mouth = field(default_factory=Mouth, repr=False)

    @property
    def length(self) -> int:
        """Number of frames, those that were removed included."""
        return self.dropped + len(self.times)

    @property
    def present_frames(self) -> int:
        """Number of frames in which the face is present, those that were removed included."""
        return self.dropped_present + sum(self.present)

    @property
    def stop(self) -> int:
        """Index of the frame after the last one."""
        return self.start + len(self.times)

    def add(self, time: float, seen: Face | None, step: Similarity | None, present: bool) -> None:
        """Append a frame; see the attributes."""
        self.times.append(time)
        self.seen.append(seen)
        self.steps.append(step)
        self.present.append(present)
        if seen is not None:
            self.box = seen.box
        elif step is not None:
            self.box = moved_box(self.box, step)

    def trim(self) -> Track:
        """Remove the frames after the last one in which the face is present; returns the track itself."""
        while self.present and not self.present[-1]:
            self.times.pop()
            self.seen.pop()
            self.steps.pop()
            self.present.pop()
        return self

    def drop(self, before: int) -> None:
        """Remove the frames before an index; the last detection and what follows stay."""
        last = next((i for i in reversed(range(len(self.seen))) if self.seen[i] is not None), 0)
        n = max(0, min(before - self.start, last))
        self.dropped += n
        self.dropped_present += sum(self.present[:n])
        self.start += n
        for values in (self.times, self.seen, self.steps, self.present):
            del values[:n]
        self.mouth.forget(self.start)

    def part(self, first: int, stop: int, shift: int = 0) -> Track:
        """Return a copy of the frames ``first`` to ``stop`` - 1, with ``shift`` added to their indices."""
        rows = slice(max(0, first - self.start), max(0, stop - self.start))
        start = max(first, self.start) + shift
        lists = (self.times[rows], self.seen[rows], self.steps[rows], self.present[rows])
        return Track(self.shot, start, *lists, self.box)


@dataclass(eq=False)
class _Frame:
    """A video frame of the current interval; ``faces`` is ``None`` until the detector has run on it."""

    index: int
    time: float
    rgb: np.ndarray
    grey: np.ndarray
    faces: list[Face] | None = None


class Tracker:
    """Turns a stream of video frames into tracks; holds ``every`` + 1 frames at a time.

    Args:
        detect: returns the faces in a frame uint8 [H,W,3].
        every: the detector runs on every ``every``-th frame.
        max_gap: a track ends when its face has not been present for more than this, in s.
        mouths: whether to measure the mouth of every face in every frame.

    >>> tracker = Tracker(lambda rgb: [], every=5, max_gap=0.3)
    >>> tracker.push(np.zeros((48, 64, 3), np.uint8), 0.0)
    >>> tracker.finish()
    []
    """

    def __init__(
        self,
        detect: Callable[[np.ndarray], list[Face]],
        every: int,
        max_gap: float,
        mouths: bool = False,
    ):
        self._mouths = mouths
        self._detect = detect
        self._every = max(1, every)
        self._max_gap = max_gap
        self._frames: list[_Frame] = []  # frames of the current interval
        self._thumbnail: np.ndarray | None = None  # thumbnail of the last frame
        self._count = 0
        self._shot = 0
        self._open: list[Track] = []
        self._closed: list[Track] = []

    def push(self, rgb: np.ndarray, time: float) -> None:
        """Add the next frame, uint8 [H,W,3], with its time in s."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        small = thumbnail(grey)
        if self._thumbnail is not None and is_cut(self._thumbnail, small):
            self._end_shot()
        self._thumbnail = small
        self._frames.append(_Frame(self._count, time, rgb, grey))
        self._count += 1
        if len(self._frames) > self._every:
            self._end_interval()

    @property
    def settled(self) -> int:
        """Number of frames that have been tracked; those of the interval in progress are not."""
        if not self._frames:
            return self._count
        return self._frames[0].index + (self._frames[0].faces is not None)

    def tracks(self) -> list[Track]:
        """Return the tracks up to the last settled frame, sorted by first frame; open tracks grow later."""
        return sorted(self._closed + self._open, key=lambda t: (t.start, t.stop))

    def forget(self, before: int, keep: Collection[Track] = ()) -> None:
        """Free the data on the frames before an index.

        Args:
            before: index of the first frame that is still needed.
            keep: closed tracks whose last detection is also kept.
        """
        self._closed = [t for t in self._closed if t.stop > before or t in keep]
        for track in self._closed + self._open:
            track.drop(before)

    def finish(self) -> list[Track]:
        """End the video; returns all tracks, sorted by their first frame."""
        self._end_shot()
        return sorted(self._closed, key=lambda t: (t.start, t.stop))

    def _end_shot(self) -> None:
        if self._frames:
            self._end_interval()
        self._close(self._open)
        self._open = []
        self._frames = []
        self._shot += 1

    def _close(self, tracks: list[Track]) -> None:
        self._closed += [t.trim() for t in tracks]

    def _faces(self, frame: _Frame) -> list[Face]:
        if frame.faces is None:
            frame.faces = [face for face in self._detect(frame.rgb) if face.is_sized]
        return frame.faces

    def _end_interval(self) -> None:
        """Track all faces from the first frame of the interval to its last one; the next begins there."""
        first = self._frames[0]
        last = self._frames[-1]
        if first.faces is None:  # a shot begins
            self._open += [self._new_track(first, face) for face in self._faces(first)]
        if len(self._frames) > 1:
            self._track_interval(first, last)
            if self._mouths:
                self._measure_mouths()
        late = [t for t in self._open if last.time - _last_present(t) > self._max_gap]
        self._close(late)
        self._open = [t for t in self._open if t not in late]
        self._frames = [last]

    def _track_interval(self, first: _Frame, last: _Frame) -> None:
        """Extend the open tracks by the interval."""
        motions = {id(t): self._motion(t) for t in self._open if t.stop == first.index + 1}
        sure: list[Track] = []
        free = list(self._faces(last))
        for track in sorted(self._open, key=lambda t: (-t.present_frames, t.start)):
            path = motions.get(id(track))
            if track.present[-1] and path and path[-1] is not None:
                face = _match(moved_box(track.box, path[-1]), free)
                if face is not None:
                    free = [f for f in free if f is not face]
                    self._add_carried(track, path, face)
                    sure.append(track)
        unsure = [t for t in self._open if t not in sure]
        if free or any(t.present[-1] for t in unsure):
            self._detect_in_all_frames(unsure, sure, motions)
        else:
            self._add_absent(unsure, motions)

    def _measure_mouths(self) -> None:
        """Measure the mouths in the frames of the interval, in which all open tracks have their places.

        All places of a mouth in an interval come from one detection and the measured motion, so that the
        jitter of the detector does not look like a motion of the mouth.
        """
        first = self._frames[0].index
        for track in self._open:
            last = max(i for i, face in enumerate(track.seen) if face is not None)
            face, begin = track.seen[last], max(0, first - track.start)
            if face is None or last <= begin:
                continue
            places = mouth_places(face.landmarks, track.steps[begin + 1 : last + 1])
            for at, place in enumerate(reversed(places), last + 1 - len(places)):
                if track.present[at]:
                    index = track.start + at
                    track.mouth.measure(index, self._frames[index - first].grey, place)

    def _new_track(self, frame: _Frame, face: Face) -> Track:
        track = Track(self._shot, frame.index)
        track.add(frame.time, face, None, True)
        return track

    def _motion(self, track: Track) -> list[Similarity | None]:
        """Return the motion of a track's face from the first frame of the interval to each later one."""
        return follow([frame.grey for frame in self._frames], track.box)

    def _add_carried(self, track: Track, path: Motion, face: Face) -> None:
        """Extend a track by the interval; the face was detected at both ends, so it is present in between."""
        for n, frame in enumerate(self._frames[1:]):
            track.add(frame.time, face if frame is self._frames[-1] else None, _step(path, n), True)

    def _add_absent(self, tracks: list[Track], motions: dict[int, Motion]) -> None:
        """Extend tracks whose face was absent before and is not detected at the end of the interval."""
        for track in tracks:
            for n, frame in enumerate(self._frames[1:]):
                track.add(frame.time, None, _step(motions.get(id(track)), n), False)

    def _detect_in_all_frames(
        self, unsure: list[Track], sure: list[Track], motions: dict[int, Motion]
    ) -> None:
        """Run the detector on every frame, because a face appeared, left or was lost in this interval."""
        new: list[Track] = []
        for n, frame in enumerate(self._frames[1:]):
            free = list(self._faces(frame))
            for track in sure:  # they have the frames of this interval already
                face = _match(_box_at(track, frame.index - track.start), free)
                free = [f for f in free if f is not face]
            for track in unsure + new:
                step = _step(motions.get(id(track)), n)
                if track in new:
                    step = follow([self._frames[n].grey, frame.grey], track.box)[-1]
                face = _match(moved_box(track.box, step) if step else track.box, free)
                track.add(frame.time, face, step, face is not None)
                free = [f for f in free if f is not face]
            new += [self._new_track(frame, face) for face in free]
        self._open += new


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two boxes, [4] each.

    >>> overlap(np.array([0.0, 0.0, 2.0, 2.0]), np.array([1.0, 0.0, 2.0, 2.0]))
    0.3333333333333333
    """
    low = np.maximum(one[:2], other[:2])
    high = np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / (one[2] * one[3] + other[2] * other[3] - shared))


def _match(box: np.ndarray, faces: list[Face]) -> Face | None:
    """Return the face that overlaps a box most, if by at least `SAME_FACE`."""
    best = max(faces, key=lambda f: overlap(box, f.box), default=None)
    return best if best is not None and overlap(box, best.box) >= SAME_FACE else None


def _box_at(track: Track, at: int) -> np.ndarray:
    """Return the box of a track in its frame number ``at``, carried back from its last frame."""
    box = track.box
    for step in reversed(track.steps[at + 1 :]):
        if step is not None:
            a, b = step
            box = moved_box(box, (1 / a, -b / a))
    return box


def _last_present(track: Track) -> float:
    """Return the time in s of the last frame in which the face is present."""
    return next(t for t, p in zip(reversed(track.times), reversed(track.present), strict=True) if p)


def _step(path: list[Similarity | None] | None, n: int) -> Similarity | None:
    """Return the motion from frame n to frame n + 1 of an interval, from motions that start at frame 0."""
    motion = path[n] if path else None
    if path is None or motion is None:
        return None
    a, b = motion
    if n == 0:
        return a, b
    before = path[n - 1]
    if before is None:
        raise ValueError(f"the motion is known to frame {n + 1} but not to frame {n}")
    ratio = a / before[0]
    return ratio, b - ratio * before[1]
