"""Cross-validation through its command: resuming, and its report against independent figures."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import recall_score

from deiii.__main__ import main
from deiii.data.cache.integrity import require_whole
from deiii.data.config.load import result_settings
from deiii.data.config.words import read_settings
from deiii.data.corpora.splits import Split
from deiii.model.calibration import calibration
from deiii.model.evaluation.crossval_report import _calibration, _ensemble, _over_folds, _pooled, markdown
from deiii.model.evaluation.predictions import PredictionTable, read_predictions, write_predictions
from tests.helpers.clips import audio_corpus
from tests.helpers.intervals import recall_interval, recall_interval_over_seeds
from tests.helpers.shared_worker import preprocess


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Three folds with two seeds on a corpus of tones."""
    folder = tmp_path_factory.mktemp("crossval")
    corpus = audio_corpus(folder / "raw", speakers=6)
    with open(folder / "raw/clips.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "label", "fold", "valence"])
        writer.writerows(
            [c.path, c.speaker, c.label, f"f{int(c.speaker[1]) // 2}", n % 3 - 1]
            for n, c in enumerate(corpus.clips)
        )
    words = ["configs/tiny.yaml", "corpus.name=table", f"corpus.root={folder / 'raw'}", "stages=[logmel]"]
    words += [f"cache={folder / 'cache'}", "model.video=false", "model.flow=false"]
    words += [f"train.run={folder / 'cv'}", "train.epochs=1", "loader.batch=4", "train.device=cpu"]
    words += ["model.width=16", "model.attributes=[valence]"]
    assert preprocess(*words) == 0
    assert main(["crossval", *words, "--seeds", "0,3", "--quiet"]) == 0
    return folder / "cv", words


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_fold_has_every_seed_and_every_speaker_is_tested(crossed):
    base, _ = crossed
    runs = sorted(p.name for p in base.iterdir() if p.name.startswith("fold"))
    assert runs == [f"fold{f}-seed{s}" for f in range(3) for s in (0, 3)]
    tested = [Split.load(base / f"splits/fold{f}.json").speakers("test") for f in range(3)]
    assert sorted(s for fold in tested for s in fold) == [f"s{n}" for n in range(6)]


def test_figures_are_those_of_the_predictions(crossed):
    base, _ = crossed
    report = json.loads((base / "crossval.json").read_text())
    table, pooled, of_seeds = np.zeros((3, 2)), [], ([], [])
    for f in range(3):
        for i, s in enumerate((0, 3)):
            rows = read(base / f"fold{f}-seed{s}/predictions.csv")
            truth, guess = [r["truth"] for r in rows], [r["predicted"] for r in rows]
            table[f, i] = recall_score(truth, guess, average="macro", zero_division=0)
            pooled += rows
            of_seeds[i].extend((r["speaker"], r["truth"], r["predicted"]) for r in rows)
    found = report["figures"]["uar"]
    assert found["mean"] == pytest.approx(table.mean())
    assert found["sd_folds"] == pytest.approx(table.mean(1).std(ddof=1))
    assert found["sd_seeds"] == pytest.approx(table.mean(0).std(ddof=1))
    confusion = np.zeros((2, 2), int)
    for row in pooled:
        confusion[report["classes"].index(row["truth"]), report["classes"].index(row["predicted"])] += 1
    assert report["pooled"]["confusion"] == confusion.tolist()
    expected = recall_interval_over_seeds(of_seeds)
    assert report["pooled"]["uar_ci"] == pytest.approx(expected, abs=1e-6)
    assert "95 % t interval over seeds and speakers" in (base / "crossval.md").read_text()
    assert "ccc_valence" in report["figures"] and report["pooled"]["ccc_valence_ci"] is not None
    for f in range(3):
        assert report["splits"][str(f)]["digest"] == Split.load(base / f"splits/fold{f}.json").digest
        assert report["splits"][str(f)]["digest"][:12] in (base / "crossval.md").read_text()
    assert (base / "confusion.png").stat().st_size > 1000


def test_the_report_has_the_settings_that_all_runs_have_in_common(crossed):
    base, words = crossed
    found = json.loads((base / "crossval.json").read_text())["settings"]
    own = result_settings(read_settings(words))
    assert own.keys() - found.keys() == {"split.fold", "train.seed"}
    assert found == json.loads(json.dumps({key: own[key] for key in found}))


def test_seed_ensemble_is_the_mean_of_probabilities(crossed):
    base, _ = crossed
    report = json.loads((base / "crossval.json").read_text())
    scores, everyone = [], []
    for f in range(3):
        tables = [read(base / f"fold{f}-seed{s}/predictions.csv") for s in (0, 3)]
        mean = np.mean([[[float(r[f"p_{c}"]) for c in report["classes"]] for r in t] for t in tables], axis=0)
        truth = [report["classes"].index(r["truth"]) for r in tables[0]]
        scores.append(recall_score(truth, mean.argmax(1), average="macro", zero_division=0))
        everyone += [(r["speaker"], t, g) for r, t, g in zip(tables[0], truth, mean.argmax(1), strict=True)]
    found = report["seed_ensemble"]
    assert found["mean"] == pytest.approx(np.mean(scores))
    assert (
        f"95 % over speakers {found['ci'][0]:.3f} to {found['ci'][1]:.3f}"
        in (base / "crossval.md").read_text()
    )
    assert found["ci"] == pytest.approx(recall_interval(everyone), abs=1e-6)


def test_without_intervals_the_report_does_not_name_their_kind(crossed):
    base, _ = crossed
    report = json.loads((base / "crossval.json").read_text())
    assert "Interval: 95 % t interval" in markdown(report)
    report["pooled"] |= {name: None for name in report["pooled"] if name.endswith("_ci")}
    assert "No intervals: they need 3 speakers with labels" in markdown(report)
    assert "Interval: 95 %" not in markdown(report)


def test_finished_runs_of_other_settings_are_refused(crossed, capsys):
    base, words = crossed
    before = (base / "crossval.json").read_bytes()
    assert main(["crossval", *words, "--seeds", "0,3", "--quiet", "train.lr=0.5"]) == 1
    message = capsys.readouterr().err
    assert "train.lr: 0.001 -> 0.5" in message and "fold0-seed0" in message and "another folder" in message
    assert (base / "crossval.json").read_bytes() == before
    # Operational settings may change.
    assert main(["crossval", *words, "--seeds", "0,3", "--quiet", "loader.threads=1"]) == 0


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


def test_a_second_call_trains_nothing_and_an_unfinished_run_continues(crossed, capsys):
    base, words = crossed
    before = {p: p.read_bytes() for p in base.rglob("*.safetensors")}
    metrics = base / "fold1-seed0/metrics.json"
    expected = metrics.read_bytes()
    metrics.unlink()  # as if killed between training and scoring
    run = metrics.with_name("run.json")
    run.write_text(json.dumps({k: v for k, v in json.loads(run.read_text()).items() if k != "evaluations"}))
    assert main(["crossval", *words, "--seeds", "0,3"]) == 0
    assert "finished before: 5 of 6 runs" in capsys.readouterr().out
    assert metrics.read_bytes() == expected
    assert {p: p.read_bytes() for p in base.rglob("*.safetensors")} == before


def test_finished_runs_outside_the_report_are_named(crossed, tmp_path, capsys):
    """Folds that are separate commands, such as jobs of a cluster, are reported together at the end."""
    base, words = crossed
    copy = tmp_path / "cv"
    shutil.copytree(base, copy)
    words = [*words, f"train.run={copy}"]
    assert main(["crossval", *words, "--seeds", "0", "--folds", "1"]) == 0
    err = capsys.readouterr().err
    assert f"{copy} has 5 finished runs that this report does not cover (fold0-seed0, fold0-seed3," in err
    assert json.loads((copy / "crossval.json").read_text())["folds"] == 1
    assert main(["crossval", *words, "--seeds", "0,3"]) == 0
    assert "does not cover" not in capsys.readouterr().err
    assert (copy / "crossval.md").read_text() == (base / "crossval.md").read_text().replace(
        str(base), str(copy)
    )


def test_features_are_opened_and_checked_once_for_all_runs(crossed, monkeypatch, tmp_path):
    """Runs that share features predict what runs with features of their own do."""
    base, words = crossed
    opened = []

    def count(shards, every_byte):
        opened.append(every_byte)
        return require_whole(shards, every_byte)

    monkeypatch.setattr("deiii.data.loader.feature_set.require_whole", count)
    own = [w for w in words if not w.startswith("train.run")] + ["loader.residency=ram"]
    assert main(["crossval", *own, f"train.run={tmp_path / 'cv'}", "--folds", "0,2", "--quiet"]) == 0
    assert opened.count(True) == 1
    one = tmp_path / "one"
    assert main(["train", *own, "split.fold=2", f"train.run={one}", "--quiet"]) == 0
    assert main(["evaluate", str(one)]) == 0
    assert (one / "predictions.csv").read_bytes() == (
        tmp_path / "cv/fold2-seed0/predictions.csv"
    ).read_bytes()


def test_unknown_folds_are_refused(crossed, capsys):
    assert main(["crossval", *crossed[1], "--folds", "0,7"]) == 1
    assert "folds 0 to 2, not [7]" in capsys.readouterr().err


@pytest.mark.slow
def test_two_runs_at_a_time_give_the_same_numbers(crossed):
    base, words = crossed
    words = [w for w in words if not w.startswith("train.run")] + [f"train.run={base.parent / 'cv2'}"]
    assert main(["crossval", *words, "--seeds", "0,3", "--quiet", "--jobs", "2"]) == 0
    a, b = (json.loads((base.parent / n / "crossval.json").read_text()) for n in ("cv", "cv2"))
    assert a["figures"] == b["figures"] and a["pooled"] == b["pooled"]


@pytest.mark.slow
def test_dask_workers_give_the_same_numbers(crossed):
    from distributed import LocalCluster

    base, words = crossed
    words = [w for w in words if not w.startswith("train.run")] + [f"train.run={base.parent / 'cv3'}"]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        words.append(f"scheduler={cluster.scheduler_address}")
        assert main(["crossval", *words, "--seeds", "0,3", "--quiet"]) == 0
    a, b = (json.loads((base.parent / n / "crossval.json").read_text()) for n in ("cv", "cv3"))
    assert a["figures"] == b["figures"] and a["pooled"] == b["pooled"]


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
    found = _calibration(tables, metrics, ["a", "b"])
    assert found["raw"]["nll"] == pytest.approx(np.mean(own))
    older = _calibration(tables, [{}, {}], ["a", "b"])["raw"]["nll"]  # only the tables are there
    assert older > found["raw"]["nll"]


def test_the_ece_of_runs_does_not_let_them_cancel_each_other():
    """One run says 0.8 and is always right, the other one says 0.8 and is right in 3 of 5 cases."""
    tables = []
    for run, hits in ((0, 5), (1, 3)):
        names = tuple(f"{run}-{i}" for i in range(5))
        truth = tuple("a" if i < hits else "b" for i in range(5))
        p, nothing = np.tile([0.8, 0.2], (5, 1)), np.zeros((5, 0))
        tables.append(PredictionTable(names, names, ("a", "b"), truth, ("a",) * 5, p, (), nothing, nothing))
    found = _calibration(tables, [{}, {}], ["a", "b"])["raw"]
    assert found["ece"] == pytest.approx(0)
    assert found["ece_of_runs"] == pytest.approx(0.2)


def test_names_with_special_characters_do_not_break_the_tables(crossed):
    report = json.loads((crossed[0] / "crossval.json").read_text())
    report["classes"][0] = name = "a|b\n<i>"
    old = next(iter(report["pooled"]["per_class"]))
    report["pooled"]["per_class"] = {name: report["pooled"]["per_class"][old]}
    page = markdown(report)
    assert page.count(r"a\|b \<i>") == 3 and "|b\n" not in page
