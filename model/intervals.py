"""Confidence intervals over speakers, and over seeds and speakers.

Clips of one speaker are not independent, so the unit is the speaker. The jackknife turns a figure into one
pseudo-value for each of P speakers (Tukey 1958; Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 11): P times the figure of all clips minus P - 1 times the figure without that speaker. Mean and
variance of the pseudo-values give a t interval with P - 1 degrees of freedom. A percentile bootstrap over
speakers, in contrast, covers the true value in 0.85 instead of 0.95 of all cases with 5 speakers as different
as those of RAVDESS (`tests/model/test_intervals.py` repeats that simulation).

Figures with limits (UAR: 0 and 1) get Wilson's form of the interval (Wilson 1927) with an effective number of
clips, as Korn and Graubard (1998) proposed for surveys: the number of independent clips that would give the
variance found over speakers, at most the real number. The interval stays within the limits, and it has a
width above zero even if all clips are right.

Over seeds and speakers both are random: each seed's pseudo-values form a table [S,P], and the variance of its
mean follows from the mean squares of rows, columns and rest (Dorfman, Berbaum and Metz 1992, where readers
are the seeds and cases are the speakers), with Satterthwaite's degrees of freedom without the term of the
rest. In simulations with 6 to 91 speakers and nine pairs of variances (`benchmarks/interval_coverage.py`),
95 % intervals contain the true mean in at least 0.924 of the rounds with three seeds and in at least 0.941
with five; the term of the rest would raise these shares by at most 0.015. With two seeds that differ as much
as the rest or more, the share is 0.873 to 0.948.

Axes: N clips, P speakers, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deiii.data.tools.counts import counted

FEWEST = 3  # speakers; with two, the variance has one degree of freedom and the t quantile is 12.7
LEVEL = 0.95
CCC_LIMITS = (-1.0, 1.0)
OVER_SPEAKERS = "t interval over speakers"
OVER_SEEDS_AND_SPEAKERS = "t interval over seeds and speakers"
ROUNDING = 1e-9  # standard error below which a figure does not differ between speakers
FEW_HOLD_MOST = 0.5  # share of the speakers that their effective number has to reach; see `unequal_counts`
NARROW = "may be too narrow: "
INTERVAL_FORM = "in Wilson's form"  # of the intervals of figures with limits
PAIRED_FORM = f"{INTERVAL_FORM} except for differences"  # of a table with figures and their differences
# Kind of interval in results that were stored before t intervals were introduced.
BOOTSTRAP = "percentile bootstrap over speakers"

Limits = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure of all clips.
        low, high: the interval.
        p: two-sided p-value of the hypothesis that the figure is 0; for differences.
    """

    value: float
    low: float
    high: float
    p: float

    @property
    def interval(self) -> list[float]:
        """Both ends of the interval."""
        return [self.low, self.high]


def speaker_interval(
    speakers: Sequence[str] | np.ndarray,
    figure: Callable[[np.ndarray], float | None],
    limits: Limits | None = (0.0, 1.0),
    known: np.ndarray | None = None,
) -> list[float] | None:
    """Return the 95 % t interval over speakers of a figure.

    Args:
        speakers: the speaker of each of N predictions.
        figure: maps row numbers, int64 [n], to a figure, or to ``None`` where it is undefined.
        limits: lowest and highest possible value of the figure; ``None`` for a difference of two figures.
        known: bool [N], predictions with a truth. The others are left out, and so are speakers without any
            prediction with a truth. If it is not given, all predictions count.

    Returns:
        ``[low, high]``, or ``None`` with fewer than three speakers or where the figure is undefined for
        all clips or without one of the speakers.

    >>> right = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1])
    >>> found = speaker_interval(list("aaabbbccc"), lambda rows: float(right[rows].mean()))
    >>> [round(x, 2) for x in found]
    [0.2, 0.98]
    """

    def one_seed(rows: np.ndarray) -> list[float] | None:
        value = figure(rows)
        return None if value is None else [value]

    found = estimate(speakers, one_seed, limits, known=known)
    return None if found is None else found.interval


