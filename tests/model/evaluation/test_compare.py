"""Comparison of runs against scikit-learn and the t interval of SciPy."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats
from sklearn.metrics import recall_score

from deiii.__main__ import main
from deiii.model.evaluation.compare import compare, draw
from deiii.model.evaluation.comparison_table import Row, as_csv, as_latex, as_text
from deiii.model.training.run_folder import RunError

CLASSES = ["a", "b", "c"]


def run_folder(path, seed, wrong, speakers=6, clips=9, drop=()):
    """Write the files of an evaluated run; returns rows (clip, speaker, truth, predicted)."""
    rng, rows = np.random.default_rng(seed), []
    for s in range(speakers):
        for c in range(clips):
            truth = CLASSES[c % 3]
            guess = CLASSES[rng.integers(3)] if rng.random() < wrong * (1 + s / 3) else truth
            rows.append((f"s{s}/{c}", f"s{s}", truth, guess))
    number = {r[0]: n for n, r in enumerate(rows)}
    rows = [r for r in rows if r[0] not in drop]
    path.mkdir()
    (path / "run.json").write_text(
        json.dumps({"keys": {}, "classes": CLASSES, "attributes": ["valence"], "ranges": []})
    )
    (path / "metrics.json").write_text("{}")
    with open(path / "predictions.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["clip", "speaker", "truth", "predicted", "valence_truth", "valence_predicted"])
        for row in rows:
            rating = np.sin(number[row[0]])
            table.writerow([*row, f"{rating:.4f}", f"{rating + wrong * rng.normal():.4f}"])
    return rows


def uar(rows):
    return recall_score([r[2] for r in rows], [r[3] for r in rows], average="macro")


def read(path):
    with open(path, newline="") as file:
        return {(r["figure"], r["run"]): r for r in csv.DictReader(file)}


def test_figures_and_paired_intervals(tmp_path):
    one = run_folder(tmp_path / "one", 1, 0.1)
    two = run_folder(tmp_path / "two", 2, 0.4)
    text = compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    found = read(tmp_path / "out/compare.csv")
    row = found["uar", str(tmp_path / "two")]
    assert float(row["value"]) == pytest.approx(uar(two), abs=1e-6)
    assert float(row["difference"]) == pytest.approx(uar(two) - uar(one), abs=1e-6)
    # every class occurs three times with each speaker, so the UAR is the mean of the speakers' UARs
    gap = np.array([uar([r for r in two if r[1] == f"s{s}"]) for s in range(6)])
    gap -= [uar([r for r in one if r[1] == f"s{s}"]) for s in range(6)]
    low, high = stats.t.interval(0.95, 5, gap.mean(), stats.sem(gap))
    assert float(row["paired_low"]) == pytest.approx(low, abs=1e-6)
    assert float(row["paired_high"]) == pytest.approx(high, abs=1e-6)
    assert "54 test clips of 6 speakers" in text and "CCC valence" in text
    assert (tmp_path / "out/compare.png").read_bytes()[:4] == b"\x89PNG"
    latex = (tmp_path / "out/compare.tex").read_text()
    assert latex.startswith("% 54 test clips of 6 speakers") and latex.count(" & UAR") == 0
    assert f"UAR & {tmp_path / 'two'} & {uar(two):.3f} [".replace("_", r"\_") in latex
    assert all(line.count("&") == 4 for line in latex.splitlines() if line.endswith(r"\\"))


@pytest.mark.parametrize("scale", [0.02, 0.038, 0.1, 1.5])
def test_labels_of_the_figure_do_not_touch(scale):
    wide, ends = [0.3 - scale, 0.3 + scale], [-scale / 3, scale]
    rows = [Row("runs/fold0-seed0", "macro_f1", 0.3, wide, None, None, None)]
    rows += [Row("runs/fold1-seed0", "macro_f1", 0.3, wide, 0.01, ends, 0.2)]
    figure = draw(rows)
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        low, high = axes.get_window_extent().x0, axes.get_window_extent().x1
        boxes = sorted((b.x0, b.x1) for b in boxes if low <= (b.x0 + b.x1) / 2 <= high)
        assert all(b[0] > a[1] + 3 for a, b in pairwise(boxes)), boxes


def test_p_values_of_several_runs_are_corrected(tmp_path):
    """Three comparisons: Holm's adjusted p-values of the t tests over speakers."""
    rows = [run_folder(tmp_path / f"r{i}", i, wrong) for i, wrong in enumerate((0.1, 0.4, 0.15, 0.5))]
    text = compare([tmp_path / f"r{i}" for i in range(4)], tmp_path / "out")
    found = read(tmp_path / "out/compare.csv")
    uars = np.array([[uar([r for r in run if r[1] == f"s{s}"]) for s in range(6)] for run in rows])
    plain = [stats.ttest_1samp(own - uars[0], 0).pvalue for own in uars[1:]]
    order = np.argsort(plain)
    expected = np.empty(3)
    expected[order] = np.minimum(1, np.maximum.accumulate([3, 2, 1] * np.array(plain)[order]))
    printed = [float(found["uar", str(tmp_path / f"r{i}")]["p"]) for i in (1, 2, 3)]
    assert printed == pytest.approx(expected, abs=1e-6)
    assert found["uar", str(tmp_path / "r0")]["p"] == ""
    assert "p corrected for 3 comparisons (Holm)" in text


