"""How much the figures differ between women and men, and among speakers.

The difference between women and men has a Welch t interval: the variance of each side is that over its own
speakers by the jackknife (`deiii.model.intervals`), because no speaker is on both sides. The deviation among
speakers has a chi-square interval. It includes chance: the score of few clips varies by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from deiii.data.audit.names import sex_of
from deiii.data.corpora.clips import Clip
from deiii.data.tools.counts import counted
from deiii.data.tools.text.figure_text import bracketed, number, span
from deiii.model.intervals import CCC_LIMITS, FEWEST, LEVEL, estimate, speaker_interval
from deiii.model.metrics import ccc, figure_names, uar
from deiii.model.network.task import Task
from deiii.model.training.scoring import Predictions

SEXES = {"female": "women", "male": "men"}
Values = dict[str, Any]
Figure = Callable[[np.ndarray], float | None]


def gaps_of(found: Predictions, clips: Sequence[Clip], corpus: str, task: Task) -> Values:
    """Return what ``metrics.json`` holds on gaps.

    Args:
        found: predictions for N test clips.
        clips: their clips, N.
        corpus: the name of the corpus.
        task: the classes and attributes.

    Returns:
        ``sex``: figures with intervals, clips and speakers, keyed by sex, and ``difference``, women minus
        men; empty if not every test speaker's sex is known or all are of one sex. ``speaker_sex``: sex, keyed
        by speaker. ``speakers``: the worst and the best speaker and the deviation among them, with an
        interval, keyed by figure.
    """
    owner = np.array([clip.speaker for clip in clips])
    sexes = {clip.speaker: sex_of(clip, corpus) for clip in clips}
    figures = _figures(found, task)
    return {
        "speaker_sex": {speaker: sex for speaker, sex in sorted(sexes.items()) if sex},
        "sex": _between_sexes(figures, _known(found, task), owner, np.array([sexes[s] for s in owner])),
        "speakers": _among_speakers(figures, owner),
    }


def gaps_of_predictions(
    truth: np.ndarray, predicted: np.ndarray, owner: np.ndarray, sexes: Mapping[str, str]
) -> Values:
    """Return the gaps of the UAR, as `gaps_of` does.

    Args:
        truth, predicted: class numbers, int [N], 0 or more.
        owner: speakers of the N predictions; a clip may have several predictions.
        sexes: sex of each speaker, where it is known.
    """
    figures: dict[str, Figure] = {"uar": lambda rows: uar(truth[rows], predicted[rows])}
    of_rows = np.array([sexes.get(speaker, "") for speaker in owner])
    return {
        "speaker_sex": {speaker: sex for speaker, sex in sorted(sexes.items()) if sex},
        "sex": _between_sexes(figures, {"uar": truth >= 0}, owner, of_rows),
        "speakers": _among_speakers(figures, owner),
    }


def gap_lines(found: Values) -> list[str]:
    """Return lines for the terminal; none where nothing is known."""
    lines = []
    for key, label in figure_names(found.get("sex", {}).get("difference", {})).items():
        gap = found["sex"]["difference"]
        if gap[key] is not None:
            ci = gap[f"{key}_ci"]
            words = f"{number(gap[key], '+')} {bracketed(ci, sign='+')}".rstrip()
            lines.append(f"{label}, women minus men: {words}")
    for key, spread in found.get("speakers", {}).items():
        label = figure_names({key: 0}).get(key, key)
        if spread["worst"] == spread["best"]:
            lines.append(f"{label} by speaker: {number(spread['best'])} for all")
            continue
        lines.append(
            f"{label} by speaker: {number(spread['worst'])} ({spread['worst_speaker']}) to "
            f"{number(spread['best'])} ({spread['best_speaker']}), sd {number(spread['sd'])}"
        )
    return lines


def gap_values(found: Values, unit: str = "clip") -> Values:
    """Return the rows of the page's table and its header; ``unit`` is what was scored."""
    some = found["speakers"] or found["sex"].get("difference", {})
    names = figure_names({key: 0 for key in some if not key.endswith("_ci")})
    rows = []
    for key, label in names.items():
        for sex, word in SEXES.items():
            if sex in found["sex"]:
                own = found["sex"][sex]
                who = f"{word}, {counted(own['speakers'], 'speaker')}, {counted(own['clips'], unit)}"
                rows.append((label, who, number(own[key]), span(own[f"{key}_ci"], "–")))
        if gap := found["sex"].get("difference"):
            rows.append((label, "women minus men", number(gap[key], "+"), span(gap[f"{key}_ci"], "–", "+")))
        if spread := found["speakers"].get(key):
            if spread["worst"] == spread["best"]:
                rows.append((label, "every speaker", number(spread["best"]), ""))
            else:
                rows.append((label, f"worst speaker, {spread['worst_speaker']}", number(spread["worst"]), ""))
                rows.append((label, f"best speaker, {spread['best_speaker']}", number(spread["best"]), ""))
            sd = (label, "deviation among speakers", number(spread["sd"]), span(spread["sd_ci"], "–"))
            rows.append(sd)
    return {"header": ("figure", "", "value", "95 % interval"), "rows": rows}


