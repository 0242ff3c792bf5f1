"""Caches that are computed again under their old keys are noticed when a run goes on or is scored."""

from __future__ import annotations

import shutil

import pytest

from deiii.data.loader.feature_set import FeatureSet
from deiii.model.evaluation.evaluate import evaluate
from deiii.model.training.origin import other_features, record_features
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.train import train
from deiii.model.training.trainer import Trainer
from tests.helpers.caches import KEYS, make_cache

CLIPS = 24
HOPS = [30] * CLIPS


@pytest.fixture
def cached(tmp_path):
    """Return a function that computes the cache anew and returns its settings and features."""

    def make(seed: int, hops: list[int] = HOPS, **more):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        config = make_cache(tmp_path / "cache", [0] * CLIPS, hops, seed=seed, **more)
        config.model.video = config.model.flow = config.model.imagenet = False
        config.logmel.n_mels = 8
        config.train.device, config.train.epochs, config.train.run = "cpu", 2, str(tmp_path / "run")
        return config, FeatureSet.open(config, KEYS)

    return make


class Stopped(Trainer):
    """Stops after its first epoch, as Ctrl-C does."""

    def _epoch(self, epoch, *others):
        if epoch == 1:
            raise KeyboardInterrupt
        super()._epoch(epoch, *others)


def test_a_resumed_training_and_its_evaluation_say_that_the_features_are_others(cached, capsys):
    config, features = cached(0)
    with pytest.raises(KeyboardInterrupt):
        train(config, progress=False, features=features, trainer=Stopped)
    with pytest.raises(KeyboardInterrupt):  # the same features, computed again
        train(config, resume=True, progress=False, features=cached(0)[1], trainer=Stopped)
    run = RunFolder(config.train.run)
    assert "computed anew" not in capsys.readouterr().err
    assert run.read_info()["features"] == [features.digests] and set(features.digests) == {"logmel"}

    _, others = cached(1)
    train(config, resume=True, progress=False, features=others)
    told = capsys.readouterr().err
    assert f"note: the caches of logmel were computed anew since the training of {run.path}" in told
    assert run.read_info()["features"] == [features.digests, others.digests]

    metrics, _ = evaluate(run.path, features=others)
    assert "other_features" not in metrics and "computed anew" not in capsys.readouterr().err
    metrics, _ = evaluate(run.path, again=True, features=cached(2)[1])
    assert metrics["other_features"] == ["logmel"] and "computed anew" in capsys.readouterr().err


def test_a_finished_training_keeps_its_record_where_the_features_are_others_now(cached, capsys):
    """Nothing is left to train, so no epoch uses the new features; the evaluation must say that."""
    config, features = cached(0)
    train(config, progress=False, features=features)
    _, others = cached(1)
    train(config, resume=True, progress=False, features=others)
    assert "computed anew" not in capsys.readouterr().err
    assert RunFolder(config.train.run).read_info()["features"] == [features.digests]
    assert evaluate(config.train.run, features=others)[0]["other_features"] == ["logmel"]


@pytest.mark.parametrize("change", [{"hops": [*HOPS[:-1], 0]}, {"hops": [*HOPS[:-1], 29]}, {"seed": 1}])
def test_each_change_of_a_clip_is_another_content(cached, change):
    _, before = cached(0)
    _, after = cached(**{"seed": 0, **change})
    assert dict(before.keys) == dict(after.keys) and before.digests != after.digests


def test_a_run_of_an_earlier_version_recorded_nothing_to_compare(cached, tmp_path):
    _, features = cached(0)
    run = RunFolder(tmp_path / "old")
    run.path.mkdir()
    run.info.write_text("{}")
    assert other_features(run, features) == [] and record_features(run, features) == ""
