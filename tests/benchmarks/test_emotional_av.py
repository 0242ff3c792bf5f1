"""The comparison of inputs on emotional clips: which runs count, and differences that are paired."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.emotional_av import Hits, gap, without_corpus
from deiii.model.evaluation.predictions import PredictionTable, read_predictions, write_predictions

CLIPS = [(f"{speaker}{n}", speaker, "ab"[n % 2]) for speaker in "xyz" for n in range(4)]


def write(folder, seed, right, corpus=""):
    """One run; ``right`` says which clips are classified correctly, ``corpus`` stands before all names."""
    path = folder / f"fold0-seed{seed}/predictions.csv"
    path.parent.mkdir(parents=True)
    truth = tuple(label for _, _, label in CLIPS)
    predicted = tuple(t if hit else "ba"["ab".index(t)] for t, hit in zip(truth, right, strict=True))
    nothing = np.zeros((len(CLIPS), 0))
    probabilities = np.array([[name == "a", name == "b"] for name in predicted], float)
    write_predictions(path, PredictionTable(
        clips=tuple(corpus + c for c, _, _ in CLIPS), speakers=tuple(corpus + s for _, s, _ in CLIPS),
        classes=("a", "b"),
        truth=truth, predicted=predicted, probabilities=probabilities,
        attributes=(), attribute_truth=nothing, attribute_predicted=nothing,
    ))  # fmt: skip


def test_clips_of_a_mixture_are_paired_with_those_of_the_corpus_alone(tmp_path):
    write(tmp_path / "mixed", 0, [True] * 12, "mine:")
    write(tmp_path / "alone", 0, [True] * 6 + [False] * 6)
    found = gap(Hits(tmp_path / "mixed", ["0"]), Hits(tmp_path / "alone", ["0"]))
    assert found["gap"] == 0.5
    assert without_corpus(["a:x", "b:x"]) == ["a:x", "b:x"] and without_corpus(["x"]) == ["x"]


def test_only_the_named_seeds_count(tmp_path):
    every, none = [True] * 12, [False] * 12
    for seed, right in ((0, every), (1, none), (10, none)):
        write(tmp_path / "more", seed, right)
    write(tmp_path / "one", 0, none)
    more, one = Hits(tmp_path / "more", ["0"]), Hits(tmp_path / "one", ["0"])
    assert gap(more, one)["gap"] == 1.0
    assert Hits(tmp_path / "more", ["0", "1"]).recall(np.arange(12)) == [1.0, 0.0]
    with pytest.raises(ValueError, match="one lacks the seeds 1, 2: train them"):
        Hits(tmp_path / "one", ["0", "1", "2"])


def test_the_predicted_class_counts_where_rounded_probabilities_are_equal(tmp_path):
    write(tmp_path, 0, [True] * 12)
    path = tmp_path / "fold0-seed0/predictions.csv"
    path.write_text(path.read_text().replace("0.0000", "0.5000").replace("1.0000", "0.5000"))
    assert set(read_predictions(path).probabilities.ravel()) == {0.5}
    assert Hits(tmp_path, ["0"]).hits.all()


def test_clips_without_a_label_do_not_count_and_other_labels_are_refused(tmp_path):
    write(tmp_path / "one", 0, [True] * 6 + [False] * 6)
    write(tmp_path / "two", 0, [True] * 12)
    path = tmp_path / "two/fold0-seed0/predictions.csv"
    path.write_text(path.read_text().replace("x0,x,a,a", "x0,x,b,a"))
    with pytest.raises(ValueError, match="other labels of the same clips"):
        gap(Hits(tmp_path / "two", ["0"]), Hits(tmp_path / "one", ["0"]))
    path.write_text(path.read_text().replace("x0,x,b,a", "x0,x,,a"))
    found = Hits(tmp_path / "two", ["0"])
    assert found.recall(np.arange(len(found.clips))) == [1.0] and len(found.clips) == 11
