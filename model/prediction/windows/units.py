"""The intervals whose mean is the prediction for a recording: all of it, windows of it, or of its speech."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deiii.data.config.strict_yaml import ConfigError
from deiii.model.prediction.result import Segment
from deiii.model.prediction.windows.combine import Rows

LONG_S = 30.0  # only longer files are read in order, so that their crops are never in memory at once
LONGER = 1.25  # a recording more than this many times as long as any training clip is predicted in windows
HOP_S = 0.2  # s, default distance of sliding windows
MOST_WINDOWS = 20000  # largest number of windows if no hop is given
MOST_BATCH = 16  # intervals that are scored at a time
SHORTEST_HOP_S = 0.001  # s; no stage has more rows per second, and too many windows would fill the memory

Intervals = list[tuple[float, float]]  # begin and end in s


@dataclass(frozen=True)
class Units:
    """Intervals, and the stretches of speech that they are parts of.

    Attributes:
        intervals: intervals in order.
        speech: the stretches; ``None`` where all of the recording counts.
        owner: int64 [n], the stretch of each interval.
        what: kind of the stretches: ``speech``, or ``person`` for those in which a person is visible.
    """

    intervals: Intervals
    speech: Intervals | None
    owner: np.ndarray
    what: str = "speech"

    @property
    def weights(self) -> np.ndarray | None:
        """The lengths of the intervals in s, float64 [n], by which the mean over stretches is weighted.

        ``None`` where all of the recording counts, whose windows have the same length.

        >>> units_of(9.0, 2.0, 2.0, [(1.0, 1.5), (4.0, 8.0)]).weights
        array([0.5, 2. , 2. ])
        """
        if self.speech is None:
            return None
        lengths = np.array([end - begin for begin, end in self.intervals], np.float64)
        return np.maximum(lengths, SHORTEST_HOP_S)  # a stretch without length would make all weights zero

    def heard(self, time: np.ndarray) -> np.ndarray:
        """Return whether each time, float64 [W] in s, lies in speech; all do without segments of speech."""
        if self.speech is None:
            return np.ones(len(time), bool)
        found = np.zeros(len(time), bool)
        for begin, end in self.speech:
            found |= (time >= begin) & (time < end)
        return found

    def segments(self, full: Rows) -> tuple[Segment, ...]:
        """Return the prediction for each stretch of speech, the mean over its intervals.

        Args:
            full: the outputs for the intervals, from all inputs.
        """
        found = []
        for k, (begin, end) in enumerate(self.speech or ()):
            own = full.present() & (self.owner == k)
            p, a = full.mean(own) if own.any() else (np.zeros(0), np.zeros(0))
            probabilities = dict(zip(full.task.classes, p.tolist(), strict=False))
            attributes = dict(zip(full.task.attributes, a.tolist(), strict=False))
            found.append(Segment(begin, end, probabilities, attributes))
        return tuple(found)


def units_of(
    seconds: float,
    median_s: float,
    longest_s: float,
    speech: Intervals | None = None,
    visible: Intervals | None = None,
) -> Units:
    """Return the intervals whose mean is the prediction.

    Args:
        seconds: length of the recording, s.
        median_s, longest_s: the median and the longest training clip, s.
        speech: stretches of speech, to which the prediction is restricted; ``None`` for no restriction.
        visible: stretches for which a person is visible, to which it is also restricted; ``None`` for no
            restriction.

    >>> units_of(2.0, 1.0, 2.0).intervals
    [(0.0, 2.0)]
    >>> units_of(9.0, 2.0, 2.0, [(1.0, 2.0), (4.0, 8.0)]).intervals
    [(1.0, 2.0), (4.0, 6.0), (6.0, 8.0)]
    """
    what = "speech" if speech is not None or visible is None else "person"
    speech = in_both(speech, visible)
    if speech is not None:
        speech = [(begin, min(end, seconds)) for begin, end in speech if begin < seconds]
    intervals: Intervals = []
    owner: list[int] = []
    for k, (begin, end) in enumerate([(0.0, seconds)] if speech is None else speech):
        parts = [(begin, end)]
        if end - begin > LONGER * longest_s:
            edges = np.linspace(begin, end, max(1, round((end - begin) / median_s)) + 1)
            parts = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
        intervals += parts
        owner += [k] * len(parts)
    return Units(intervals, speech, np.array(owner, np.int64), what)


def in_both(one: Intervals | None, other: Intervals | None) -> Intervals | None:
    """Return the times that lie in both of two lists of stretches; ``None`` stands for all times.

    >>> in_both([(0.0, 2.0), (3.0, 5.0)], [(1.0, 4.0)])
    [(1.0, 2.0), (3.0, 4.0)]
    """
    if one is None or other is None:
        return other if one is None else one
    pairs = [(max(a[0], b[0]), min(a[1], b[1])) for a in one for b in other]
    return sorted((begin, end) for begin, end in pairs if begin < end)


def check_window(window_s: float | None, hop_s: float | None) -> None:
    """Check the length and the distance of sliding windows.

    Raises:
        ConfigError: the length is not a finite number above 0, or the distance is below `SHORTEST_HOP_S` or
            infinite.
    """
    if window_s is not None and not 0 < window_s < math.inf:
        raise ConfigError(f"window_s={window_s:g}: the length of the window must be a number above 0 s")
    if hop_s is not None and not SHORTEST_HOP_S <= hop_s < math.inf:
        raise ConfigError(
            f"hop_s={hop_s:g}: the distance of the windows must be at least {SHORTEST_HOP_S:g} s"
        )


def sliding_window(
    seconds: float, median_s: float, window_s: float | None, hop_s: float | None
) -> tuple[float, float]:
    """Return the length and the distance of the sliding windows of a recording, in s.

    Args:
        seconds: length of the recording, s.
        median_s: length of the median training clip, s.
        window_s: wanted length, at most that of the recording; by default ``median_s``, at most half of the
            recording.
        hop_s: wanted distance; by default `HOP_S`, or in long recordings the smallest multiple of 0.01 s that
            gives at most `MOST_WINDOWS` windows.

    >>> sliding_window(7200.04, 1.5, None, None)
    (1.5, 0.37)
    """
    window = min(median_s, seconds / 2) if window_s is None else min(window_s, seconds)
    hundredths = math.ceil(100 * seconds / MOST_WINDOWS)
    return window, hop_s or max(HOP_S, hundredths / 100)


def joined_note(units: Units) -> Sequence[str]:
    """Return a note on the windows or stretches over which the prediction is averaged."""
    n = len(units.intervals)
    if units.speech is None:
        return [f"longer than the training clips: the mean over {n} windows"] if n > 1 else []
    if units.what == "person":
        seconds = sum(end - begin for begin, end in units.speech)
        return [f"from the {seconds:.1f} s for which this person is visible"]
    if not units.speech:
        return ["no prediction: no speech was found, and silence is left out"]
    seconds = sum(end - begin for begin, end in units.speech)
    count = len(units.speech)
    segments = f"{count} segment{'s' * (count > 1)}"
    return [f"silence is left out: the mean over {seconds:.1f} s of speech in {segments}"]