def estimate(
    speakers: Sequence[str] | np.ndarray,
    figures: Callable[[np.ndarray], Sequence[float] | None],
    limits: Limits | None = None,
    clips: int | None = None,
    known: np.ndarray | None = None,
) -> Estimate | None:
    """Return the mean over seeds of a figure, with its 95 % t interval over seeds and speakers.

    With one seed, the interval is over speakers alone. The result is ``None`` in the cases in which that of
    `speaker_interval` is.

    Args:
        speakers: the speaker of each of N predictions.
        figures: maps row numbers, int64 [n], to the figure of each of S seeds, or to ``None``.
        limits, known: arguments of `speaker_interval`.
        clips: number of different clips, where several predictions are of one clip; the number of predictions
            that count where not given.

    >>> gaps = np.array([[0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0]])
    >>> found = estimate(list("aabbcc"), lambda rows: gaps[:, rows].mean(axis=1))
    >>> round(found.value, 2), found.p > 0.05
    (0.5, True)
    """
    from scipy.stats import t as student  # slow to import, and training and prediction do not need it

    rows = np.arange(len(speakers)) if known is None else np.flatnonzero(known)
    names, owner = np.unique(np.asarray(speakers)[rows], return_inverse=True)
    people = len(names)
    whole = figures(rows)
    if people < FEWEST or whole is None:
        return None
    without = [figures(rows[owner != i]) for i in range(people)]
    if any(found is None for found in without):
        return None
    whole_S1 = np.asarray(whole, np.float64)[:, None]
    pseudo_SP = people * whole_S1 - (people - 1) * np.asarray(without, np.float64).T
    value = float(whole_S1.mean())
    variance, freedom = mean_variance(pseudo_SP)
    trials = len(owner) if clips is None else clips
    quantile = float(student.ppf((1 + LEVEL) / 2, freedom))
    if limits is None:
        # Without this bound, two figures that agree on every clip would have an interval of width zero;
        # Bonett and Price (2012) add one clip to each side of the difference.
        deviation = math.sqrt(max(variance, 2 / (trials + 2) ** 2))
        low, high = value - quantile * deviation, value + quantile * deviation
    else:
        deviation = math.sqrt(variance)
        low, high = _wilson(value, variance, trials, quantile, limits)
    p = 2 * float(student.sf(abs(value) / deviation, freedom)) if deviation else float(value == 0)
    return Estimate(value, low, high, p)


def mean_interval(values: Sequence[float] | np.ndarray) -> list[float] | None:
    """Return the 95 % t interval of the mean of independent figures, such as those of seeds or of folds.

    Args:
        values: float [n]; for fewer than `FEWEST` there is no interval.

    >>> [round(x, 2) for x in mean_interval([0.5, 0.6, 0.7])]
    [0.35, 0.85]
    """
    from scipy.stats import t as student  # imported here because the import is slow

    if len(values) < FEWEST:
        return None
    mean = float(np.mean(values))
    half = float(
        student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    )
    return [mean - half, mean + half]


def interval_kind(seeds: int, clips: Sequence[int] = ()) -> str:
    """Return the kind of an interval over this many seeds, with a note where it may be too narrow.

    Args:
        seeds: their number.
        clips: number of test clips of each speaker, where it is known.

    >>> interval_kind(1)
    't interval over speakers'
    >>> interval_kind(2)
    't interval over seeds and speakers (may be too narrow: only two seeds)'
    >>> interval_kind(3, [90, 2, 2, 2])
    't interval over seeds and speakers (may be too narrow: a few of the 4 speakers have most of the clips)'
    """
    kind = OVER_SPEAKERS if seeds == 1 else OVER_SEEDS_AND_SPEAKERS
    reasons = ["only two seeds"] if seeds == 2 else []
    if note := unequal_counts(clips):
        reasons.append(note.removeprefix(NARROW))
    return f"{kind} ({NARROW}{'; '.join(reasons)})" if reasons else kind


def no_intervals(speakers: int) -> str:
    """Return why figures of some speakers have no interval.

    >>> no_intervals(2)
    'no intervals: they need 3 speakers'
    >>> no_intervals(3)
    'no intervals: they need 3 speakers with labels, and figures that are defined without any one of them'
    """
    words = f"no intervals: they need {counted(FEWEST, 'speaker')}"
    if speakers < FEWEST:
        return words
    return f"{words} with labels, and figures that are defined without any one of them"


