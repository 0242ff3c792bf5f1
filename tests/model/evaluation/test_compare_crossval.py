"""Comparison of cross-validations against a mixed analysis of variance by hand, on drawn predictions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from deiii.__main__ import main
from deiii.model.evaluation.compare_crossval import compare_crossvals
from deiii.model.intervals import holm
from deiii.model.training.run_folder import RunError

CLASSES = ["a", "b", "c"]
SPEAKERS = 9
CLIPS = 12  # a speaker, four of each class: the UAR is the mean of the speakers' accuracies


def crossed(folder: Path, wrong: float, seeds=(0, 1), seed: int = 0, folds=3, change=None) -> np.ndarray:
    """Write the files of a cross-validation; returns what is right, bool [seeds,speakers,clips]."""
    rng = np.random.default_rng(seed)
    right = rng.random((len(seeds), SPEAKERS, CLIPS)) > wrong
    runs, splits = [], {}
    for fold in range(folds):
        test = [s for s in range(SPEAKERS) if s % folds == fold]
        splits[str(fold)] = {
            "digest": "d", "test": [f"s{s}" for s in test], "val": [f"s{(fold + 1) % folds}"]
        }  # fmt: skip
        for number, train_seed in enumerate(seeds):
            run = folder / f"fold{fold}-seed{train_seed}"
            run.mkdir(parents=True)
            runs.append({"fold": fold, "seed": train_seed, "folder": run.name})
            with open(run / "predictions.csv", "w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["clip", "speaker", "truth", "predicted", *(f"p_{c}" for c in CLASSES)])
                for s in test:
                    for c in range(CLIPS):
                        truth = c % 3
                        guess = truth if right[number, s, c] else (truth + 1) % 3
                        row = [f"s{s}/{c}", f"s{s}", CLASSES[truth], CLASSES[guess], *np.eye(3)[guess]]
                        table.writerow(row)
    report = {"classes": CLASSES, "attributes": [], "runs": runs, "splits": splits}
    if change:
        change(report)
    (folder / "crossval.json").write_text(json.dumps(report))
    return right


def read(path: Path) -> dict:
    with open(path, newline="") as file:
        return {(r["figure"], Path(r["run"]).name): r for r in csv.DictReader(file)}


def interval_by_hand(gaps: np.ndarray) -> tuple[float, float, float]:
    """Mean, half width and p of a table [seeds,speakers] with both as random factors (Satterthwaite)."""
    s, p = gaps.shape
    total, rows, columns = gaps.mean(), gaps.mean(axis=1), gaps.mean(axis=0)
    of_seeds = p * ((rows - total) ** 2).sum() / (s - 1)
    of_people = s * ((columns - total) ** 2).sum() / (p - 1)
    rest = ((gaps - rows[:, None] - columns + total) ** 2).sum() / ((s - 1) * (p - 1))
    squares = of_seeds + of_people - rest
    if min(of_seeds, of_people) <= rest:
        squares = max(of_seeds, of_people)
    freedom = min(squares**2 / (of_seeds**2 / (s - 1) + of_people**2 / (p - 1)), s * p - 1)
    freedom = max(1.0, freedom)
    deviation = np.sqrt(squares / (s * p))
    return total, stats.t.ppf(0.975, freedom) * deviation, 2 * stats.t.sf(abs(total) / deviation, freedom)


def test_differences_are_paired_over_seeds_and_speakers(tmp_path):
    one = crossed(tmp_path / "one", 0.3, seed=1, seeds=(0, 1, 2))
    two = crossed(tmp_path / "two", 0.4, seed=2, seeds=(2, 0, 1))
    two = two[[1, 2, 0]]  # by seed
    text = compare_crossvals([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert "108 test clips of 9 speakers in 3 folds, 3 seeds (0, 1, 2)" in text
    assert (tmp_path / "out/compare.png").stat().st_size > 1000
    found = read(tmp_path / "out/compare.csv")["uar", "two"]
    assert float(found["value"]) == pytest.approx(two.mean(), abs=1e-6)
    gaps = two.mean(axis=2) - one.mean(axis=2)
    mean, half, p = interval_by_hand(gaps)
    assert float(found["difference"]) == pytest.approx(mean, abs=1e-6)
    assert float(found["paired_low"]) == pytest.approx(mean - half, abs=1e-5)
    assert float(found["paired_high"]) == pytest.approx(mean + half, abs=1e-5)
    assert float(found["p"]) == pytest.approx(p, abs=1e-5)


def test_several_comparisons_are_corrected(tmp_path, capsys):
    for n, name in enumerate(("base", "x", "y", "z")):
        crossed(tmp_path / name, 0.3 + 0.08 * n, seed=n)
    words = [str(tmp_path / name) for name in ("base", "x", "y", "z")]
    assert main(["compare", *words, "--out", str(tmp_path / "all")]) == 0
    assert "p corrected for 3 comparisons (Holm)" in capsys.readouterr().out
    every, alone = read(tmp_path / "all/compare.csv"), []
    for word in words[1:]:
        compare_crossvals([words[0], word], tmp_path / "pair")
        alone.append(float(read(tmp_path / "pair/compare.csv")["uar", Path(word).name]["p"]))
    assert [float(every["uar", n]["p"]) for n in "xyz"] == pytest.approx(holm(alone), abs=1e-5)


def test_seeds_that_only_one_has_are_left_out_and_named(tmp_path):
    crossed(tmp_path / "one", 0.3, seeds=(0, 1, 2))
    crossed(tmp_path / "two", 0.3, seeds=(1, 2, 5), seed=3)
    text = compare_crossvals([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert "2 seeds (1, 2)" in text and "seed 0 of" in text and "seed 5 of" in text


def shift_speaker(report):
    report["splits"]["1"]["test"][0] = "s99"


def shift_validation(report):
    report["splits"]["2"]["val"] = ["s4"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"folds": 1}, "has the folds 0, .* 0, 1, 2"),
        ({"change": shift_speaker}, r"fold 1 of .*other test speakers .*\(s1, s99\)"),
        ({"change": shift_validation}, "fold 2 of .*other validation speakers"),
        ({"seeds": (7,)}, "have no seed in common"),
    ],
)
def test_other_folds_and_seeds_are_refused(tmp_path, options, what):
    crossed(tmp_path / "one", 0.3)
    crossed(tmp_path / "two", 0.3, **options)
    with pytest.raises(RunError, match=what):
        compare_crossvals([tmp_path / "one", tmp_path / "two"], tmp_path / "out")


def test_messages(tmp_path, capsys):
    crossed(tmp_path / "one", 0.3)
    (tmp_path / "run").mkdir()
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "run")]) == 1
    assert "compare runs with runs, or cross-validations with" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "onne")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    with pytest.raises(RunError, match=r"run is not a finished cross-validation; compare"):
        compare_crossvals([tmp_path / "run", tmp_path / "run"], tmp_path / "out")
    assert main(["compare", str(tmp_path / "one")]) == 1
    assert "name two runs or more" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "one/../one")]) == 1
    assert "named twice" in capsys.readouterr().err


def test_predictions_of_other_weights_or_fewer_clips_are_refused(tmp_path):
    """As `compare` refuses such runs."""
    for n, name in enumerate(("one", "two")):
        crossed(tmp_path / name, 0.3, seed=n)
    run = tmp_path / "two/fold0-seed0"
    names = [tmp_path / "one", tmp_path / "two"]
    compare_crossvals(names, tmp_path / "out")
    (run / "run.json").write_text("{}")
    clips = {"test": {"scored": SPEAKERS // 3 * CLIPS}}
    (run / "best.safetensors").write_bytes(b"later")
    (run / "metrics.json").write_text(json.dumps({"weights": "those of before", "clips": clips}))
    with pytest.raises(RunError, match=r"other weights than .*two/fold0-seed0/best\.safetensors"):
        compare_crossvals(names, tmp_path / "out")
    (run / "metrics.json").write_text(json.dumps({"clips": clips}))
    compare_crossvals(names, tmp_path / "out")
    text = (run / "predictions.csv").read_text()
    (run / "predictions.csv").write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match=r"two/fold0-seed0/predictions\.csv is damaged \(35 rows for 36"):
        compare_crossvals(names, tmp_path / "out")


def test_other_recordings_of_the_same_names_are_refused(tmp_path):
    for n, name in enumerate(("one", "two", "same")):
        crossed(tmp_path / name, 0.3, seed=n)
        content = json.dumps({"s0/0.wav": "cd" if name == "two" else "ab"})
        (tmp_path / name / "fold0-seed0/media.json").write_text(content)
    compare_crossvals([tmp_path / "one", tmp_path / "same"], tmp_path / "out")
    with pytest.raises(RunError, match=r"one and .*two are of different recordings: 1 media .*s0/0\.wav"):
        compare_crossvals([tmp_path / "one", tmp_path / "two"], tmp_path / "out")


def test_the_note_names_unequal_counts_and_test_speakers_of_the_training(tmp_path):
    for name in ("one", "two"):
        crossed(tmp_path / name, 0.3, seeds=(0, 1, 2), change=lambda report: report.update(leaks=True))
    names = [tmp_path / "one", tmp_path / "two"]
    text = compare_crossvals(names, tmp_path / "out")
    assert text.count("(split.leaks=allow), so its figures may be too high") == 2
    assert "too narrow" not in text
    assert "95 % t interval over seeds and speakers, in Wilson's form except for differences; " in text
    for path in tmp_path.glob("*/fold*/predictions.csv"):  # one speaker keeps all clips, the others keep two
        rows = path.read_text().splitlines(keepends=True)
        kept = [row for row in rows[1:] if row.startswith("s0/") or row.split(",")[0][2:] in ("/0", "/1")]
        path.write_text("".join([rows[0], *kept]))
    assert "(may be too narrow: a few of the 9 speakers" in compare_crossvals(names, tmp_path / "out")


def test_the_note_names_unknown_speakers(tmp_path):
    for name in ("one", "two"):
        crossed(
            tmp_path / name, 0.3, seeds=(0, 1, 2), change=lambda report: report.update(unknown_speakers=True)
        )
    text = compare_crossvals([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert text.count("some clips have unknown speakers") == 2
