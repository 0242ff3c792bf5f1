"""The figures of a cross-validation's report, from predictions made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from deiii.model.calibration import calibration
from deiii.model.evaluation.crossval_report import _ensemble, _over_folds, _pooled
from deiii.model.evaluation.predictions import PredictionTable, read_predictions, write_predictions
from deiii.model.evaluation.sections.all_runs import calibration_of_runs, ceilings_of_runs, gaps_of_runs
from deiii.model.training.run_folder import RunError
from tests.helpers.intervals import recall_interval, recall_interval_over_seeds


def test_a_figure_of_zero_counts_and_one_that_no_run_has_is_left_empty():
    metrics = {
        (f, s): {"test": {"zero": 0.0, "never": None, "once": 0.5 if (f, s) == (0, 3) else None}}
        for f in range(2) for s in (0, 3)
    }  # fmt: skip

    def over(key):
        return _over_folds(metrics, [0, 1], [0, 3], "test", key)

    assert over("zero")["mean"] == 0 and over("zero")["sd_folds"] == 0 and over("zero")["undefined"] == 0
    assert over("never")["mean"] is None and over("never")["sd_folds"] is None
    assert over("once")["mean"] == 0.5 and over("once")["undefined"] == 3
    assert over("once")["by_fold"] == {"0": 0.5, "1": None}
    json.dumps([over(k) for k in ("zero", "never", "once")], allow_nan=False)


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_pooled_intervals_are_over_seeds_and_speakers(seeds):
    """Random predictions of two folds with four speakers each, whose speakers and seeds differ."""
    rng = np.random.default_rng(seeds)
    tables, of_seeds = [], [[] for _ in range(seeds)]
    for seed in range(seeds):
        for fold in range(2):
            rows = []
            for speaker in range(4):
                for clip in range(12):
                    truth = "ab"[clip % 2]
                    right = rng.random() < 0.9 - 0.12 * speaker - 0.05 * seed
                    rows.append((f"s{fold}{speaker}", truth, truth if right else "ab"[1 - clip % 2]))
            of_seeds[seed] += rows
            nothing = np.zeros((len(rows), 0))
            tables.append(
                PredictionTable(
                    tuple(f"{row[0]}/{n}" for n, row in enumerate(rows)), tuple(row[0] for row in rows),
                    ("a", "b"), tuple(row[1] for row in rows), tuple(row[2] for row in rows),
                    np.full((len(rows), 2), 0.5), (), nothing, nothing,
                )
            )  # fmt: skip
    found = _pooled(tables, ["a", "b"], [], seeds)["uar_ci"]
    one = recall_interval(of_seeds[0])
    assert found == pytest.approx(recall_interval_over_seeds(of_seeds) if seeds > 1 else one, abs=1e-6)


def test_a_fold_whose_test_clips_have_no_class_has_no_part_in_the_ensemble_of_seeds():
    """Such a fold can be trained and scored where attributes are predicted, too."""
    tables = {}
    for fold, truth in enumerate((("a", "b", "b"), ("", "", ""))):
        for seed in range(2):
            tables[fold, seed] = PredictionTable(
                tuple("123"), tuple(f"s{fold}{n}" for n in range(3)), ("a", "b"), truth, ("a", "b", "a"),
                np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), ("valence",),
                np.zeros((3, 1)), np.ones((3, 1)),
            )  # fmt: skip
    found = _ensemble(tables, [0, 1], [0, 1], ["a", "b"])
    assert found["by_fold"] == {"0": 0.75, "1": None}
    assert (found["mean"], found["sd_folds"]) == (0.75, None)


@pytest.mark.parametrize("names", [("1234", "123"), ("0123", "1234"), ("1234", "4321")])
def test_the_ensemble_of_seeds_is_over_the_clips_that_every_seed_predicted(names):
    """Features of a clip that failed may be computed before the next seed is trained."""
    truth = dict(zip("01234", "aabab", strict=True))
    first = dict(zip("01234", (0.9, 0.9, 0.4, 0.4, 0.4), strict=True))  # probability of a: clip 3 is wrong
    second = dict(zip("01234", (0.9, 0.9, 0.2, 0.9, 0.2), strict=True))  # clip 3 is right
    tables = {}
    for seed, (clips, p) in enumerate(zip(names, (first, second), strict=True)):
        probabilities = np.array([[p[clip], 1 - p[clip]] for clip in clips])
        nothing = np.zeros((len(clips), 0))
        tables[0, seed] = PredictionTable(
            tuple(clips), tuple(f"s{clip}" for clip in clips), ("a", "b"), tuple(truth[c] for c in clips),
            tuple("ab"[k] for k in probabilities.argmax(axis=1)), probabilities, (), nothing, nothing,
        )  # fmt: skip
    assert _ensemble(tables, [0], [0, 1], ["a", "b"])["by_fold"] == {"0": 1.0}


def test_nll_is_that_of_the_runs_though_their_tables_have_four_decimals(tmp_path):
    """A confident network gives the true class less than 0.00005, which the table rounds to 0."""
    tables, metrics, own = [], [], []
    for n, small in ((4, 3e-5), (10, 1e-6)):
        label = np.arange(n) % 2
        p = np.where(np.eye(2)[label] > 0, 0.9, 0.1)
        p[0] = [small, 1 - small]
        own += (-np.log(p[np.arange(n), label])).tolist()
        names = tuple(f"{n}-{i}" for i in range(n))
        truth, predicted = (tuple("ab"[k] for k in found) for found in (label, p.argmax(axis=1)))
        nothing = np.zeros((n, 0))
        table = PredictionTable(names, names, ("a", "b"), truth, predicted, p, (), nothing, nothing)
        write_predictions(tmp_path / "predictions.csv", table)
        tables.append(read_predictions(tmp_path / "predictions.csv"))
        metrics.append({"calibration": calibration(p, label, None)})
    found = calibration_of_runs(tables, metrics, ["a", "b"])
    assert found["raw"]["nll"] == pytest.approx(np.mean(own))
    older = calibration_of_runs(tables, [{}, {}], ["a", "b"])["raw"]["nll"]  # only the tables are there
    assert older > found["raw"]["nll"]


def test_the_ece_of_runs_does_not_let_them_cancel_each_other():
    """One run says 0.8 and is always right, the other one says 0.8 and is right in 3 of 5 cases."""
    tables = []
    for run, hits in ((0, 5), (1, 3)):
        names = tuple(f"{run}-{i}" for i in range(5))
        truth = tuple("a" if i < hits else "b" for i in range(5))
        p, nothing = np.tile([0.8, 0.2], (5, 1)), np.zeros((5, 0))
        tables.append(PredictionTable(names, names, ("a", "b"), truth, ("a",) * 5, p, (), nothing, nothing))
    found = calibration_of_runs(tables, [{}, {}], ["a", "b"])["raw"]
    assert found["ece"] == pytest.approx(0)
    assert found["ece_of_runs"] == pytest.approx(0.2)


def test_the_pooled_ccc_is_the_mean_over_seeds_that_its_interval_is_of():
    """One seed learned the ratings, the other predicts a constant: their CCCs are 1 and 0."""
    truth, tables = np.linspace(-1, 1, 12), []
    for predicted in (truth, np.zeros(12)):
        for fold in range(2):
            part = slice(6 * fold, 6 * fold + 6)
            names, nothing = tuple(f"{fold}-{n}" for n in range(6)), np.zeros((6, 0))
            tables.append(PredictionTable(
                names, tuple(f"s{fold}{n % 3}" for n in range(6)), (), (), (), nothing, ("valence",),
                truth[part, None], predicted[part, None],
            ))  # fmt: skip
    found = _pooled(tables, [], ["valence"], 2)
    assert found["ccc_valence"] == pytest.approx(0.5)  # of all predictions together it would be 2/3
    low, high = found["ccc_valence_ci"]
    assert low < 0.5 < high


def _table(rows):
    """Predictions of clips (clip, speaker, truth, predicted) of two classes."""
    clips, speakers, truth, predicted = (tuple(column) for column in zip(*rows, strict=True))
    nothing, p = np.zeros((len(rows), 0)), np.full((len(rows), 2), 0.5)
    return PredictionTable(clips, speakers, ("a", "b"), truth, predicted, p, (), nothing, nothing)


def test_gaps_are_over_the_speakers_of_all_folds():
    """Two women and two men in each of three folds: too few for an interval in one fold, not in all."""
    rng = np.random.default_rng(0)
    tables, metrics, right = [], [], {}
    for fold in range(3):
        rows, sexes = [], {}
        for sex in ("female", "male"):
            for number in range(2):
                speaker = f"{sex}{fold}{number}"
                sexes[speaker] = sex
                hits = rng.random(20) < (0.9 if sex == "female" else 0.6)
                right[speaker] = hits
                for n, hit in enumerate(hits):
                    truth = "ab"[n % 2]
                    rows.append((f"{speaker}{n}", speaker, truth, truth if hit else "ab"[1 - n % 2]))
                rows.append((f"{speaker}x", speaker, "", "a"))  # without a class
        tables.append(_table(rows))
        metrics.append({"gaps": {"speaker_sex": sexes}})
    found = gaps_of_runs(tables, metrics, ["a", "b"])
    sides = {}
    for sex in ("female", "male"):
        own = np.array([hits.mean() for speaker, hits in right.items() if speaker.startswith(sex)])
        sides[sex] = own  # classes are balanced within each speaker, so UAR is the mean accuracy
        assert found["sex"][sex]["uar"] == pytest.approx(own.mean())
    welch = stats.ttest_ind(sides["female"], sides["male"], equal_var=False).confidence_interval(0.95)
    assert found["sex"]["difference"]["uar_ci"] == pytest.approx([welch.low, welch.high])
    one = gaps_of_runs(tables[:1], metrics[:1], ["a", "b"])
    assert one["sex"]["difference"]["uar_ci"] is None
    assert found["speakers"]["uar"]["sd"] == pytest.approx(np.std([*sides["female"], *sides["male"]], ddof=1))


def test_the_scores_of_raters_are_means_over_folds():
    folds = [
        {"ceilings": {"voice, majority": {"uar": uar, "war": uar + 0.1, "clips": clips}, "other": {}}}
        for uar, clips in ((0.4, 10), (0.6, 30))
    ]
    del folds[1]["ceilings"]["other"]  # a fold without it
    found = ceilings_of_runs(folds)
    assert found == {"voice, majority": {"uar": pytest.approx(0.5), "war": pytest.approx(0.6), "clips": 40}}
    assert ceilings_of_runs([{}]) == {} and ceilings_of_runs([]) == {}


def test_predicted_clips_without_a_class_are_no_damage(tmp_path):
    """Such as those whose raters tie; cross-validations with labels of raters ended with an error."""
    table = _table([("1", "s", "a", "a"), ("2", "s", "", "b"), ("3", "t", "b", "a")])
    write_predictions(tmp_path / "predictions.csv", table)
    counts = {"in_split": 3, "scored": 2, "unlabelled": 1}
    read = read_predictions(tmp_path / "predictions.csv", {"clips": {"test": counts}})
    assert read.truth == ("a", "", "b")
    with pytest.raises(RunError, match="3 rows for 4 predicted clips"):
        read_predictions(tmp_path / "predictions.csv", {"clips": {"test": {**counts, "scored": 3}}})
