"""Calibration: how well the stated probabilities agree with how often they are right.

Conventions. The *confidence* of a prediction is the largest of its C probabilities. The expected calibration
error (ECE) is the mean over bins of the absolute difference between accuracy and mean confidence, weighted by
the clips in each bin (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599): `BINS` bins of equal width over
0 to 1, or as many bins with equal numbers of clips (Nixon et al. 2019, arXiv 1904.01685). The ECE of few
clips is too large, because noise in a bin counts as an error: `chance_ece` is what perfectly calibrated
probabilities would have. The Brier score (Brier 1950) is the mean squared distance of the probabilities from
the truth, 0 to 2. NLL is the mean of -log of the true class's probability.

A *temperature* T (Guo et al.) turns probabilities p into p^(1/T), scaled to sum 1, which is the softmax of
the logits divided by T: above 1 the network is less confident, and the most probable class stays the same.

Axes: N clips, C classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from deiii.model.file_names import EXPORT
from deiii.model.scored_weights import changed_weights

BINS = 15
# Range of the temperature. The fitted temperature is the lower limit if nearly all clips are right, and the
# upper limit if confident predictions are right no more often than others.
LIMITS = (0.05, 20.0)
SMALLEST = 1e-12  # probability in a logarithm
EQUAL = 1e-6  # largest difference of probabilities that count as equal; the precision of float32 is 6e-8
COVERAGES = 100  # points of a curve that is stored
DRAWS = 200  # of right and wrong predictions, for `chance_ece`


class CalibrationError(ValueError):
    """No temperature is stored with a network; the message states how one is fitted."""


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities, float [...,C], under a temperature, in the same shape and dtype.

    >>> tempered(np.array([0.8, 0.2]), 2.0).round(3).tolist()
    [0.667, 0.333]
    """
    p = np.asarray(probabilities)
    logits = np.log(np.maximum(p.astype(np.float64), SMALLEST)) / temperature
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(p.dtype)


def find_temperature(probabilities: np.ndarray, label: np.ndarray) -> float | None:
    """Return the temperature with the smallest NLL, within `LIMITS`.

    The NLL has one minimum, because it is convex in 1/T; Brent's bounded search over log T finds it.

    Args:
        probabilities: float [N,C], of validation clips.
        label: int [N]; clips with -1 are left out.

    Returns:
        the temperature; 1 where no temperature changes the NLL, because the probabilities of each clip are
        equal; ``None`` without a labelled clip or with fewer than two classes.
    """
    from scipy.optimize import minimize_scalar  # slow to import, and a prediction does not need it

    known = label >= 0
    if not known.any() or probabilities.shape[1] < 2:
        return None
    p, truth = probabilities[known], label[known]
    if np.ptp(p, axis=1).max() <= EQUAL:
        return 1.0

    def loss(log_t: float) -> float:
        return nll(tempered(p.astype(np.float64), float(np.exp(log_t))), truth)

    ends = tuple(np.log(LIMITS))
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4})
    # The bounded search never evaluates the limits. If all clips are right, the NLL is 0 near the lower one,
    # and the search stops at any of several equal temperatures; the limit is then returned.
    for limit, end in zip(LIMITS, ends, strict=True):
        if loss(end) <= found.fun:
            return limit
    return float(np.exp(found.x))


