"""The table of continuous labels from predictions made by hand, and the settings of its runs."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from benchmarks.continuous import VARIANTS, figures, markdown, run_path, variant_config
from deiii.model.network.task import Task

SPEAKERS = [f"s{n}" for n in range(4) for _ in range(5)]


def make_run(folder, seed, valence, arousal, guesses, order=range(20)):
    """A finished run's predictions, its clips listed in some order."""
    path = run_path(folder, "full", seed)
    path.mkdir(parents=True)
    names = ("clip", "speaker", "valence_truth", "valence_predicted", "arousal_truth", "arousal_predicted")
    rows = [(f"c{n:02d}", SPEAKERS[n], valence[n], guesses[0][n], arousal[n], guesses[1][n]) for n in order]
    with open(path / "predictions.csv", "w", newline="") as file:
        csv.writer(file).writerows([names, *rows])


def test_figures_are_the_seeds_mean_and_intervals_hold_it(tmp_path):
    rng = np.random.default_rng(0)
    valence, arousal = rng.uniform(-1, 1, (2, len(SPEAKERS)))
    # right; shifted by half: 2 var / (2 var + 1/4) by the definition; always the same value: nothing
    make_run(tmp_path, 0, valence, arousal, (valence, np.zeros_like(arousal)))
    make_run(tmp_path, 1, valence, arousal, (valence + 0.5, np.zeros_like(arousal)))
    found = figures(tmp_path, "full", [0, 1])
    shifted = 2 * valence.var() / (2 * valence.var() + 0.25)
    assert found["valence"]["by_seed"] == pytest.approx({0: 1.0, 1: shifted})
    assert found["valence"]["ccc"] == pytest.approx((1 + shifted) / 2)
    assert found["valence"]["sd"] == pytest.approx((1 - shifted) / 2**0.5)
    low, high = found["valence"]["ci"]
    # two seeds that differ leave one degree of freedom; nothing is beyond the limits of a CCC
    assert -1 <= low < shifted < found["valence"]["ccc"] < high <= 1
    assert found["arousal"]["ccc"] == 0 and found["arousal"]["ci"][0] < 0 < found["arousal"]["ci"][1]
    assert found["clips"] == len(SPEAKERS)
    line = markdown({"full": found}, "notes").splitlines()[-1]
    assert line.count("|") == 8 and f"{(1 + shifted) / 2:.3f}" in line and "0.000" in line


def test_each_clip_keeps_its_speaker_whatever_the_order_of_a_seeds_clips(tmp_path):
    rng = np.random.default_rng(1)
    valence, arousal = rng.uniform(-1, 1, (2, len(SPEAKERS)))
    guesses = valence + rng.normal(0, 0.3, len(SPEAKERS)), arousal
    for seed, order in ((0, None), (1, rng.permutation(len(SPEAKERS)))):
        make_run(tmp_path / "same", seed, valence, arousal, guesses)
        make_run(tmp_path / "mixed", seed, valence, arousal, guesses, range(20) if order is None else order)
    same, mixed = (figures(tmp_path / name, "full", [0, 1]) for name in ("same", "mixed"))
    assert mixed["valence"]["ci"] == pytest.approx(same["valence"]["ci"], abs=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_networks_predict_attributes_alone_and_can_be_built(tmp_path, variant):
    config = variant_config(tmp_path, variant, 3)
    names = tuple(config.model.attributes)
    task = Task((), names, ((-1.0, 1.0),) * len(names))
    assert names[0] == "valence" and not config.model.classes
    assert config.train.seed == 3 and task.network(config).fused_head.classes is None


def test_an_attribute_that_a_variant_was_not_asked_for_is_left_empty(tmp_path):
    rng = np.random.default_rng(2)
    valence = rng.uniform(-1, 1, len(SPEAKERS))
    make_run(tmp_path, 0, valence, valence, (valence, valence))
    path = run_path(tmp_path, "full", 0) / "predictions.csv"
    with open(path, newline="") as file:
        rows = [row[:4] for row in csv.reader(file)]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = figures(tmp_path, "full", [0])
    assert found["valence"]["ccc"] == pytest.approx(1) and "arousal" not in found
    assert markdown({"full": found}, "").splitlines()[-1].endswith("|  |  |  |")


@pytest.mark.parametrize(
    ("seeds", "head"), [([0], "over speakers"), ([0, 1], "(may be too narrow: only two")]
)
def test_the_table_names_the_interval_that_was_computed(tmp_path, seeds, head):
    valence = np.linspace(-1, 1, len(SPEAKERS))
    for seed in seeds:
        make_run(tmp_path, seed, valence, valence, (valence, valence))
    line = markdown({"full": figures(tmp_path, "full", seeds)}, "").splitlines()[4]
    assert ", in Wilson's form | CCC arousal" in line
    assert f"| 95 % t {head}" in line or f"| 95 % t over seeds and speakers {head}" in line
