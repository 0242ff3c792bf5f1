"""Following faces between detections.

The detector looks at every k-th frame. Between two looks a face is carried by sparse optical
flow: points in its box are followed (pyramidal Lucas-Kanade, checked backwards) and a similarity
is fitted to them robustly, so a mouth or brow that moves on its own does not move the face. Where
the two ends of such an interval do not agree (a face came, went or was lost), every frame of it is
looked at. A cut ends all tracks.

Points are complex numbers x + iy here, and a similarity is p -> a p + b.

Sources: Bouguet, "Pyramidal implementation of the Lucas Kanade feature tracker", 2000;
Kalal, Mikolajczyk, Matas, "Forward-backward error", ICPR 2010.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from deiii.pipeline.faces.face import Face
from deiii.pipeline.faces.motion import Similarity, follow, moved_box
from deiii.pipeline.media.scene_cuts import is_cut, thumbnail

SAME_FACE = 0.3  # overlap (intersection over union) that makes two boxes one face


@dataclass(eq=False)
class Track:
    """One face through consecutive frames of one shot.

    Attributes:
        shot: number of the shot, counted from 0.
        start: index of its first frame.
        times: of its frames, in s.
        seen: the detection of a frame, where there is one.
        steps: the face's motion from the frame before, where flow could tell.
        present: whether the face is known to be there (detected, or carried to a detection).
        box: the last known box, [4] in px.
    """

    shot: int
    start: int
    times: list[float] = field(default_factory=list)
    seen: list[Face | None] = field(default_factory=list)
    steps: list[Similarity | None] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)
    box: np.ndarray = field(default_factory=lambda: np.zeros(4))

    @property
    def stop(self) -> int:
        """Index after its last frame."""
        return self.start + len(self.times)

    def add(self, time: float, seen: Face | None, step: Similarity | None, present: bool) -> None:
        self.times.append(time)
        self.seen.append(seen)
        self.steps.append(step)
        self.present.append(present)
        if seen is not None:
            self.box = seen.box
        elif step is not None:
            self.box = moved_box(self.box, step)

    def trim(self) -> Track:
        """Without the frames after the last one in which the face is known to be there."""
        while self.present and not self.present[-1]:
            for column in (self.times, self.seen, self.steps, self.present):
                column.pop()
        return self


@dataclass(eq=False)
class _Look:
    index: int
    time: float
    rgb: np.ndarray
    grey: np.ndarray
    faces: list[Face] | None = None


class Tracker:
    """Turns a stream of frames into tracks, holding ``every`` + 1 frames at a time.

    >>> tracker = Tracker(lambda rgb: [], every=5, max_gap=0.3)
    >>> tracker.push(np.zeros((48, 64, 3), np.uint8), 0.0)
    >>> tracker.finish()
    []
    """

    def __init__(self, detect: Callable[[np.ndarray], list[Face]], every: int, max_gap: float):
        self._detect, self._every, self._max_gap = detect, max(1, every), max_gap
        self._looks: list[_Look] = []
        self._thumb: np.ndarray | None = None
        self._count, self._shot = 0, 0
        self._open: list[Track] = []
        self._closed: list[Track] = []

    def push(self, rgb: np.ndarray, time: float) -> None:
        """Take the next frame, uint8 [H,W,3], at its time in s."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        thumb = thumbnail(grey)
        if self._thumb is not None and is_cut(self._thumb, thumb):
            self._end_shot()
        self._thumb = thumb
        self._looks.append(_Look(self._count, time, rgb, grey))
        self._count += 1
        if len(self._looks) > self._every:
            self._interval()

    def finish(self) -> list[Track]:
        """All tracks, in order of their start."""
        self._end_shot()
        return sorted(self._closed, key=lambda t: (t.start, t.stop))

    def _end_shot(self) -> None:
        if self._looks:
            self._interval()
        self._close(self._open)
        self._open, self._looks, self._shot = [], [], self._shot + 1

    def _close(self, tracks: list[Track]) -> None:
        self._closed += [t.trim() for t in tracks]

    def _faces(self, look: _Look) -> list[Face]:
        if look.faces is None:
            look.faces = self._detect(look.rgb)
        return look.faces

    def _interval(self) -> None:
        """Follow all faces from the first frame held to the last one, and keep that."""
        looks, first, last = self._looks, self._looks[0], self._looks[-1]
        if first.faces is None:  # a shot begins
            self._open += [self._new(first, face) for face in self._faces(first)]
        if len(looks) > 1:
            motions = {id(t): self._follow(t) for t in self._open if t.stop == first.index + 1}
            sure: list[Track] = []
            free = list(self._faces(last))
            for track in self._by_weight():
                path = motions.get(id(track))
                if track.present[-1] and path and path[-1] is not None:
                    face = _match(moved_box(track.box, path[-1]), free)
                    if face is not None:
                        free = [f for f in free if f is not face]
                        self._carry(track, path, face)
                        sure.append(track)
            unsure = [t for t in self._open if t not in sure]
            if free or any(t.present[-1] for t in unsure):
                self._look_closely(unsure, sure, motions)
            else:
                self._coast(unsure, motions)
        late = [t for t in self._open if last.time - _last_seen(t) > self._max_gap]
        self._close(late)
        self._open = [t for t in self._open if t not in late]
        self._looks = [last]

    def _by_weight(self) -> list[Track]:
        return sorted(self._open, key=lambda t: (-sum(t.present), t.start))

    def _new(self, look: _Look, face: Face) -> Track:
        track = Track(self._shot, look.index)
        track.add(look.time, face, None, True)
        return track

    def _follow(self, track: Track) -> list[Similarity | None]:
        return follow([look.grey for look in self._looks], track.box)

    def _carry(self, track: Track, path: list[Similarity | None], face: Face) -> None:
        """Both ends agree: the face is in every frame between."""
        for n, look in enumerate(self._looks[1:]):
            track.add(look.time, face if look is self._looks[-1] else None, _step(path, n), True)

    def _coast(self, tracks: list[Track], motions: dict[int, list[Similarity | None]]) -> None:
        for track in tracks:
            for n, look in enumerate(self._looks[1:]):
                track.add(look.time, None, _step(motions.get(id(track)), n), False)

    def _look_closely(self, unsure: list[Track], sure: list[Track], motions: dict) -> None:
        """A face came, went or was lost in this interval: detect in all of its frames."""
        begun: list[Track] = []
        for n, look in enumerate(self._looks[1:]):
            free = list(self._faces(look))
            for track in sure:  # these have their frames already
                at = look.index - track.start
                face = _match(_box_at(track, at), free)
                free = [f for f in free if f is not face]
            for track in unsure + begun:
                step = _step(motions.get(id(track)), n)
                if track in begun:
                    step = follow([self._looks[n].grey, look.grey], track.box)[-1]
                face = _match(moved_box(track.box, step) if step else track.box, free)
                track.add(look.time, face, step, face is not None)
                free = [f for f in free if f is not face]
            begun += [self._new(look, face) for face in free]
        self._open += begun


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(one[:2], other[:2])
    high = np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / (one[2] * one[3] + other[2] * other[3] - shared))


def _match(box: np.ndarray, faces: list[Face]) -> Face | None:
    best = max(faces, key=lambda f: overlap(box, f.box), default=None)
    return best if best is not None and overlap(box, best.box) >= SAME_FACE else None


def _box_at(track: Track, at: int) -> np.ndarray:
    """The track's box in one of its frames, carried back from its last one."""
    box = track.box
    for step in reversed(track.steps[at + 1 :]):
        if step is not None:
            a, b = step
            box = moved_box(box, (1 / a, -b / a))
    return box


def _last_seen(track: Track) -> float:
    return next(t for t, p in zip(reversed(track.times), reversed(track.present), strict=True) if p)


def _step(path: list[Similarity | None] | None, n: int) -> Similarity | None:
    """Motion from picture n to picture n + 1 out of motions from picture 0."""
    if not path or path[n] is None:
        return None
    a, b = path[n]
    if n == 0:
        return a, b
    before = path[n - 1]
    assert before is not None
    ratio = a / before[0]
    return ratio, b - ratio * before[1]