def nll(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Return the mean negative log-likelihood in nats, of probabilities, float [N,C], and labels, int [N]."""
    own = probabilities[np.arange(len(label)), label].astype(np.float64)
    return float(-np.log(np.maximum(own, SMALLEST)).mean())


def brier(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Return the Brier score over all classes, 0 to 2, of probabilities, float [N,C], and labels, int [N].

    >>> round(brier(np.array([[0.8, 0.2]]), np.array([0])), 3)
    0.08
    """
    truth = np.eye(probabilities.shape[1])[label]
    return float(((probabilities.astype(np.float64) - truth) ** 2).sum(axis=1).mean())


def reliability(
    probabilities: np.ndarray, label: np.ndarray, bins: int = BINS, equal_mass: bool = False
) -> list[dict[str, Any]]:
    """Return clips, mean confidence and accuracy of each bin that holds a clip, by rising confidence.

    Args:
        probabilities: float [N,C].
        label: int [N], 0 to C-1.
        bins: number of bins.
        equal_mass: bins with equal numbers of clips instead of equal width.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == label
    return [
        {
            "clips": len(rows),
            "confidence": float(confidence[rows].mean()),
            "accuracy": float(right[rows].mean()),
        }
        for rows in _in_bins(confidence, bins, equal_mass)
    ]


def _in_bins(confidence: np.ndarray, bins: int, equal_mass: bool) -> list[np.ndarray]:
    """Return the rows in each bin that holds a clip, by rising confidence."""
    order = np.argsort(confidence, kind="stable")
    if equal_mass:
        groups = np.array_split(order, bins)
    else:  # a bin holds its upper edge, as in Guo et al.
        place = np.clip(np.ceil(confidence[order] * bins).astype(int) - 1, 0, bins - 1)
        groups = [order[place == number] for number in range(bins)]
    return [rows for rows in groups if len(rows)]


def ece(
    probabilities: np.ndarray, label: np.ndarray, bins: int = BINS, equal_mass: bool = False
) -> float | None:
    """Return the expected calibration error, 0 to 1; ``None`` without clips. Arguments as `reliability`.

    >>> round(ece(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])), 3)
    0.4
    """
    found = reliability(probabilities, label, bins, equal_mass)
    if not found:
        return None
    gaps = sum(b["clips"] * abs(b["accuracy"] - b["confidence"]) for b in found)
    return float(gaps / len(label))


def chance_ece(probabilities: np.ndarray, bins: int = BINS, draws: int = DRAWS) -> float | None:
    """Return the mean ECE, with bins of equal width, that perfectly calibrated probabilities have by chance.

    Whether each prediction is right is drawn ``draws`` times, with its confidence as the probability, as in
    the consistency sampling of Bröcker and Smith (2007, doi 10.1175/WAF993.1). The draws are the same in
    each call. An ECE of this size is no sign of a wrong calibration.

    Args:
        probabilities: float [N,C].
        bins: number of bins.
        draws: number of draws.

    Returns:
        a number from 0 to 1; ``None`` without clips.

    >>> chance_ece(np.array([[1.0, 0.0], [0.0, 1.0]]))
    0.0
    """
    if not len(probabilities):
        return None
    confidence = probabilities.max(axis=1).astype(np.float64)
    groups = _in_bins(confidence, bins, equal_mass=False)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        excess = (rng.random(len(confidence)) < confidence) - confidence
        found.append(sum(abs(excess[rows].sum()) for rows in groups) / len(confidence))
    return float(np.mean(found))


def risk_coverage(probabilities: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how often predictions are wrong if only the most confident clips are decided.

    Clips of equal confidence have no order, so each of them counts with the mean error of all of them.

    Args:
        probabilities: float [N,C].
        label: int [N], 0 to C-1.

    Returns:
        ``coverage``, the share of decided clips, and ``risk``, the share of these that are wrong, float64 [N]
        each (El-Yaniv and Wiener 2010).

    >>> p = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]])
    >>> risk_coverage(p, np.array([0, 1, 0]))[1].round(3).tolist()
    [0.0, 0.0, 0.333]
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    wrong = (probabilities.argmax(axis=1) != label).astype(np.float64)
    _, group = np.unique(-confidence, return_inverse=True)
    shared = np.bincount(group, wrong) / np.bincount(group)
    order = np.argsort(group, kind="stable")
    decided = np.arange(1, len(label) + 1)
    return decided / max(1, len(label)), np.cumsum(shared[group[order]]) / decided


def calibration(probabilities: np.ndarray, label: np.ndarray, temperature: float | None) -> dict[str, Any]:
    """Return what ``metrics.json`` holds on the calibration of test predictions.

    Args:
        probabilities: float [N,C], raw.
        label: int [N], 0 to C-1.
        temperature: fitted on validation speakers; ``None`` where there is none.

    Returns:
        ``temperature``, ``bins`` (`BINS`) and ``clips`` (N); and for ``raw`` and, if there is a temperature,
        ``tempered`` probabilities ``ece`` (bins of equal width), ``ece_chance`` (see `chance_ece`),
        ``ece_equal_mass``, ``brier``, ``nll``, ``aurc`` (mean risk over all coverages), ``bins`` (what
        `reliability` returns) and ``risk`` (pairs of coverage and risk, at most `COVERAGES`).
    """
    found: dict[str, Any] = {"temperature": temperature, "bins": BINS, "clips": len(label)}
    versions = {"raw": probabilities}
    if temperature is not None:
        versions["tempered"] = tempered(probabilities, temperature)
    for name, p in versions.items():
        coverage, risk = risk_coverage(p, label)
        some = np.unique(np.linspace(0, len(label) - 1, min(COVERAGES, len(label))).round().astype(int))
        found[name] = {
            "ece": ece(p, label),
            "ece_chance": chance_ece(p),
            "ece_equal_mass": ece(p, label, equal_mass=True),
            "brier": brier(p, label),
            "nll": nll(p, label),
            "aurc": float(risk.mean()),
            "bins": reliability(p, label),
            "risk": [[round(float(coverage[i]), 4), round(float(risk[i]), 4)] for i in some],
        }
    return found


def stored_temperature(folder: str | Path) -> float | None:
    """Return the temperature that is stored with a run, an export or an ensemble; ``None`` without one.

    A temperature that was fitted to other weights than those in the folder, or in those of an ensemble's
    members, is ignored: training may have continued after the evaluation.
    """
    folder = Path(folder)
    try:
        if (folder / EXPORT).is_file():
            return json.loads((folder / EXPORT).read_text(encoding="utf-8")).get("temperature")
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return None if changed_weights(folder, metrics) else metrics["calibration"]["temperature"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # the run was not evaluated, or by an earlier version
