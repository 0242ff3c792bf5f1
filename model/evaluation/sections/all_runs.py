"""The parts of the report of a cross-validation on all runs together: calibration, gaps, and human raters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deiii.model.calibration import brier, ece, nll, tempered
from deiii.model.evaluation.predictions import PredictionTable
from deiii.model.evaluation.sections.gaps import gaps_of_predictions

Metrics = Mapping[str, Any]  # content of metrics.json


def calibration_of_runs(
    tables: Sequence[PredictionTable], metrics: Sequence[dict[str, Any]], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the calibration of all predictions together, each run with its own temperature.

    A run that an earlier version scored has no temperature; if there is one among the runs, ``tempered`` is
    left out. ``ece`` bins the predictions of all runs together, so overconfident and underconfident runs
    cancel each other; ``ece_of_runs`` is the mean of the ECE of each run, weighted by its clips.
    The NLL is the mean of the NLL in each run's ``metrics.json``, weighted by its clips: the tables have four
    decimals, so a probability below 0.00005 is 0 there and has no logarithm.
    """
    raw, own, labels, temperatures = [], [], [], []
    for table, found in zip(tables, metrics, strict=True):
        truth, _ = table.class_numbers(classes)
        p = table.probabilities[truth >= 0]
        t = found.get("calibration", {}).get("temperature")
        raw.append(p)
        own.append(tempered(p, t or 1.0))
        labels.append(truth[truth >= 0])
        temperatures.append(t)
    label = np.concatenate(labels)
    if not len(label):
        return {}
    versions = {"raw": raw}
    if None not in temperatures:
        versions["tempered"] = own

    def mean_ece(runs: Sequence[np.ndarray]) -> float:
        scored = [(p, truth) for p, truth in zip(runs, labels, strict=True) if len(truth)]
        each = [ece(p, truth) or 0.0 for p, truth in scored]
        return float(np.average(each, weights=[len(truth) for _, truth in scored]))

    def mean_nll(name: str, p: np.ndarray) -> float:
        of_runs = [found.get("calibration", {}).get(name, {}).get("nll") for found in metrics]
        clips = [found.get("calibration", {}).get("clips", 0) for found in metrics]
        if clips != [len(own) for own in labels] or None in of_runs:
            return nll(p, label)
        return float(np.average(of_runs, weights=clips))

    return {
        "temperatures": temperatures,
        "clips": len(label),
        **{
            name: {"ece": ece(p, label), "ece_of_runs": mean_ece(runs),
                   "ece_equal_mass": ece(p, label, equal_mass=True),
                   "brier": brier(p, label), "nll": mean_nll(name, p)}
            for name, runs in versions.items()
            for p in [np.concatenate(runs)]
        },
    }  # fmt: skip


def gaps_of_runs(
    tables: Sequence[PredictionTable], metrics: Sequence[Metrics], classes: Sequence[str]
) -> dict[str, Any]:
    """Return how much the UAR differs between women and men, and among speakers, over all folds and seeds.

    The predictions of all seeds are pooled; the intervals are over speakers. A single fold often has too few
    speakers of each sex for an interval.

    Args:
        tables: predictions of every run.
        metrics: figures of every run.
        classes: class names.

    Returns:
        what `deiii.model.evaluation.sections.gaps.gaps_of` returns, for the UAR.
    """
    sexes: dict[str, str] = {}
    for own in metrics:
        sexes |= own.get("gaps", {}).get("speaker_sex", {})
    pairs = [table.class_numbers(classes) for table in tables]
    truth, predicted = (np.concatenate(column) for column in zip(*pairs, strict=True))
    owner = np.array([speaker for table in tables for speaker in table.speakers])
    known = truth >= 0
    return gaps_of_predictions(truth[known], predicted[known], owner[known], sexes)


def ceilings_of_runs(metrics: Sequence[Metrics]) -> dict[str, dict[str, Any]]:
    """Return the scores of human raters, means over folds, by name; empty where a fold has none.

    Args:
        metrics: figures of one run of each fold.
    """
    found = [own.get("ceilings", {}) for own in metrics]
    names = [name for name in found[0] if all(name in own for own in found)] if found else []
    return {
        name: {
            **{key: float(np.mean([own[name][key] for own in found])) for key in ("uar", "war")},
            "clips": sum(own[name]["clips"] for own in found),
        }
        for name in names
    }
