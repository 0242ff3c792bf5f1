"""Every person in a clip: the tracks of each face, with a number.

Within a shot a track continues another one by the rule of `deiii.pipeline.faces.speaker`. A face that comes
back later, or after a cut, is the same person if it looks alike: the mean image of its detections is nearer
to that of the person than `ALIKE`. The distance is the root mean square difference in CIELAB of 8 x 8 fields
plus 40 times one minus the cosine of HOG descriptors (Dalal and Triggs, CVPR 2005). The
threshold was chosen on real clips of few people and was not checked on others. A person who turns away or
whose light changes may get a second number.

>>> for person in find_people("talk.mp4", config, detector).people:   # doctest: +SKIP
...     print(person.number, person.stretches())
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from deiii.data.config.schema import FacesConfig
from deiii.data.tools.row_times import row_step
from deiii.pipeline.faces.face import Detector, Face
from deiii.pipeline.faces.mouth import MouthState, audio_correlation, audio_envelope
from deiii.pipeline.faces.speaker import continues, lasting_tracks, overlap, pick_speaker
from deiii.pipeline.faces.stage import Tracked, track_faces
from deiii.pipeline.faces.tracking import Track

ALIKE = 12.5  # two mean images with this distance or more show different people
SHORTEST_S = 0.5  # a face that is seen for a shorter time is not a person, except in clips shorter than 1 s
PAUSE_S = 0.5  # shorter absences do not divide the time for which a person is visible
SIDE = 32  # px of the images that are compared
_HOG = cv2.HOGDescriptor((SIDE, SIDE), (16, 16), (8, 8), (8, 8), 9)


@dataclass(eq=False)
class FacePerson:
    """One person of a clip.

    Attributes:
        number: 1 for the person who appears first; of several, for the one further left.
        tracks: tracks of the face, in order of time.
        follows: how well the mouth follows the audio, -1 to 1; ``None`` where there is no audio.
        chosen: whether the faces stage crops this person.
    """

    number: int
    tracks: list[Track]
    follows: float | None = None
    chosen: bool = False

    def stretches(self) -> list[tuple[float, float]]:
        """Return begin and end in s of the times in which the person is visible; ignores short absences."""
        found: list[tuple[float, float]] = []
        for track in self.tracks:
            begin, end = track.times[0], track.times[-1] + row_step(track.times)
            if found and begin - found[-1][1] < PAUSE_S:
                found[-1] = (found[-1][0], end)
            else:
                found.append((begin, end))
        return found

    def part_of(self, seconds: float) -> list[tuple[float, float]] | None:
        """Return the stretches; ``None`` if the person is visible throughout the recording."""
        found = self.stretches()
        all_through = len(found) == 1 and found[0][0] < PAUSE_S and seconds - found[0][1] < PAUSE_S
        return None if all_through else found


@dataclass(frozen=True)
class People:
    """The people of a clip, and what was tracked."""

    people: list[FacePerson]
    tracked: Tracked


def find_people(
    path: str | os.PathLike,
    config: FacesConfig,
    detector: Detector,
    keep: bool = True,
    most_s: float | None = None,
    progress: Callable[[float], None] = lambda done_s: None,
) -> People:
    """Track all faces of a clip and join the tracks of each person.

    Args:
        path: the media file.
        config: settings; ``pick`` decides only who is marked as chosen.
        detector: detector from `deiii.pipeline.faces.detectors.load_detector`.
        keep, most_s, progress: arguments of `deiii.pipeline.faces.stage.track_faces`.

    Returns:
        the people in the order of their numbers; none where no face is seen.

    Raises:
        ClipError: there is no video to decode.
    """
    config = replace(config, decoder="cpu")  # a video that a GPU fails to decode would be searched twice
    images = _Images()
    audio = audio_envelope(path)
    tracked = track_faces(
        path, config, detector, audio is not None, keep, most_s, seen=images.add, progress=progress
    )
    people = join_tracks(tracked.tracks, images)
    step = row_step(tracked.times)
    least = min(SHORTEST_S, (tracked.times[-1] - tracked.times[0] + step) / 2) if tracked.times else 0.0
    people = [p for p in people if step * sum(t.present_frames for t in p.tracks) >= least]
    people.sort(key=lambda p: (p.tracks[0].start, _left(p.tracks[0])))
    shown = pick_speaker(tracked.tracks, config.pick, tracked.small, audio)
    frames = [_frames_of(person.tracks, shown) for person in people]
    for i, person in enumerate(people):
        person.number = i + 1
        person.chosen = frames[i] > 0 and i == frames.index(max(frames))  # of equals, the first alone
        if audio is not None:
            states: dict[int, MouthState] = {}
            times: dict[int, float] = {}
            for track in person.tracks:
                states |= track.mouth.states
                times |= dict(enumerate(track.times, track.start))
            person.follows = audio_correlation(states, times, audio)
    return People(people, tracked)


class _Images:
    """A small image of each detected face, by the face."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Face, np.ndarray]] = {}  # the face is kept, so that its id stays its own

    def add(self, rgb: np.ndarray, faces: Sequence[Face]) -> None:
        """Cut the faces of a frame uint8 [H,W,3]."""
        for face in faces:
            x, y, width, height = face.box
            move = np.array([[width / SIDE, 0, x], [0, height / SIDE, y]])
            image = cv2.warpAffine(
                rgb, move, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            self._found[id(face)] = face, image

    def look(self, track: Track) -> _Look:
        """Return the sum of the images of a track's detections."""
        faces = [face for face in track.seen if face is not None]
        images = [self._found[id(face)][1] for face in faces if id(face) in self._found]
        return _Look(np.array(images).reshape(-1, SIDE, SIDE, 3).sum(axis=0, dtype=np.int64), len(images))


@dataclass(frozen=True)
class _Look:
    """The sum int64 [32,32,3] of images of a face, and their number."""

    total: np.ndarray
    count: int

    def __add__(self, other: _Look) -> _Look:
        return _Look(self.total + other.total, self.count + other.count)

    def mean(self) -> np.ndarray | None:
        """Return the mean image, float32 [32,32,3]; ``None`` without any."""
        return (self.total / self.count).astype(np.float32) if self.count else None


def join_tracks(tracks: Sequence[Track], images: _Images) -> list[FacePerson]:
    """Join the tracks of each person; the people are not numbered yet.

    Tracks that begin in the same frame are compared with all people at once, the nearest pair first, so that
    their order does not matter.

    Args:
        tracks: tracks of the whole clip.
        images: images of the detections.
    """
    people: list[FacePerson] = []
    looks: list[_Look] = []  # of each person
    waiting = sorted(lasting_tracks(tracks), key=lambda t: t.start)
    while waiting:
        together = [t for t in waiting if t.start == waiting[0].start]
        waiting = [t for t in waiting if t.start != together[0].start]
        seen = [images.look(track) for track in together]
        pairs = [
            (away, k, n)
            for k, track in enumerate(together)
            for n, person in enumerate(people)
            if (away := _distance(track, person, seen[k], looks[n])) < ALIKE
        ]
        placed: set[int] = set()
        for _, k, n in sorted(pairs):
            if k not in placed and not any(overlap(together[k], t) for t in people[n].tracks):
                people[n].tracks.append(together[k])
                looks[n] += seen[k]
                placed.add(k)
        new = [k for k in range(len(together)) if k not in placed]
        people += [FacePerson(0, [together[k]]) for k in new]
        looks += [seen[k] for k in new]
    return people


def _distance(track: Track, person: FacePerson, seen: _Look, look: _Look) -> float:
    """Return how much a track looks unlike a person; 0 where it continues one of the person's tracks."""
    if any(overlap(track, t) for t in person.tracks):
        return float("inf")
    last = person.tracks[-1]
    if last.shot == track.shot and continues(track, last):
        return 0.0
    one, other = seen.mean(), look.mean()
    return float("inf") if one is None or other is None else unlike(one, other)


def unlike(one: np.ndarray, other: np.ndarray) -> float:
    """Return the distance of two mean images of faces, float32 [32,32,3], 0 to 255; 0 for equal ones."""
    lab, gradients = [], []
    for image in (one, other):
        colour = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        lab.append(cv2.resize(colour, (8, 8), interpolation=cv2.INTER_AREA))
        grey = cv2.cvtColor(image.round().astype(np.uint8), cv2.COLOR_RGB2GRAY)
        found = np.asarray(_HOG.compute(grey), np.float64).ravel()
        gradients.append(found / max(1e-9, float(np.linalg.norm(found))))
    away = float(np.sqrt(np.square(lab[0] - lab[1]).sum(axis=-1).mean()))
    return away + 40 * max(0.0, 1 - float(gradients[0] @ gradients[1]))


def _left(track: Track) -> float:
    """Return the left edge of the first detection, px."""
    return float(next(f.box[0] for f in track.seen if f is not None))


def _frames_of(tracks: Sequence[Track], others: Sequence[Track]) -> int:
    """Return the number of frames in which the face is present, over the tracks that are among others."""
    return sum(t.present_frames for t in tracks if t in others)
