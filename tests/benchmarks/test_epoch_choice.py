"""The comparison of choices of the epoch: on made-up curves, and beside an ordinary training."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from benchmarks.epoch_choice import chosen_epochs, record, summary
from deiii.data.config.words import read_settings
from deiii.data.loader.feature_set import FeatureSet
from deiii.model.evaluation.crossval import FoldSeed
from deiii.model.evaluation.evaluate import evaluate
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.train import train
from tests.helpers.clips import audio_corpus
from tests.helpers.shared_worker import preprocess


def curve(*rows):
    return [dict(zip(("val_uar", "val_loss", "test_uar"), row, strict=True)) for row in rows]


def test_each_choice_takes_its_own_epoch():
    rows = curve((0.5, 1.0, 0.9), (0.7, 1.2, 0.6), (0.7, 0.9, 0.5), (0.6, 0.8, 0.4), (0.1, 2.0, 0.3))
    assert chosen_epochs(rows) == {"uar": 2, "loss": 3, "last": 4, "test": 0}


def test_gap_is_between_test_figures_of_the_same_trainings():
    one = curve((0.5, 1.0, 0.9), (0.7, 0.5, 0.6))
    two = curve((0.5, 1.0, 0.5), (0.7, 0.5, 0.7))
    runs = {FoldSeed(0, 0): one, FoldSeed(0, 1): two, FoldSeed(1, 0): two, FoldSeed(1, 1): two}
    found = summary({**runs, FoldSeed(2, 0): two, FoldSeed(2, 1): two})
    assert found["test"]["uar"] == pytest.approx((0.8 + 0.7 + 0.7) / 3)
    assert found["last"]["uar"] == pytest.approx((0.65 + 0.7 + 0.7) / 3)
    assert found["last"]["gap"] == pytest.approx(0.05)
    low, high = found["last"]["gap_ci"]  # of 0.15, 0, 0: mean 0.05, standard error 0.05, t(2) = 4.3027
    np.testing.assert_allclose((low, high), (0.05 - 4.30265 * 0.05, 0.05 + 4.30265 * 0.05), rtol=1e-5)
    assert summary(runs)["last"]["gap_ci"] is None


@pytest.mark.slow
def test_a_recorded_training_is_an_ordinary_one(tmp_path):
    """Scoring the test clips after every epoch changes nothing else, and its last figure is `evaluate`'s."""
    corpus = audio_corpus(tmp_path / "raw", speakers=4)
    with open(tmp_path / "raw/clips.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "label"])
        writer.writerows([c.path, c.speaker, c.label] for c in corpus.clips)
    words = ["configs/tiny.yaml", "corpus.name=table", f"corpus.root={tmp_path / 'raw'}", "stages=[logmel]"]
    words += [f"cache={tmp_path / 'cache'}", "model.video=false", "model.flow=false"]
    words += ["train.epochs=2", "loader.batch=4", "train.device=cpu", "model.width=16", "train.monitor=last"]
    assert preprocess(*words) == 0
    config = read_settings([*words, f"train.run={tmp_path / 'recorded'}"])
    found = record(config, FeatureSet.open(config))
    assert not (tmp_path / "recorded").exists()
    train(read_settings([*words, f"train.run={tmp_path / 'run'}"]), progress=False)
    metrics, _ = evaluate(tmp_path / "run")
    history = RunFolder(tmp_path / "run").read_history()
    for name in ("val_uar", "val_loss"):
        np.testing.assert_allclose([row[name] for row in found], [row[name] for row in history], rtol=1e-6)
    assert found[-1]["test_uar"] == pytest.approx(metrics["test"]["uar"])