def test_a_run_against_itself_differs_by_nothing_and_54_clips_do_not_prove_more(tmp_path):
    run_folder(tmp_path / "one", 1, 0.3)
    run_folder(tmp_path / "same", 1, 0.3)
    compare([tmp_path / "one", tmp_path / "same"], tmp_path / "out")
    for (_, run), row in read(tmp_path / "out/compare.csv").items():
        if run.endswith("same"):
            assert float(row["difference"]) == 0
            assert -0.1 < float(row["paired_low"]) == -float(row["paired_high"]) < 0


def test_only_clips_in_common_count(tmp_path):
    one = run_folder(tmp_path / "one", 1, 0.2)
    run_folder(tmp_path / "two", 2, 0.2, drop=("s0/0", "s1/1"))
    text = compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    shared = [r for r in one if r[0] not in ("s0/0", "s1/1")]
    row = read(tmp_path / "out/compare.csv")["uar", str(tmp_path / "one")]
    assert float(row["value"]) == pytest.approx(uar(shared), abs=1e-6)
    assert f"left out: 2 clips of {tmp_path / 'one'}" in text


def test_runs_of_other_recordings_of_the_same_names_are_refused(tmp_path):
    for n, name in enumerate(("one", "two", "same")):
        run_folder(tmp_path / name, 1, 0.2)
        digest = "ab" if name != "two" else "cd"
        (tmp_path / name / "media.json").write_text(json.dumps({"s0/0.wav": digest, f"{n}.wav": "ef"}))
    with pytest.raises(RunError, match=r"different recordings: 1 media files .*s0/0\.wav"):
        compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    compare([tmp_path / "one", tmp_path / "same"], tmp_path / "out")


def test_runs_that_cannot_be_compared_are_refused(tmp_path, capsys):
    run_folder(tmp_path / "one", 1, 0.2)
    with pytest.raises(RunError, match="name two runs or more"):
        compare([tmp_path / "one"], tmp_path / "out")
    run_folder(tmp_path / "two", 1, 0.2)
    (tmp_path / "two/predictions.csv").unlink()
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "o")]) == 1
    assert "has not been evaluated" in capsys.readouterr().err
    rows = (tmp_path / "one/predictions.csv").read_text()
    (tmp_path / "two/predictions.csv").write_text(rows.replace("s0/0,s0,a", "s0/0,s0,b"))
    with pytest.raises(RunError, match="different labels for s0/0"):
        compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    (tmp_path / "two/predictions.csv").write_text(
        rows.replace("s", "x", 10_000).replace("xpeaker", "speaker")
    )
    with pytest.raises(RunError):
        compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")


def test_speakers_without_labels_change_no_interval(tmp_path):
    """Eight speakers, two of whom have neither classes nor ratings."""
    for n, name in enumerate(("one", "two")):
        run_folder(tmp_path / name, n, 0.3, speakers=8)
        with open(tmp_path / name / "predictions.csv", newline="") as file:
            header, *rows = csv.reader(file)
        for out, kept in (("all", rows), ("labelled", [r for r in rows if r[1] not in ("s6", "s7")])):
            (tmp_path / out / name).mkdir(parents=True)
            for copied in ("run.json", "metrics.json"):
                (tmp_path / out / name / copied).write_text((tmp_path / name / copied).read_text())
            lines = [[*r[:2], "", r[3], "", r[5]] if r[1] in ("s6", "s7") else r for r in kept]
            with open(tmp_path / out / name / "predictions.csv", "w", newline="") as file:
                csv.writer(file).writerows([header, *lines])
    found = []
    for out in ("all", "labelled"):
        compare([tmp_path / out / "one", tmp_path / out / "two"], tmp_path / out / "table")
        table = read(tmp_path / out / "table/compare.csv").values()
        found.append([[r[c] for c in ("figure", "low", "high", "paired_low", "paired_high")] for r in table])
    assert found[0] == found[1]


