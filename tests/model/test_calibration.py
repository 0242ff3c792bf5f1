"""Calibration against known answers, brute force and a search over a grid."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from deiii.data.tools.atomic_files import file_sha256
from deiii.model.calibration import (
    LIMITS,
    brier,
    calibration,
    chance_ece,
    ece,
    find_temperature,
    nll,
    reliability,
    risk_coverage,
    stored_temperature,
    tempered,
)
from deiii.model.evaluation.sections.calibration import (
    calibration_figures,
    calibration_lines,
    calibration_of,
    calibration_values,
)
from deiii.model.training.scoring import Predictions

SEEDS = st.integers(0, 2**32 - 1)


def drawn_labels(probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Labels int [N] drawn from probabilities [N,C]."""
    at = np.random.default_rng(seed).random((len(probabilities), 1)) * probabilities.sum(1, keepdims=True)
    return (probabilities.cumsum(1) < at).sum(1)


def drawn(seed: int, clips: int = 400, classes: int = 4, true_temperature: float = 1.0, scale: float = 2.0):
    """Probabilities whose labels are drawn from them under a temperature; float64 [N,C], int [N]."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(clips, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    q = np.exp(logits / true_temperature)
    q /= q.sum(axis=1, keepdims=True)
    label = (q.cumsum(axis=1) < rng.random((clips, 1))).sum(axis=1)
    return p, np.minimum(label, classes - 1)


@settings(max_examples=40)
@given(SEEDS, st.floats(0.1, 10), st.floats(0.1, 5))
def test_a_temperature_changes_no_class_and_keeps_a_distribution(seed, temperature, scale):
    p, _ = drawn(seed, 20, scale=scale)
    assume(p.min() > 1e-11)  # smaller ones are raised before the logarithm
    q = tempered(p.astype(np.float32), temperature)
    assert q.dtype == np.float32 and q.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    assert (tempered(p, temperature).argmax(axis=1) == p.argmax(axis=1)).all()
    logits = np.log(p) / temperature
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert tempered(p, temperature) == pytest.approx(softmax, abs=1e-9)
    if tempered(p, temperature).min() > 1e-11:
        assert tempered(tempered(p, temperature), 1 / temperature) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("wanted", [0.5, 1.0, 2.5])
def test_the_temperature_that_drew_the_labels_is_found(wanted):
    p, label = drawn(1, 40_000, true_temperature=wanted)
    assert find_temperature(p, label) == pytest.approx(wanted, rel=0.03)


@settings(max_examples=10)
@given(SEEDS)
def test_no_temperature_of_a_grid_is_better(seed):
    p, label = drawn(seed, 60, true_temperature=3.0)
    label[::7] = -1
    found, known = find_temperature(p, label), label >= 0
    best = min(nll(tempered(p[known], t), label[known]) for t in np.geomspace(*LIMITS, 300))
    assert nll(tempered(p[known], found), label[known]) <= best + 1e-6


def test_edges_of_the_temperature():
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert find_temperature(p, np.array([-1, -1])) is None
    assert find_temperature(np.ones((3, 1)), np.zeros(3, int)) is None
    assert find_temperature(p, np.array([0, 1])) == pytest.approx(LIMITS[0], rel=0.01)  # all right
    assert find_temperature(p, np.array([1, 0])) == pytest.approx(LIMITS[1], rel=0.01)  # all wrong


@pytest.mark.parametrize("classes", [2, 7])
def test_equal_probabilities_have_the_temperature_one(classes):
    p = np.full((6, classes), 1 / classes, np.float32)
    p[0] += np.float32(1e-7)  # rounding
    assert find_temperature(p, np.zeros(6, int)) == 1.0


def test_a_temperature_at_a_limit_is_explained():
    right, wrong = (
        calibration(p, np.zeros(4, int), find_temperature(p, np.zeros(4, int)))
        for p in (np.tile([[0.9, 0.1]], (4, 1)), np.tile([[0.1, 0.9]], (4, 1)))
    )
    for found, words in (
        (right, "lower limit of the search, because nearly all validation clips are right"),
        (wrong, "upper limit of the search, because the network is right"),
    ):
        assert words in calibration_values(found)["about"] and words in calibration_lines(found)[-1]
    lines = calibration_lines({**right, "temperature": 1.5})
    assert len(lines) == 2 and "by chance" in lines[1]


@settings(max_examples=20)
@given(SEEDS)
def test_scores_agree_with_scikit_learn(seed):
    p, label = drawn(seed, 50)
    label[:4] = range(4)
    assert nll(p, label) == pytest.approx(log_loss(label, p, labels=range(4)))
    binary = np.stack([p[:, 0], 1 - p[:, 0]], axis=1)
    truth = (label != 0).astype(int)
    assert brier(binary, truth) == pytest.approx(2 * brier_score_loss(truth, binary[:, 1]))


@settings(max_examples=20)
@given(SEEDS, st.integers(2, 20))
def test_ece_by_a_loop_over_the_bins(seed, bins):
    p, label = drawn(seed, 80)
    total = 0.0
    for b in range(bins):
        rows = [i for i in range(80) if b / bins < p[i].max() <= (b + 1) / bins]
        if rows:
            right = np.mean([p[i].argmax() == label[i] for i in rows])
            total += len(rows) / 80 * abs(right - np.mean([p[i].max() for i in rows]))
    assert ece(p, label, bins) == pytest.approx(total)
    assert sum(b["clips"] for b in reliability(p, label, bins)) == 80
    equal = reliability(p, label, bins, equal_mass=True)
    assert max(b["clips"] for b in equal) - min(b["clips"] for b in equal) <= 1


def test_ece_of_honest_and_of_overconfident_probabilities():
    p, label = drawn(2, 40_000)
    assert ece(p, label) < 0.01 and ece(p, label, equal_mass=True) < 0.01
    assert ece(tempered(p, 0.2), label) > 0.1
    assert ece(np.array([[1.0, 0.0]] * 4), np.array([0, 0, 0, 1])) == pytest.approx(0.25)
    assert ece(np.zeros((0, 2)), np.zeros(0, int)) is None


@pytest.mark.parametrize("clips", [30, 240, 3000])
def test_the_ece_of_chance_is_that_of_labels_drawn_from_the_probabilities(clips):
    """The labels are drawn here; the function draws only whether the most probable class is right."""
    p, _ = drawn(3, clips)
    found = [ece(p, drawn_labels(p, seed)) for seed in range(100, 400)]
    assert chance_ece(p) == pytest.approx(np.mean(found), rel=0.05)


def test_an_ece_of_chance_is_stated_and_falls_with_the_number_of_clips():
    few, many = (calibration(*drawn(1, clips), None)["raw"]["ece_chance"] for clips in (50, 5000))
    assert few > 3 * many > 0
    found = calibration(*drawn(1, 50), 1.3)
    (line,) = [line for line in calibration_lines(found) if "by chance" in line]
    assert f"{found['tempered']['ece_chance']:.3f} on 50 clips" in line
    assert chance_ece(np.zeros((0, 3))) is None


def test_risk_is_the_mean_over_the_orders_of_equal_clips():
    p = np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.7, 0.3], [0.6, 0.4]])
    label = np.array([0, 1, 0, 0, 1])
    wrong = p.argmax(axis=1) != label
    orders = [[0, *middle, 4] for middle in permutations([1, 2, 3])]
    wanted = np.mean([np.cumsum(wrong[order]) / np.arange(1, 6) for order in orders], axis=0)
    coverage, risk = risk_coverage(p, label)
    assert coverage.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert risk == pytest.approx(wanted)
    assert calibration(p, label, None)["raw"]["aurc"] == pytest.approx(wanted.mean())


def predictions(seed: int, **changes) -> Predictions:
    p, label = drawn(seed, 120, true_temperature=2.0)
    n = len(label)
    values = {
        "index": np.arange(n), "label": label, "target": np.zeros((n, 0), np.float32),
        "probabilities": {"fused": p.astype(np.float32)}, "attributes": {},
        "present": {"fused": np.ones(n, bool)}, "loss": 0.0,
    }  # fmt: skip
    return Predictions(**{**values, **changes})


def test_the_temperature_comes_from_validation_clips_alone():
    test, validation = predictions(3), predictions(4)
    found = calibration_of(test, validation)
    wanted = find_temperature(validation.probabilities["fused"], validation.label)
    assert found["temperature"] == wanted
    other = calibration_of(predictions(5), validation)
    assert other["temperature"] == wanted  # the test clips have no part in it
    assert found["tempered"]["ece"] == ece(tempered(test.probabilities["fused"], wanted), test.label)
    assert found["tempered"]["ece"] < found["raw"]["ece"]
    json.dumps(found, allow_nan=False)
    assert calibration_lines(found)[0] == (
        f"calibration error (ECE) {found['raw']['ece']:.3f} ({found['tempered']['ece']:.3f} with the "
        f"temperature {wanted:.2f}, fitted on 120 clips of validation speakers); area under the "
        f"abstention curve (AURC) {found['raw']['aurc']:.3f}"
    )
    assert {figure.axes[0].get_title(loc="left") for figure in calibration_figures(found).values()} == {
        "reliability",
        "abstention",
    }


def test_a_temperature_of_few_clips_is_said_to_be_uncertain():
    label = predictions(4).label.copy()
    label[29:] = -1
    found = calibration_of(predictions(3), predictions(4, label=label))
    told = [*calibration_lines(found), calibration_values(found)["about"]]
    assert found["temperature_clips"] == 29 and all("29 clips of validation" in told[i] for i in (0, -1))
    assert sum("is uncertain, because it was fitted on so few clips" in line for line in told) == 2
    label[29] = 0
    found = calibration_of(predictions(3), predictions(4, label=label))
    told = [*calibration_lines(found), calibration_values(found)["about"]]
    assert not any("uncertain" in line for line in told)
    del found["temperature_clips"]  # of an earlier version
    assert "fitted on validation speakers)" in calibration_lines(found)[0]


def test_without_labels_there_is_no_temperature_or_no_calibration():
    unknown = np.full(120, -1)
    found = calibration_of(predictions(3), predictions(4, label=unknown))
    assert found["temperature"] is None and "tempered" not in found
    assert "no temperature" in calibration_lines(found)[0]
    assert len(calibration_figures(found)) == 2 and "no temperature" in calibration_values(found)["about"]
    assert calibration_of(predictions(3, label=unknown), predictions(4)) == {}
    assert calibration_of(predictions(3, probabilities={}), predictions(4)) == {}


def test_a_temperature_of_other_weights_does_not_count(tmp_path):
    (tmp_path / "best.safetensors").write_bytes(b"one")
    metrics = {"calibration": {"temperature": 1.5}, "weights": file_sha256(tmp_path / "best.safetensors")}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert stored_temperature(tmp_path) == 1.5
    (tmp_path / "best.safetensors").write_bytes(b"two")
    assert stored_temperature(tmp_path) is None
    (tmp_path / "deiii.json").write_text(json.dumps({"temperature": 2.5}))
    assert stored_temperature(tmp_path) == 2.5
    assert stored_temperature(tmp_path / "absent") is None