def _figures(found: Predictions, task: Task) -> dict[str, Figure]:
    """Return UAR where classes are predicted, and each attribute's CCC, as functions of rows."""
    figures: dict[str, Figure] = {}
    if task.classes:
        truth, predicted = found.label, found.probabilities["fused"].argmax(axis=1)
        figures["uar"] = lambda rows: uar(truth[rows], predicted[rows])
    for i, name in enumerate(task.attributes):
        target, values = found.target[:, i], found.attributes["fused"][:, i]

        def agreement(
            rows: np.ndarray, target: np.ndarray = target, values: np.ndarray = values
        ) -> float | None:
            return ccc(target[rows], values[rows])

        figures[f"ccc_{name}"] = agreement
    return figures


def _known(found: Predictions, task: Task) -> dict[str, np.ndarray]:
    """Return the clips with a truth for each of the `_figures`, bool [N]."""
    known = {"uar": found.label >= 0}
    return known | {f"ccc_{name}": ~np.isnan(found.target[:, i]) for i, name in enumerate(task.attributes)}


def _between_sexes(
    figures: Mapping[str, Figure], known: Mapping[str, np.ndarray], owner: np.ndarray, sex: np.ndarray
) -> Values:
    if set(sex) != set(SEXES):
        return {}
    found: Values = {"difference": {}}
    for side in SEXES:
        rows = np.flatnonzero(sex == side)
        found[side] = {"clips": len(rows), "speakers": len(set(owner[rows]))}
    for name, figure in figures.items():
        limits = CCC_LIMITS if name.startswith("ccc_") else (0.0, 1.0)
        sides = []
        for side in SEXES:
            rows = np.flatnonzero((sex == side) & known[name])

            def own(which: np.ndarray, rows: np.ndarray = rows, figure: Figure = figure) -> float | None:
                return figure(rows[which])

            value = own(np.arange(len(rows)))
            found[side] |= {name: value, f"{name}_ci": speaker_interval(owner[rows], own, limits)}
            sides.append((value, *_deviation(own, owner[rows])))
        found["difference"] |= _welch(name, *sides)
    return found


def _deviation(figure: Figure, owner: np.ndarray) -> tuple[float | None, int]:
    """Return the standard error of a figure over speakers, and its degrees of freedom."""

    def one(rows: np.ndarray) -> list[float] | None:
        value = figure(rows)
        return None if value is None else [value]

    freedom = len(set(owner)) - 1
    found = estimate(owner, one, None)
    if found is None:
        return None, freedom
    return (found.high - found.low) / 2 / float(stats.t.ppf((1 + LEVEL) / 2, freedom)), freedom


def _welch(name: str, one: tuple, two: tuple) -> Values:
    """Return the difference of two sides (value, standard error, degrees of freedom) with its interval."""
    if one[0] is None or two[0] is None:
        return {name: None, f"{name}_ci": None}
    gap, interval = one[0] - two[0], None
    if one[1] and two[1]:
        error = math.hypot(one[1], two[1])
        freedom = error**4 / (one[1] ** 4 / one[2] + two[1] ** 4 / two[2])
        half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
        interval = [gap - half, gap + half]
    return {name: gap, f"{name}_ci": interval}


def _among_speakers(figures: Mapping[str, Figure], owner: np.ndarray) -> Values:
    found = {}
    for name, figure in figures.items():
        own = {str(s): figure(np.flatnonzero(owner == s)) for s in np.unique(owner)}
        known = {speaker: value for speaker, value in own.items() if value is not None}
        if len(known) < FEWEST:
            continue
        worst, best = min(known, key=lambda s: known[s]), max(known, key=lambda s: known[s])
        n, sd = len(known), float(np.std(list(known.values()), ddof=1))
        quantiles = stats.chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], n - 1)
        # If all speakers have the same value (1 for a perfect network), a deviation of 0 has no interval.
        equal = known[worst] == known[best]
        interval = None if equal else [sd * math.sqrt((n - 1) / q) for q in quantiles]
        found[name] = {
            "worst": known[worst], "worst_speaker": worst, "best": known[best], "best_speaker": best,
            "sd": sd, "sd_ci": interval,
        }  # fmt: skip
    return found