@pytest.mark.parametrize("value", ["0.9093", ""])
def test_runs_with_other_ratings_of_a_clip_are_refused(tmp_path, value):
    for name in ("one", "two"):
        run_folder(tmp_path / name, 1, 0.0)
    rows = (tmp_path / "two/predictions.csv").read_text()
    (tmp_path / "two/predictions.csv").write_text(rows.replace("s0/1,s0,b,b,0.8415", f"s0/1,s0,b,b,{value}"))
    with pytest.raises(RunError, match="different values of valence for s0/1; evaluate"):
        compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")


def test_all_forms_agree_on_small_p_values_and_small_differences():
    rows = [Row("b", "uar", 0.5, [0.4, 0.6], -0.0004, [-0.002, 0.0004], 0.0004)]
    (line,) = as_text(rows).splitlines()[1:]
    assert line.endswith("-0.0004  [-0.002, +0.0004]      < 0.001")
    latex = as_latex(rows, "")
    assert r"$-0.0004$ [$-0.002$, $+0.0004$] & $<0.001$ \\" in latex
    assert as_csv(rows).splitlines()[1].endswith(",-0.000400,-0.002000,0.000400,0.0004")
    same = [Row("b", "uar", 0.5, None, -1e-17, [-0.02, 0.02], 0.9997)]
    assert "  0.000  [-0.020, +0.020]" in as_text(same) and as_text(same).endswith("> 0.999")
    assert r"$0.000$ [$-0.020$, $+0.020$] & $>0.999$ \\" in as_latex(same, "")


@pytest.mark.parametrize(
    ("speakers", "drop", "said"),
    [
        (2, (), "2 speakers that all runs scored; no intervals: they need 3 speakers"),
        (
            6,
            (),
            "6 speakers that all runs scored; 95 % t interval over speakers, in Wilson's form except for "
            "differences\n",
        ),
        (6, range(1, 6), "t interval over speakers (may be too narrow: a few of the 6 speakers have most"),
    ],
)
def test_the_note_names_the_intervals_that_were_computed(tmp_path, speakers, drop, said):
    lost = [f"s{s}/{c}" for s in drop for c in range(1, 12)]
    for name in ("one", "two"):
        run_folder(tmp_path / name, len(name), 0.2, speakers, clips=12, drop=lost)
    assert said in compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    low = read(tmp_path / "out/compare.csv")["uar", str(tmp_path / "one")]["low"]
    assert (low == "") == (speakers == 2)


@pytest.mark.parametrize(
    ("key", "words"),
    [("leaks", "split.leaks=allow"), ("unknown_speakers", "some clips have unknown speakers")],
)
def test_a_run_whose_test_speakers_may_have_been_in_training_is_named(tmp_path, key, words):
    for name in ("one", "two"):
        run_folder(tmp_path / name, 1, 0.2)
    assert "training" not in compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    (tmp_path / "two/metrics.json").write_text(f'{{"{key}": true}}')
    text = compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    (line,) = (line for line in text.splitlines() if words in line)
    assert line.startswith(f"{tmp_path / 'two'}: ") and line.endswith("so its figures may be too high")


def test_the_scores_of_raters_stand_beside_those_of_the_runs(tmp_path):
    for name in ("one", "two"):
        run_folder(tmp_path / name, 1, 0.2)
        raters = {"voice, majority": {"uar": 0.625, "war": 0.5, "clips": 54}}
        (tmp_path / name / "metrics.json").write_text(json.dumps({"ceilings": raters}))
    line = "human raters (voice, majority): UAR 0.625, WAR 0.500 on 54 of these clips"
    assert line in compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out").splitlines()
    run_folder(tmp_path / "fewer", 1, 0.2, drop=("s0/0",))
    shutil.copy(tmp_path / "one/metrics.json", tmp_path / "fewer")
    assert line not in compare([tmp_path / "one", tmp_path / "fewer"], tmp_path / "out").splitlines()
