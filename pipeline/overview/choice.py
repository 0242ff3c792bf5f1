"""Choose the clips that the overview shows: random, badly tracked, and unusual ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

FAR = 4.0  # robust standard deviations from the median, from which on a figure is unusual


def by_chance(ids: Iterable[str], most: int) -> list[str]:
    """Return at most ``most`` ids, chosen by a hash of the id: the same ones in every run.

    >>> by_chance(["a", "b", "c"], 5) == by_chance(["c", "a", "b"], 5)
    True
    """
    return sorted(ids, key=lambda i: hashlib.sha256(i.encode()).digest())[:most]


def worst(valid: Mapping[str, float], most: int) -> list[str]:
    """Return the clips with the smallest share of valid frames, in %, below 100; the smallest first."""
    lacking = [clip_id for clip_id, share in valid.items() if share < 100]
    return sorted(lacking, key=lambda i: (valid[i], i))[:most]


def unusual(figures: Mapping[str, Mapping[str, float]], names: Iterable[str], most: int) -> dict[str, str]:
    """Return the clips with a figure far from the others', the farthest first, with the name of the figure.

    The distance is to the median, in units of the median absolute deviation times 1.4826, which is the
    standard deviation of a normal distribution. Figures that are equal for most clips count differences of a
    tenth of their standard deviation at least.

    Args:
        figures: figures of the clips, keyed by clip id and name of the figure.
        names: names of the figures to compare.
        most: number of clips.
    """
    distance: dict[str, tuple[float, str]] = {}
    for name in names:
        known = {clip_id: values[name] for clip_id, values in figures.items() if name in values}
        values = np.array(list(known.values()))
        if len(values) < 5 or not np.ptp(values):
            continue
        away = np.abs(values - np.median(values))
        spread = max(1.4826 * float(np.median(away)), 0.1 * float(values.std()))
        for clip_id, d in zip(known, away / spread, strict=True):
            if d > FAR and d > distance.get(clip_id, (0.0, ""))[0]:
                distance[clip_id] = (float(d), name)
    order = sorted(distance, key=lambda i: (-distance[i][0], i))[:most]
    return {clip_id: distance[clip_id][1] for clip_id in order}
