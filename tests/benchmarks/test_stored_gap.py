"""Differences between stored cross-validations, against a jackknife written anew."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import recall_score

from benchmarks.stored_gap import gaps, read
from deiii.model.intervals import estimate

CLASSES = ("calm", "glad")


def store(folder, rows_of_runs):
    """Write an archive; rows (clip, speaker, truth, predicted, p of the first class) by fold and seed."""
    folder.mkdir()
    with tarfile.open(folder / "predictions.tar.xz", "w:xz") as tar:
        for (fold, seed), rows in rows_of_runs.items():
            lines = ["clip,speaker,truth,predicted,p_calm,p_glad"]
            lines += [f"{c},{s},{t},{p},{x:.6f},{1 - x:.6f}" for c, s, t, p, x in rows]
            content = "\n".join(lines).encode()
            entry = tarfile.TarInfo(f"predictions-fold{fold}-seed{seed}.csv")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return folder


def drawn(seed, skill, seeds=1):
    """Runs of two folds with three speakers each."""
    rng = np.random.default_rng(seed)
    runs = {}
    for fold in (0, 1):
        for run in range(seeds):
            rows = []
            for person in range(3 * fold, 3 * fold + 3):
                for k in range(10):
                    truth = CLASSES[k % 2]
                    right = rng.random() < skill - 0.05 * person
                    predicted = truth if right else CLASSES[1 - k % 2]
                    sure = 0.5 + 0.4 * rng.random()
                    rows.append((f"s{person}-{k}", f"s{person}", truth, predicted,
                                 sure if predicted == "calm" else 1 - sure))  # fmt: skip
            runs[fold, run] = rows
    return runs


def test_one_seed_gives_the_jackknife_over_speakers(tmp_path):
    a, b = drawn(1, 0.9), drawn(2, 0.7)
    found = gaps(read(store(tmp_path / "a", a)), read(store(tmp_path / "b", b)))
    rows = [(x, y) for run in a for x, y in zip(a[run], b[run], strict=True)]

    def gap(some):
        truth = [x[2] for x, _ in some]
        one, other = ([pair[i][3] for pair in some] for i in (0, 1))
        return recall_score(truth, one, average="macro") - recall_score(truth, other, average="macro")

    people = sorted({x[1] for x, _ in rows})
    others = [gap([pair for pair in rows if pair[0][1] != name]) for name in people]
    n = len(people)
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) * np.var(others))
    assert found["mean"]["gap"] == pytest.approx(gap(rows), abs=1e-4)
    assert found["mean"]["ci"] == pytest.approx([gap(rows) - half, gap(rows) + half], abs=2e-4)
    assert found["averaged"] == found["mean"]  # one seed
    assert found["clips"] == 60 and found["seeds"] == ["0"]


def test_averaged_networks_are_the_mean_of_the_probabilities(tmp_path):
    a = drawn(3, 0.8, seeds=3)
    found = gaps(read(store(tmp_path / "a", a)), read(store(tmp_path / "b", drawn(4, 0.8, seeds=3))))
    truth, guess = [], []
    for fold in (0, 1):
        for rows in zip(*(a[fold, seed] for seed in range(3)), strict=True):
            truth.append(rows[0][2])
            guess.append("calm" if np.mean([row[4] for row in rows]) > 0.5 else "glad")
    assert found["averaged"]["uar"][0] == pytest.approx(recall_score(truth, guess, average="macro"), abs=1e-4)


def test_the_recorded_class_counts_where_probabilities_are_equal(tmp_path):
    """All are recorded as right; the first of two equal probabilities would be wrong for half of them."""
    rows = [
        (f"s{i % 3}-{i}", f"s{i % 3}", CLASSES[i % 2], CLASSES[i % 2], 0.5 if i % 2 else 0.9)
        for i in range(12)
    ]
    one = read(store(tmp_path / "a", {(0, 0): rows}))
    assert gaps(one, one)["mean"]["uar"] == [1.0, 1.0]


def test_a_missing_fold_and_other_clips_are_errors(tmp_path):
    a = drawn(5, 0.8, seeds=2)
    del a[1, 1]
    with pytest.raises(ValueError, match="seed 1 does not have the clips of seed 0; a fold is missing"):
        read(store(tmp_path / "a", a))
    b, c = drawn(6, 0.8), drawn(6, 0.8)
    del c[1, 0]
    with pytest.raises(ValueError, match="the same clips, classes and seeds"):
        gaps(read(store(tmp_path / "b", b)), read(store(tmp_path / "c", c)))
    with pytest.raises(ValueError, match="no file predictions-fold"):
        read(store(tmp_path / "d", {}))


def test_the_name_that_a_mixture_writes_before_clips_does_not_count(tmp_path):
    a, b = drawn(1, 0.9), drawn(2, 0.7)
    plain = gaps(read(store(tmp_path / "a", a)), read(store(tmp_path / "b", b)))
    named = {
        run: [(f"ravdess:{c}", f"ravdess:{s}", *more) for c, s, *more in rows] for run, rows in a.items()
    }
    assert gaps(read(store(tmp_path / "c", named)), read(tmp_path / "b")) == plain
    two = {
        run: [(f"{run[0]}:{c}", f"{run[0]}:{s}", *more) for c, s, *more in rows] for run, rows in a.items()
    }
    with pytest.raises(ValueError, match="same clips"):
        gaps(read(store(tmp_path / "d", two)), read(tmp_path / "b"))


def test_a_class_of_one_speaker_or_of_none_does_not_break_the_interval(tmp_path):
    """Without the speaker, UAR is over the other class, as `deiii compare` computes it."""
    rows = [
        (f"s{p}-{k}", f"s{p}", "glad" if p == 0 and k < 5 else "calm", "calm" if k % 3 else "glad", 0.9)
        for p in range(4)
        for k in range(10)
    ]
    better = [(c, s, t, t, p) for c, s, t, _, p in rows]
    found = gaps(read(store(tmp_path / "a", {(0, 0): better})), read(store(tmp_path / "b", {(0, 0): rows})))
    known = estimate([r[1] for r in rows], lambda some: [1 - uar_of([rows[i] for i in some])])
    assert found["mean"]["ci"] == pytest.approx(known.interval, abs=1e-4)
    calm = [row for row in rows if row[2] == "calm"]
    one = read(store(tmp_path / "c", {(0, 0): calm}))  # nobody is glad
    assert gaps(one, one)["mean"]["uar"] == [pytest.approx(uar_of(calm), abs=1e-4)] * 2


def uar_of(rows):
    present = sorted({r[2] for r in rows})
    return recall_score([r[2] for r in rows], [r[3] for r in rows], labels=present, average="macro")


def test_clips_without_a_class_and_their_speakers_do_not_count(tmp_path):
    a, b = drawn(1, 0.9), drawn(2, 0.7)
    plain = gaps(read(store(tmp_path / "a", a)), read(store(tmp_path / "b", b)))
    more = [(f"x{n}", f"x{n % 2}", "", "calm", 0.9) for n in range(6)]
    for name, runs in (("c", a), ("d", b)):
        store(tmp_path / name, {run: rows + (more if run[0] else []) for run, rows in runs.items()})
    assert gaps(read(tmp_path / "c"), read(tmp_path / "d")) == plain


def test_other_labels_of_a_clip_are_refused(tmp_path):
    a = drawn(1, 0.9)
    first = a[0, 0][0]
    for name, other in (("true class", ("s0-0", "s0", "glad")), ("speaker", ("s0-0", "s9", first[2]))):
        changed = {**a, (0, 0): [(*other, *first[3:]), *a[0, 0][1:]]}
        one, two = read(store(tmp_path / name[0], a)), read(store(tmp_path / name[:2], changed))
        with pytest.raises(ValueError, match=f"differ in the {name} of s0-0"):
            gaps(one, two)
