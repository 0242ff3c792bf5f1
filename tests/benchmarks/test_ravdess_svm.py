"""The network against the SVM, from predictions made by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import recall_score

from benchmarks.ravdess_svm import against, comparable, uar
from deiii.data.config.load import load_config, to_yaml
from deiii.data.corpora.clips import Clip

CLIPS = [
    Clip(f"s{s}-{label}-{n}", "x.wav", f"s{s}", label=label)
    for s in range(4)
    for label, count in (("calm", 4), ("sad", 2))
    for n in range(count)
]


def write_folds(folder, seed, right):
    """Two folds of two speakers each, their clips listed backwards."""
    for fold, speakers in ((0, ("s0", "s1")), (1, ("s2", "s3"))):
        path = folder / f"fold{fold}-seed{seed}"
        path.mkdir(parents=True)
        with open(path / "predictions.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["clip", "speaker", "truth", "predicted", "p_calm", "p_sad"])
            for clip, hit in reversed([*zip(CLIPS, right, strict=True)]):
                if clip.speaker in speakers:
                    sure = 0.9 if hit == (clip.label == "calm") else 0.2
                    guess = "calm" if sure > 0.5 else "sad"
                    writer.writerow([clip.id, clip.speaker, clip.label, guess, sure, 1 - sure])


def test_the_gap_is_of_mean_recalls_and_its_interval_is_over_seeds_and_speakers(tmp_path):
    calm = np.array([c.label == "calm" for c in CLIPS])
    write_folds(tmp_path, 0, np.ones(len(CLIPS), bool))  # UAR 1
    write_folds(tmp_path, 1, calm)  # UAR 0.5, though two thirds are right
    found = against(tmp_path, CLIPS, {"plain": calm, "none": np.zeros(len(CLIPS), bool)})
    assert found["seeds - plain"]["of"] == 2
    assert found["seeds - plain"]["gap"] == pytest.approx(0.75 - 0.5)
    assert found["seeds - none"]["gap"] == pytest.approx(0.75)
    # all speakers are alike here, so that the interval is that of two seeds, 0.5 and 0: t with one degree of
    # freedom
    half = stats.t.ppf(0.975, 1) * np.std([0.5, 0], ddof=1) / 2**0.5
    assert found["seeds - plain"]["ci"] == pytest.approx([0.25 - half, 0.25 + half], abs=1e-3)
    # sad: 0.8 of the one against 0.1 of the other, 0.45 on average, so the mean says calm
    assert found["ensemble - plain"]["gap"] == pytest.approx(0)
    low, high = found["ensemble - plain"]["ci"]
    assert -0.3 < low < 0 < high < 0.3  # 24 clips without a difference do not prove that there is none


def test_speakers_count_whole(tmp_path):
    lucky = np.array([c.speaker in ("s0", "s1") for c in CLIPS])
    write_folds(tmp_path, 0, lucky)
    found = against(tmp_path, CLIPS, {"plain": np.zeros(len(CLIPS), bool)})["ensemble - plain"]
    assert found["gap"] == pytest.approx(0.5)
    half = (
        stats.t.ppf(0.975, 3) * np.std([1, 1, 0, 0], ddof=1) / 2
    )  # four speakers, each all right or all wrong
    assert found["ci"] == pytest.approx([0.5 - half, 0.5 + half], abs=1e-3)


def test_an_unfinished_crossval_is_refused(tmp_path):
    for there in (False, True):
        if there:
            write_folds(tmp_path, 0, np.ones(len(CLIPS), bool))
            (tmp_path / "fold1-seed0/predictions.csv").unlink()
        with pytest.raises(ValueError, match="finish `deiii crossval` first"):
            against(tmp_path, CLIPS, {})


def test_networks_with_statistics_of_test_speakers_are_compared_with_models_that_have_them(tmp_path):
    right = {
        "svm": np.ones(2, bool),
        "svm by speaker": np.ones(2, bool),
        "speaker_normalised": np.ones(2, bool),
    }
    expected = {"none": ["svm"], "clip": ["svm"], "speaker": ["svm by speaker", "speaker_normalised"]}
    for value, names in expected.items():
        folder = tmp_path / value
        (folder / "fold0-seed1").mkdir(parents=True)
        config = load_config(overrides=[f"loader.normalise={value}"])
        (folder / "fold0-seed1/config.yaml").write_text(to_yaml(config), encoding="utf-8")
        assert list(comparable(folder, right)) == names
    with pytest.raises(ValueError, match="finish `deiii crossval` first"):
        comparable(tmp_path, right)


def test_a_class_of_one_speaker_or_of_none_has_an_interval_and_can_be_predicted(tmp_path):
    """Only s0 is sad; the network says sad for half of the calm clips, also where nobody is sad."""
    clips = [c for c in CLIPS if c.label == "calm" or c.speaker == "s0"]
    right = [c.label == "sad" or c.id.endswith(("-0", "-1")) for c in CLIPS]
    write_folds(tmp_path, 0, right)
    found = against(tmp_path, clips, {"plain": np.ones(len(clips), bool)})["seeds - plain"]
    assert found["gap"] == pytest.approx((0.5 + 1) / 2 - 1)
    assert np.isfinite(found["ci"]).all()
    calm = [c for c in clips if c.label == "calm"]
    found = against(tmp_path, calm, {"plain": np.ones(len(calm), bool)})["seeds - plain"]
    assert found["gap"] == pytest.approx(-0.5)


def test_a_class_that_is_predicted_and_never_true_is_not_in_the_recall():
    """scikit-learn's macro average counts it as a recall of 0."""
    truth, guess = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    assert uar(truth, guess) == 0.75
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, guess = rng.permutation(np.arange(48) % 6), rng.integers(0, 6, 48)
        assert uar(truth, guess) == recall_score(truth, guess, average="macro")
    with pytest.raises(ValueError, match="no clip to score"):
        uar(truth[:0], guess[:0])
