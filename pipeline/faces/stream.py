"""Aligned crops of the speaker's face, computed while video frames arrive.

`deiii.pipeline.faces.stage.extract_faces` chooses the speaker and smooths the path of the face with the
whole clip at hand. Here a frame is cut as soon as the frames up to ``ahead_s`` later are known. The path is a
weighted mean over a bounded time, so with `settle_s` ahead the crops are those of the whole clip, as long as
the choice of the speaker is: it uses what each track showed in the last seconds, and how long it has lasted.

Memory holds the decoded frames that wait, or the caller decodes the video a second time for the crops.

>>> stream = FaceStream(config, detector)                                  # doctest: +SKIP
>>> for rows in stream.run(read_video("long.mp4").frames()):               # doctest: +SKIP
...     print(rows["time"], rows["frames"].shape)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from deiii.data.config.schema import FacesConfig
from deiii.pipeline.faces import align
from deiii.pipeline.faces.face import Detector
from deiii.pipeline.faces.mouth import Envelope
from deiii.pipeline.faces.speaker import others_seconds, pick_speaker
from deiii.pipeline.faces.stage import cut, geometry, look, resampled
from deiii.pipeline.faces.tracking import Track, Tracker
from deiii.pipeline.media.video import DecodedFrame

BLOCK_S = 4.0  # frames are cut in blocks of this length, because each block smooths what lies around it again
SIGMAS = 4.0  # `align.smooth` ends at so many time constants, `align.local_line` earlier
KEPT_TRACKS = 8  # number of the speaker's last tracks that are kept, because a later track may continue them

Rows = dict[str, np.ndarray]
Frames = Iterable[tuple[DecodedFrame, float]]


def settle_s(config: FacesConfig, detector: Detector) -> float:
    """Return the time in s from a frame to the last detection on which its crop depends."""
    times = [detector.settle_s] + ([] if detector.oriented else [align.ROLL_SETTLES_S])
    return SIGMAS * max(times) + SIGMAS * config.smooth + config.max_gap + 0.1


class FaceStream:
    """Turns video frames into rows of the faces stage.

    Args:
        config: settings; ``align=static`` needs the whole clip and takes one box for each block here.
        detector: detector from `deiii.pipeline.faces.detectors.load_detector`.
        ahead_s: how much later video must be known before a frame is cut; by default as much as makes the
            crops those of the whole clip. 0 cuts at once, from smoothing of the past alone.
        behind_s: how much earlier video counts; by default as much as counts in the whole clip.
        block_s: length of the blocks in s.
        audio: level of the audio, for ``pick=active``.
        tracks: tracks of the person to crop, where they are known already; nothing is tracked then.

    Attributes:
        seen: whether any frame showed a face.
        scale: width and height of the tracked frames as a share of the source, float64 [2].
        shape: height and width of the source in px.
        others_s: for how long other faces were visible in the frames that are cut, s.
    """

    def __init__(
        self,
        config: FacesConfig,
        detector: Detector,
        ahead_s: float | None = None,
        behind_s: float | None = None,
        block_s: float = BLOCK_S,
        audio: Envelope | None = None,
        tracks: list[Track] | None = None,
    ):
        self.audio = audio
        self._known = tracks
        self.config, self.detector = config, detector
        whole = settle_s(config, detector)
        self.ahead_s = whole if ahead_s is None else ahead_s
        self.behind_s = whole if behind_s is None else behind_s
        self.block_s = block_s
        self.seen = False
        self.others_s = 0.0
        self.scale = np.ones(2)
        self.shape = self._small = (0, 0)
        self.chosen: list[Track] = []
        self.tracker = Tracker(
            lambda rgb: look(detector, rgb, config.detect_size),
            config.every,
            config.max_gap,
            mouths=config.pick == "active" and audio is not None,
        )
        self._times: list[float] = []  # times of the frames from number `_base` on
        self._shown: deque[list[float]] = deque()  # times of the rows of each frame that waits
        self._frames: deque[DecodedFrame | np.ndarray] = deque()  # those that wait
        self._base = self._next = 0

    def run(self, frames: Frames, again: Frames | None = None) -> Iterator[Rows]:
        """Yield the rows of blocks of frames, in order.

        Args:
            frames: frames of the video, with their times in s.
            again: the same frames from a second decoder, for crops; without them, frames that wait are kept.

        Yields:
            the fields of the faces stage (``frames``, ``time``, ``box``, ``landmarks``, ``valid``,
            ``interpolated``), and ``frame``, int64 [n], the number of the video frame that each row shows.
        """
        source = None if again is None else (f for f, _, _ in resampled(again, self.config.fps))
        for frame, time, shown in resampled(frames, self.config.fps):
            rows = self.push(frame, time, shown, source)
            if rows is not None:
                yield rows
        rows = self.finish(source)
        if rows is not None:
            yield rows

    def push(
        self,
        frame: DecodedFrame,
        time: float,
        shown: list[float],
        source: Iterator[DecodedFrame | np.ndarray] | None = None,
    ) -> Rows | None:
        """Add a frame; returns the rows of a block where one is complete, else ``None``.

        Args:
            frame: the next one.
            time: its time in s.
            shown: times of the rows that show it, s.
            source: yields the frames again, from the first one on; without it, frames that wait are kept.
        """
        small = frame.rgb(2 * self.config.detect_size)
        self.shape, self._small = frame.shape, (small.shape[0], small.shape[1])
        self.scale = np.array([small.shape[1] / frame.shape[1], small.shape[0] / frame.shape[0]])
        if self._known is None:
            self.tracker.push(small, time)
        self._times.append(time)
        self._shown.append(shown)
        if source is None:
            self._frames.append(small if self.shape == self._small else frame)
        settled = self.tracker.settled if self._known is None else self._base + len(self._times)
        if settled <= self._next:
            return None
        last = self._times[settled - 1 - self._base]
        stop = bisect_right(self._times, last - self.ahead_s) + self._base if self.ahead_s else settled
        if (
            stop <= self._next
            or self._times[stop - 1 - self._base] - self._times[self._next - self._base] < self.block_s
        ):
            return None
        return self._cut(stop, source)

    def finish(self, source: Iterator[DecodedFrame | np.ndarray] | None = None) -> Rows | None:
        """End the video; returns the rows of the frames that waited, ``None`` if there were none."""
        self.tracker.finish()
        stop = self._base + len(self._times)
        return self._cut(stop, source) if stop > self._next else None

    def _cut(self, stop: int, source: Iterator[DecodedFrame | np.ndarray] | None) -> Rows:
        """Return the rows of the frames from the next one to ``stop`` - 1."""
        first = self._next
        config = self.config
        tracks = self._known
        if tracks is None:
            every = self.tracker.tracks()
            tracks = pick_speaker(every, config.pick, self._small, self.audio)
            cut_now = self._times[first - self._base : stop - self._base]
            self.others_s += others_seconds(every, tracks, cut_now, first)
        self.chosen = tracks
        end = self._base + len(self._times)
        parts = [t.part(self._base, end, -self._base) for t in tracks if t.stop > first and t.start < stop]
        parts = [part for part in parts if any(face is not None for face in part.seen)]
        found = geometry(parts, config, self.detector, self.scale, self.shape, len(self._times))
        points, transforms, present, valid = (
            values[first - self._base : stop - self._base] for values in found
        )
        self.seen = self.seen or bool(present.any())
        times = np.asarray(self._times[first - self._base : stop - self._base])
        shown = [self._shown.popleft() for _ in range(stop - first)]
        frame_of = np.repeat(np.arange(stop - first), [len(r) for r in shown])
        time = np.array([t for r in shown for t in r], np.float64)
        hole = np.abs(time - times[frame_of]) > config.max_gap / 2
        row_valid = valid[frame_of] & ~hole
        points[~valid] = np.nan
        row_points = np.where(hole[:, None], np.nan, points[frame_of])
        crops = np.zeros((len(time), config.size, config.size, 3), np.uint8)
        taken = islice(source, stop - first) if source is not None else self._waiting(stop - first)
        ends = np.searchsorted(frame_of, np.arange(stop - first + 1))
        for i, frame in enumerate(taken):
            wanted = np.flatnonzero(row_valid[ends[i] : ends[i + 1]]) + ends[i]
            if len(wanted):
                if isinstance(frame, DecodedFrame) and self.shape == self._small:
                    frame = frame.rgb()  # `extract_faces` also cuts small frames
                crops[wanted] = cut(frame, transforms[i], config.size)
        self._next = stop
        self._forget()
        return {
            "frames": crops,
            "time": time,
            "box": align.boxes(row_points).astype(np.float32),
            "landmarks": np.stack([row_points.real, row_points.imag], axis=-1).astype(np.float32),
            "valid": row_valid,
            "interpolated": row_valid & ~present[frame_of],
            "frame": frame_of + first,
        }

    def _waiting(self, count: int) -> Iterator[DecodedFrame | np.ndarray]:
        for _ in range(count):
            yield self._frames.popleft()

    def _forget(self) -> None:
        """Free what no later frame depends on."""
        if self._next - self._base >= len(self._times):
            last = self._times[-1]
        else:
            last = self._times[self._next - self._base]
        n = bisect_left(self._times, last - self.behind_s)
        self._base += n
        del self._times[:n]
        self.tracker.forget(self._base, self.chosen[-KEPT_TRACKS:])
