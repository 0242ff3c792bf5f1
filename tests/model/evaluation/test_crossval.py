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
from deiii.model.evaluation.crossval_report import markdown, write_crossval
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


def test_the_command_prints_the_interval_of_all_clips_together(crossed, capsys):
    base, words = crossed
    assert main(["crossval", *words, "--seeds", "0,3"]) == 0
    pooled = json.loads((base / "crossval.json").read_text())["pooled"]
    low, high = pooled["uar_ci"]
    out = capsys.readouterr().out
    assert f"(guessing: 0.500); all clips together {pooled['uar']:.3f} [{low:.3f}, {high:.3f}]\n" in out
    assert "\nin brackets: 95 % t interval over seeds and speakers" in out


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
    assert "Interval: 95 % t interval" in markdown(report) and ", in Wilson's form.\n" in markdown(report)
    older = {key: value for key, value in report.items() if key != "interval_form"}
    assert "Wilson" not in markdown(older)
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


def test_a_report_on_some_folds_says_so(crossed, tmp_path, capsys):
    base, words = crossed
    copy = tmp_path / "cv"
    shutil.copytree(base, copy)
    assert main(["crossval", *words, f"train.run={copy}", "--seeds", "0,3", "--folds", "1"]) == 0
    out = capsys.readouterr().out
    assert "UAR: mean 0." in out and " over 1 of 3 folds (guessing" in out
    assert "4 speakers were not tested: the figures are of 1 of 3 folds\n" in out
    page = (copy / "crossval.md").read_text()
    assert "Folds: 1 (1 of 3 folds; 4 speakers were not tested); seeds: 0, 3." in page
    assert "## Classes (these folds and all seeds together)" in page
    whole = (base / "crossval.md").read_text()
    assert "Folds: 0, 1, 2; seeds: 0, 3." in whole and "(all folds and seeds together)" in whole
    report = json.loads((base / "crossval.json").read_text())
    assert not {"of_folds", "untested"} & report.keys()


def test_the_heading_names_women_and_men_where_the_report_compares_them(crossed):
    base, _ = crossed
    report = json.loads((base / "crossval.json").read_text())
    assert "\n## Speakers (all folds" in (base / "crossval.md").read_text()
    side = {"uar": 0.5, "uar_ci": None, "clips": 9, "speakers": 3}
    report["gaps"]["sex"] = {"female": side, "male": side, "difference": {"uar": 0.0, "uar_ci": None}}
    page = markdown(report)
    assert "\n## Women and men, and speakers (all folds" in page and "| women, 3 speakers" in page


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
    assert "folds 0 to 2, not 7\n" in capsys.readouterr().err


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


def test_names_with_special_characters_do_not_break_the_tables(crossed):
    report = json.loads((crossed[0] / "crossval.json").read_text())
    report["classes"][0] = name = "a|b\n<i>"
    old = next(iter(report["pooled"]["per_class"]))
    report["pooled"]["per_class"] = {name: report["pooled"]["per_class"][old]}
    page = markdown(report)
    assert page.count(r"a\|b \<i>") == 3 and "|b\n" not in page


def report_again(crossed, folder, change):
    """Copy the runs, change their metrics and rows of predictions, and write the report on them."""
    base, runs = folder / "cv", []
    shutil.copytree(crossed[0], base)
    for fold in range(3):
        for seed in (0, 3):
            path = base / f"fold{fold}-seed{seed}"
            metrics, rows = json.loads((path / "metrics.json").read_text()), read(path / "predictions.csv")
            rows = change(metrics, rows)
            metrics["clips"]["test"]["scored"] = len(rows)
            (path / "metrics.json").write_text(json.dumps(metrics))
            with open(path / "predictions.csv", "w", newline="") as file:
                table = csv.DictWriter(file, rows[0])
                table.writeheader()
                table.writerows(rows)
            runs.append((fold, seed, path))
    return write_crossval(base, runs), (base / "crossval.md").read_text()


def test_the_report_says_where_speakers_may_be_in_two_parts(crossed, tmp_path):
    def leaking(metrics, rows):
        metrics["leaks"] = True
        return rows

    plain, page = report_again(crossed, tmp_path / "plain", lambda metrics, rows: rows)
    assert "leaks" not in plain and "No speaker is in two parts of a split" in page
    found, page = report_again(crossed, tmp_path / "leaking", leaking)
    assert found["leaks"] is True and "No speaker is in two parts" not in page
    assert "may also be in training (split.leaks=allow), so the figures may be too high" in page


def test_the_report_says_where_speakers_are_unknown(crossed, tmp_path):
    def unknown(metrics, rows):
        metrics["unknown_speakers"] = True
        return rows

    found, page = report_again(crossed, tmp_path / "unknown", unknown)
    assert found["unknown_speakers"] is True and "leaks" not in found
    assert "No speaker is in two parts" not in page
    assert "Some clips have unknown speakers, so one person may be in training and in test, so the" in page


def test_the_report_says_where_a_few_speakers_have_most_of_the_clips(crossed, tmp_path):
    def unequal(metrics, rows):
        """Twenty clips of the first speaker for each of another one."""
        more = [r | {"clip": f"{r['clip']}-{n}"} for r in rows if r["speaker"] == "s0" for n in range(19)]
        return rows + more

    found, page = report_again(crossed, tmp_path, unequal)
    both = "(may be too narrow: only two seeds; a few of the 6 speakers have most of the clips)"
    assert found["interval"] == f"t interval over seeds and speakers {both}"
    assert f"Interval: 95 % t interval over seeds and speakers {both}, in Wilson's form." in page