def kind_of_interval(results: Mapping[str, Any]) -> str:
    """Return the kind and form of the intervals in ``metrics.json`` or ``crossval.json``.

    Where a few speakers have most of the test clips, the words say that the interval may be too narrow. Older
    files have bootstrap intervals, or intervals of an unknown form.

    >>> kind_of_interval({"interval": OVER_SPEAKERS, "interval_form": INTERVAL_FORM})
    "t interval over speakers, in Wilson's form"
    >>> kind_of_interval({})
    'percentile bootstrap over speakers'
    """
    kind = str(results.get("interval", BOOTSTRAP))
    speakers = results.get("test", {}).get("per_speaker", {}).values()
    note = unequal_counts([int(speaker["clips"]) for speaker in speakers if speaker])
    kind = f"{kind} ({note})" if note else kind
    form = results.get("interval_form")
    return f"{kind}, {form}" if form else kind


def unequal_counts(clips: Sequence[int]) -> str:
    """Return a note if a few speakers have most of the clips; empty otherwise.

    The effective number of P speakers with n clips each is (sum n)^2 / sum n^2 (Kish 1965): P where all have
    equally many, 1 where one has all. Below half of P, intervals over speakers are too narrow: with counts
    from 2 to 128 of six speakers, fewer than 0.93 of simulated 95 % intervals contain the true value
    (tests/model/test_intervals.py).

    >>> unequal_counts([24] * 6), unequal_counts([2, 5, 11, 24, 55, 128])
    ('', 'may be too narrow: a few of the 6 speakers have most of the clips')
    """
    squares = sum(count**2 for count in clips)
    if len(clips) < FEWEST or not squares or sum(clips) ** 2 / squares >= FEW_HOLD_MOST * len(clips):
        return ""
    return f"{NARROW}a few of the {counted(len(clips), 'speaker')} have most of the clips"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    count, largest = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, place in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def mean_variance(pseudo_SP: np.ndarray) -> tuple[float, float]:
    """Return the variance of the mean of a table of pseudo-values, and its degrees of freedom.

    Args:
        pseudo_SP: float [S,P], the pseudo-value of each seed and speaker.

    >>> variance, freedom = mean_variance(np.array([[0.0, 1.0, 2.0]]))  # one seed: over speakers alone
    >>> round(variance, 2), freedom
    (0.33, 2)
    """
    seeds, people = pseudo_SP.shape
    if seeds == 1:
        return float(pseudo_SP[0].var(ddof=1)) / people, people - 1
    mean_S1, mean_P = pseudo_SP.mean(axis=1, keepdims=True), pseudo_SP.mean(axis=0)
    rest_SP = pseudo_SP - mean_S1 - mean_P + pseudo_SP.mean()
    of_seeds = people * float(mean_S1.var(ddof=1))
    of_people = seeds * float(mean_P.var(ddof=1))
    of_rest = float((rest_SP**2).sum()) / ((seeds - 1) * (people - 1))
    # Each factor's mean square contains the rest once; without a factor's own variance the rest remains.
    squares = of_seeds + of_people - of_rest
    if of_seeds <= of_rest or of_people <= of_rest:
        squares = max(of_seeds, of_people)
    spread = of_seeds**2 / (seeds - 1) + of_people**2 / (people - 1)
    freedom = min(squares**2 / spread, seeds * people - 1) if spread else people - 1
    return squares / (seeds * people), max(1.0, freedom)


def _wilson(
    value: float, variance: float, clips: int, quantile: float, limits: Limits
) -> tuple[float, float]:
    """Return Wilson's interval of a figure between limits, with the effective number of clips."""
    low, high = limits
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    spread = variance / (high - low) ** 2
    if spread < ROUNDING**2:
        spread = 0.0  # at a limit it would give an effective number of 0 and an interval over all values
    number = min(clips, share * (1 - share) / spread) if spread > 0 else clips
    added = quantile**2 / max(number, 1e-9)
    centre = (share + added / 2) / (1 + added)
    half = math.sqrt(added * share * (1 - share) + added**2 / 4) / (1 + added)
    return low + (high - low) * max(0.0, centre - half), low + (high - low) * min(1.0, centre + half)
