"""The trials on emotional clips and their reference: who is trained on, and how stages are weighed."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.emotional_tuning import validate
from benchmarks.encoder_reference import MODELS, run_fold, stage_factors
from deiii.data.cache.stages import ExtraInput
from deiii.data.config.schema import ModelConfig
from deiii.model.network.inputs.build import balance_factors


@pytest.mark.parametrize("spared", [0, 1, 2])
def test_no_test_or_validation_speaker_is_trained_on_and_as_many_are_spared_as_asked_for(spared):
    speakers = np.repeat(list("abcde"), 6)
    labels = np.tile([0, 1, 2], 10)
    own = np.array([list("abcde").index(s) for s in speakers], float)
    # One column tells the speaker of a clip; the trials standardise it by an increasing function.
    parts = [np.stack([own, np.random.default_rng(0).normal(size=30)], axis=1)]
    seen = []

    def model(part):
        seen.append(len(part[0]))
        assert len(part[1]) == len(part[0]) and len(part[2]) == 6
        return np.eye(3)[np.tile([0, 1, 2], 2)]

    found = validate(parts, 0.0, model, labels, speakers, spared)
    assert set(seen) == {6 * (5 - 2 - spared)}
    choices = len(list(permutations("abc", spared))) // (2 if spared == 2 else 1)
    assert len(seen) == 5 * 4 * choices
    assert found["uar"] == 1.0 and set(found["by_test_speaker"]) == set("abcde")


def test_the_reference_weighs_stages_as_the_network_does():
    stages = [ExtraInput("speech", "audio", (96,), 0.25), ExtraInput("appearance", "video", (4,), 1)]
    for balance in (0.25, 0.75, 1.0):
        network = balance_factors(ModelConfig(join="pooled", balance=balance), stages)
        np.testing.assert_allclose(stage_factors([192, 8], balance), list(network.values()))
    assert stage_factors([192, 8], 0.0).tolist() == [1.0, 1.0]


def test_the_reference_chooses_on_validation_and_uses_the_factors():
    """With a factor of zero for the only informative feature nothing can be learned from it."""
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 30)
    x = np.stack([y + 0.1 * rng.normal(size=60), rng.normal(size=60)], axis=1).astype(np.float32)
    rows = {"train": np.arange(30), "val": np.arange(30, 40), "test": np.arange(40, 60)}
    for model in MODELS:
        good = run_fold(model, x, y, np.repeat("a", 60), rows, np.ones(2))
        blind = run_fold(model, x, y, np.repeat("a", 60), rows, np.array([0.0, 1.0]))
        assert good["test_uar"] == good["val_uar"] == 1.0 and blind["test_uar"] < 0.8
        assert len(good["guess"]) == 20


@pytest.mark.parametrize("model", list(MODELS))
def test_without_validation_speakers_the_reference_chooses_as_a_grid_search_over_speakers(model):
    rng = np.random.default_rng(1)
    y, speakers = np.tile(np.repeat([0, 1, 2], 6), 5), np.repeat(list("abcde"), 18)
    x = (0.5 * np.eye(3)[y] @ rng.normal(size=(3, 12)) + rng.normal(size=(90, 12))).astype(np.float32)
    train, test = np.flatnonzero(speakers != "c"), np.flatnonzero(speakers == "c")
    found = run_fold(model, x, y, speakers, {"train": train, "val": train[:0], "test": test}, np.ones(12))
    make, strengths = MODELS[model]
    estimator = make_pipeline(StandardScaler(), make(1.0))
    name = {"linear_discriminant": "pipeline__lineardiscriminantanalysis__shrinkage"}
    grid = {name.get(model, f"{estimator.steps[1][0]}__C"): strengths}
    search = GridSearchCV(estimator, grid, scoring="balanced_accuracy", cv=LeaveOneGroupOut())
    search.fit(x[train], y[train], groups=speakers[train])
    assert found["strength"] == next(iter(search.best_params_.values()))
    assert found["val_uar"] == pytest.approx(search.best_score_, abs=5e-5)
    assert (found["guess"] == search.predict(x[test])).all()
