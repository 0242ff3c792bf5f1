"""Choose the face of the speaker among the tracked faces of a clip.

Where the speaker leaves and another face stays in view, nothing is cropped: one track continues another
only if it is near and of similar size, or if no shot shows two faces at the same time. Each shot is decided
by itself: after a cut, the chosen face may be that of another person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from deiii.data.tools.row_times import row_step
from deiii.pipeline.faces.mouth import Envelope, audio_correlation
from deiii.pipeline.faces.tracking import Track

OTHERS_FROM_S = 0.5  # a face that is seen for a shorter time may be a false detection


def pick_speaker(
    tracks: list[Track],
    pick: str,
    shape: tuple[float, float] | np.ndarray,
    audio: Envelope | None = None,
) -> list[Track]:
    """Return the tracks of the speaker's face, in order of time; no two of them overlap in time.

    Args:
        tracks: all tracks of the clip.
        pick: ``speaker`` (size times centrality, summed over the frames, so that a longer track counts
            more), ``largest``, ``central``, ``first`` or ``active`` (how well the mouth follows the audio; as
            ``speaker`` where there is no audio).
        shape: height and width of the frames in px.
        audio: level of the audio, for ``active``.

    >>> pick_speaker([], "speaker", (480, 640))
    []
    """
    tracks = lasting_tracks(tracks)
    crowded = {a.shot for a in tracks for b in tracks if a is not b and a.shot == b.shot and overlap(a, b)}
    chosen: list[Track] = []
    for track in sorted(tracks, key=lambda t: (-_weight(t, pick, shape, audio), t.start)):
        if any(overlap(track, c) for c in chosen):
            continue
        if track.shot in crowded and any(c.shot == track.shot for c in chosen):
            if not any(c.shot == track.shot and continues(track, c) for c in chosen):
                continue
        chosen.append(track)
    return sorted(chosen, key=lambda t: t.start)


def lasting_tracks(tracks: Iterable[Track]) -> list[Track]:
    """Return the tracks without false detections.

    A face that was detected in one frame, although the neighbouring frames were searched, is one.
    """
    tracks = list(tracks)
    lasting = {t.shot for t in tracks if t.length > 1}
    return [t for t in tracks if t.length > 1 or t.shot not in lasting]


def overlap(one: Track, other: Track) -> bool:
    """Return whether two tracks have frames in common."""
    return one.start < other.stop and other.start < one.stop


def rows_of(tracks: Iterable[Track], frame_of: np.ndarray) -> np.ndarray:
    """Return whether each row, which shows video frame ``frame_of`` int64 [n], lies in one of the tracks."""
    found = np.zeros(len(frame_of), bool)
    for track in tracks:
        found |= (frame_of >= track.start) & (frame_of < track.stop)
    return found


def others_seconds(
    tracks: Sequence[Track], chosen: Sequence[Track], times: Sequence[float], first: int = 0
) -> float:
    """Return for how long another face is visible, s; faces seen for less than `OTHERS_FROM_S` do not count.

    Args:
        tracks: all tracks of the clip.
        chosen: those of the person who is cropped.
        times: time of each video frame in s, from the frame with the number ``first`` on.
        first: number of the first frame that counts.
    """
    if not times:
        return 0.0
    step = row_step(times)
    seen = np.zeros(len(times), bool)
    for track in lasting_tracks(tracks):
        if track in chosen or step * track.present_frames < OTHERS_FROM_S:
            continue
        frames = np.arange(track.start, track.stop)[np.array(track.present, bool)] - first
        seen[frames[(frames >= 0) & (frames < len(times))]] = True
    return float(step * seen.sum())


def others_note(seconds: float, pick: str) -> str:
    """Return a line for users on other faces; empty if they are visible for less than `OTHERS_FROM_S`.

    Args:
        seconds: for how long, s.
        pick: the setting ``faces.pick``.
    """
    if seconds < OTHERS_FROM_S:
        return ""
    return (
        f"another face is visible for {seconds:.1f} s; the prediction is for the face that faces.pick={pick} "
        "chooses, again after each cut. --people all predicts for each person"
    )


def continues(one: Track, other: Track) -> bool:
    """Return whether the later track may continue the earlier one: near its end, and of similar size."""
    first, second = sorted((one, other), key=lambda t: t.start)
    before = next(f.box for f in reversed(first.seen) if f is not None)
    after = next(f.box for f in second.seen if f is not None)
    apart = np.abs(before[:2] + before[2:] / 2 - after[:2] - after[2:] / 2).max()
    return bool(0.5 < after[2] / before[2] < 2 and apart < 1.5 * max(before[2], after[2]))


def _weight(
    track: Track, pick: str, shape: tuple[float, float] | np.ndarray, audio: Envelope | None
) -> float:
    if pick == "active":
        usual = _weight(track, "speaker", shape, None)
        if audio is None:
            return usual
        times = dict(enumerate(track.times, track.start))
        follows = audio_correlation(track.mouth.states, times, audio)
        # A short track may follow the audio by chance, so long ones weigh more. The usual weight breaks ties.
        return max(0.0, follows) * track.present_frames + 1e-6 * usual
    seen = np.array([f.box for f in track.seen if f is not None])
    side = float(np.sqrt(seen[:, 2] * seen[:, 3]).mean())
    middle = seen[:, :2] + seen[:, 2:] / 2
    offset = (middle - [shape[1] / 2, shape[0] / 2]) / max(shape)
    central = float(np.exp(-4 * (offset**2).sum(axis=1)).mean())
    return {
        "speaker": side * central * track.present_frames,
        "largest": side,
        "central": central,
        "first": -float(track.start - track.dropped),
    }[pick]
