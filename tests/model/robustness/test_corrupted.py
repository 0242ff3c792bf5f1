"""A run on corrupted test clips: copies without corruption give the clean result, nothing is overwritten."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import recall_score

from deiii.__main__ import main
from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.config.load import load_stored
from deiii.data.corpora.scan import COPY_VERSIONS
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.progress import progress_bar
from deiii.data.tools.writer_lock import Locked, writer_lock
from deiii.model.evaluation.predictions import PredictionTable, read_predictions
from deiii.model.prediction.loading import load
from deiii.model.robustness import corrupted
from deiii.model.robustness.corrupted import _check_streams, _clips, _earlier, _Test, evaluate_corrupted
from deiii.model.robustness.report import condition_figures, draw, figures_of, summary, write_report
from deiii.model.training.run_folder import RunError
from deiii.pipeline.corrupt.kinds import Corruption, CorruptionError
from tests.helpers.second_process import before_the_lock


@pytest.fixture(scope="module")
def run(seen_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust") / "run"
    shutil.copytree(seen_run / "run", folder)
    return folder


def test_copies_without_corruption_have_the_clean_probabilities(run):
    features = FeatureSet.open(load_stored(run / "config.yaml"), whole=True)
    clean = read_predictions(run / "predictions.csv")
    test = _Test(load(run, "cpu"), features, _clips(features, clean), clean, 0)
    with progress_bar(desc="", unit="clip", shown=False) as bar:
        found = test.predict(None, None, bar)
    assert found.probabilities == pytest.approx(clean.probabilities, abs=1.5e-4)
    assert found.attribute_predicted == pytest.approx(clean.attribute_predicted, abs=1.5e-4)
    assert found.predicted == clean.predicted and found.clips == clean.clips


def test_streams_that_evaluation_hides_are_hidden_from_corrupted_clips_too(seen_run, tmp_path):
    """Copies without corruption have the probabilities of an evaluation with ``split.hide``."""
    run = tmp_path / "run"
    shutil.copytree(seen_run / "run", run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("  hide: []\n", "  hide: [audio]\n"))
    shown = read_predictions(run / "predictions.csv")
    assert main(["evaluate", str(run), "--again"]) == 0
    features = FeatureSet.open(load_stored(run / "config.yaml"), whole=True)
    clean, network = read_predictions(run / "predictions.csv"), load(run, "cpu")
    with progress_bar(desc="", unit="clip", shown=False) as bar:
        found = _Test(network, features, _clips(features, clean), clean, 0).predict(None, None, bar)
    assert found.probabilities == pytest.approx(clean.probabilities, abs=1.5e-4)
    assert clean.probabilities != pytest.approx(shown.probabilities, abs=1.5e-4)
    with pytest.raises(CorruptionError, match="reads no audio"):
        evaluate_corrupted(run, ["noise=0"], jobs=1, progress=False)
    # A prediction for a file uses all that the file has, and says so.
    (note,) = network.predict(seen_run / "raw/c0.mp4").notes
    assert "hid audio from the network (split.hide)" in note


def looks(run) -> list[dict]:
    return json.loads((run / "run.json").read_text())["evaluations"]


def test_the_clean_result_stays_and_the_look_is_recorded(run, capsys):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["ceilings"] = {"voice, majority": {"uar": 0.625, "war": 0.5, "clips": 3}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    before, first = (run / "metrics.json").read_bytes(), len(looks(run))
    result, folder = evaluate_corrupted(run, ["occlude=0.9", "noise=-10"], jobs=1, progress=False)
    assert list(result["conditions"]) == ["noise=-10", "occlude=0.9"]
    assert any(note.startswith("human raters (voice, majority): UAR 0.625") for note in result["notes"])
    assert (run / "metrics.json").read_bytes() == before
    assert [entry["corruption"] for entry in looks(run)[first:]] == ["noise=-10", "occlude=0.9"]
    noisy = read_predictions(folder / "noise--10.csv")
    clean = read_predictions(run / "predictions.csv")
    assert noisy.clips == clean.clips and np.abs(noisy.probabilities - clean.probabilities).max() > 1e-4
    with open(folder / "robustness.csv", newline="") as file:
        rows = {row["corruption"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["clean", "noise=-10", "occlude=0.9"]
    assert float(rows["clean"]["uar"]) == pytest.approx(json.loads(before)["test"]["uar"])
    # The same command keeps what was scored.
    assert main(["evaluate", str(run), "--corrupt", "noise=-10", "train.device=cpu"]) == 0
    assert "occlude=0.9" in capsys.readouterr().out
    assert len(looks(run)) == first + 2
    again, _ = evaluate_corrupted(run, ["noise=-10"], again=True, jobs=1, progress=False)
    assert again["conditions"]["noise=-10"] == result["conditions"]["noise=-10"]
    assert np.array_equal(read_predictions(folder / "noise--10.csv").probabilities, noisy.probabilities)
    assert len(looks(run)) == first + 3


def test_the_conditions_of_another_process_stay(seen_run, tmp_path, monkeypatch):
    """It scored the same run while this one waited for its turn, and one corruption that both name."""
    run = tmp_path / "run"
    shutil.copytree(seen_run / "run", run)
    first = len(looks(run))
    options = {"jobs": 1, "progress": False}
    before_the_lock(
        monkeypatch, corrupted, lambda: evaluate_corrupted(run, ["noise=20", "noise=0"], **options)
    )
    result, _ = evaluate_corrupted(run, ["noise=20", "noise=10"], **options)
    assert set(result["conditions"]) == {"noise=20", "noise=10", "noise=0"}
    assert [entry["corruption"] for entry in looks(run)[first:]] == ["noise=20", "noise=0", "noise=10"]
    # Whatever else records something in run.json holds this lock.
    with writer_lock(run), pytest.raises(Locked, match="another run is writing"):
        evaluate_corrupted(run, ["noise=5"], **options)


def test_clips_that_fail_are_named_and_scored_again(seen_run, tmp_path, monkeypatch, capsys):
    """They counted as wrong, as if the corruption were the cause, and the result was kept."""
    from deiii.model.robustness import features as module

    run = tmp_path / "run"
    shutil.copytree(seen_run / "run", run)
    real, made = module.corrupted_features, []

    def fail_once(work):
        made.append(work.clip)
        if len(made) > 1:
            return real(work)
        return module.Made({}, dict.fromkeys(work.stages, Outcome(Status.FAILED, "the disk is gone", 0.0)))

    monkeypatch.setattr(module, "corrupted_features", fail_once)
    found, _ = evaluate_corrupted(run, ["noise=30"], jobs=1, progress=False)
    assert found["conditions"]["noise=30"]["failed"] == 1
    assert f"warning: noise=30: {made[0]}: " in (told := capsys.readouterr().err) and "disk is gone" in told
    assert "note: noise=30: a stage failed for 1 clip, not because of the corruption" in summary(found)
    again, _ = evaluate_corrupted(run, ["noise=30"], jobs=1, progress=False)
    assert again["conditions"]["noise=30"]["failed"] == 0 and not again["notes"]
    count = len(made)
    evaluate_corrupted(run, ["noise=30"], jobs=1, progress=False)
    assert len(made) == count == 2 * again["conditions"]["noise=30"]["clips"]


def test_messages(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--corrupt", "rain=3"]) == 1
    assert "is not a corruption; there are noise=" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--corrupt", "noise=3", "--keep"]) == 1
    assert "--corrupt takes one evaluated run" in capsys.readouterr().err
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/metrics.json").unlink()
    with pytest.raises(RunError, match="has not been evaluated"):
        evaluate_corrupted(tmp_path / "run", ["noise=3"], progress=False)
    network = load(run, "cpu")
    network.config.model.video = network.config.model.flow = False
    with pytest.raises(CorruptionError, match="reads no video"):
        _check_streams(network, [Corruption("blur", 2.0)])


def test_results_on_copies_that_were_made_in_another_way_are_not_kept(tmp_path, capsys):
    """A file of an earlier version does not name the version of the copies."""
    path, identity = tmp_path / "robustness.json", {"seed": 0, "weights": "w"}
    conditions = {
        "blur=2": {"kind": "blur"}, "compress=30": {"kind": "compress"},
        "compress=40": {"kind": "compress", "copies": COPY_VERSIONS["compress"]},
    }  # fmt: skip
    path.write_text(json.dumps({**identity, "conditions": conditions}))
    assert list(_earlier(path, identity)["conditions"]) == ["blur=2", "compress=40"]
    said = capsys.readouterr().err
    assert "compress=30" in said and "compress=40" not in said and "name it again" in said


def drawn(wrong: float, lost: int = 0, seed: int = 0) -> PredictionTable:
    """Predictions for 6 speakers with 10 clips of two classes; the first ``lost`` clips have none."""
    rng = np.random.default_rng(seed)
    truth = np.arange(60) % 2
    guess = np.where(rng.random(60) < wrong, 1 - truth, truth)
    p = np.eye(2)[guess]
    p[:lost] = np.nan
    nothing = np.zeros((60, 0))
    return PredictionTable(
        tuple(f"c{i}" for i in range(60)), tuple(f"s{i // 10}" for i in range(60)), ("a", "b"),
        tuple("ab"[t] for t in truth), tuple("" if i < lost else "ab"[g] for i, g in enumerate(guess)), p,
        (), nothing, nothing,
    )  # fmt: skip


def test_a_clip_without_a_prediction_counts_as_wrong():
    table = drawn(0.2, lost=7)
    truth, predicted = table.class_numbers(("a", "b"))
    uar = figures_of(table)["uar"](np.arange(60))
    assert uar == pytest.approx(recall_score(truth, predicted, labels=[0, 1], average="macro"))
    whole = figures_of(drawn(0.2))["uar"](np.arange(60))
    assert uar < whole
    found = condition_figures(Corruption("noise", 0.0), table, drawn(0.2))
    assert found["lost"] == 7 and found["uar_difference"] == pytest.approx(uar - whole)


def test_agreement_is_compared_over_the_clips_that_both_have():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 1))
    good, bad = truth[:20], rng.normal(size=(40, 1))  # the clean predictions of 40 clips are worthless
    clean = replace(
        drawn(0.2), classes=(), truth=(), predicted=(), probabilities=np.zeros((60, 0)),
        attributes=("valence",), attribute_truth=truth, attribute_predicted=np.concatenate([good, bad]),
    )  # fmt: skip
    lost = replace(clean, attribute_predicted=np.concatenate([good, np.full((40, 1), np.nan)]))
    found = condition_figures(Corruption("noise", 0.0), lost, clean)
    assert found["lost"] == 40 and found["ccc_valence"] == pytest.approx(1.0)
    assert found["ccc_valence_difference"] == pytest.approx(0.0, abs=1e-6)


def test_the_report_of_drawn_conditions(tmp_path):
    clean = drawn(0.05)
    result = {"seed": 0, "weights": "w", "conditions": {}}
    for n, corruption in enumerate(
        [Corruption("noise", 20.0), Corruption("noise", 0.0), Corruption("blur", 4.0)]
    ):
        table = drawn(0.1 + 0.15 * n, lost=n, seed=n)
        result["conditions"][str(corruption)] = condition_figures(corruption, table, clean)
    write_report(tmp_path, result, clean)
    json.dumps(result, allow_nan=False)
    assert (tmp_path / "robustness.png").stat().st_size > 1000
    figure = draw(result)
    panels = figure.axes
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == [
        "clean clips",
        "clean clips, 95 % interval",
        "corrupted clips",
        "corrupted clips, 95 % interval",
    ]
    assert len(panels) == 2 and panels[0].xaxis_inverted() and not panels[1].xaxis_inverted()
    low, high = result["conditions"]["noise=0"]["uar_ci"]
    assert low < result["conditions"]["noise=0"]["uar"] < high
    text = summary(result)
    assert "noise=0" in text and "60 test clips" in text
    same = condition_figures(Corruption("blur", 1.0), replace(clean), clean)
    assert same["uar_difference"] == 0 and same["uar_difference_ci"][0] < 0 < same["uar_difference_ci"][1]


def test_clips_without_a_label_change_no_interval():
    clean, table = drawn(0.1), drawn(0.3, seed=1)
    truth = tuple("" if n >= 40 else label for n, label in enumerate(clean.truth))
    clean, table = (replace(one, truth=truth) for one in (clean, table))
    found = [
        condition_figures(Corruption("noise", 0.0), table.select(rows), clean.select(rows))
        for rows in (np.arange(60), np.arange(40))
    ]
    for name in ("uar", "uar_ci", "war_ci", "uar_difference_ci", "war_difference_ci"):
        assert found[0][name] == found[1][name], name


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (range(60), "; 95 % t interval over speakers, in Wilson's form except for differences; a lost clip"),
        ([*range(11), 20, 30, 40, 50], "(may be too narrow: a few of the 6 speakers have most of the clips)"),
        (range(20), "; no intervals: they need 3 speakers"),
    ],
)
def test_the_summary_names_the_intervals_that_were_computed(tmp_path, rows, said):
    clean, table = drawn(0.1).select(rows), drawn(0.3, seed=1).select(rows)
    found = condition_figures(Corruption("noise", 0.0), table, clean)
    result = _earlier(tmp_path / "robustness.json", {}) | {"conditions": {"noise=0": found}}
    write_report(tmp_path, result, clean)
    assert said in summary(result)
    del result["interval_form"]  # as in older files
    assert "Wilson" not in summary(result)
