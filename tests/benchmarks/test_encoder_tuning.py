"""The trials for networks on frozen encoders: groups of speakers, and what does not depend on the axes."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.encoder_tuning import groupings, principal, standardised, without_speakers


def test_groups_share_no_speaker_and_balanced_ones_hold_as_many_women_as_men():
    speakers = [f"actor-{n:02d}" for n in range(5, 25)]
    for name, groups in groupings(speakers, fold=0).items():
        assert sorted(s for group in groups for s in group) == speakers
        assert [len(group) for group in groups] == [4] * 5
        if name == "balanced":
            assert all(sum(int(s[-2:]) % 2 for s in group) == 2 for group in groups)


def test_logistic_regression_is_the_same_on_principal_axes():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 200)), rng.integers(0, 3, 60)
    x[:, :3] += 2 * np.eye(3)[labels]
    train, other = np.arange(40), np.arange(40, 60)
    x = standardised(x, train)
    a, b = principal(x, train, other)
    assert a.shape[1] < 40
    model = LogisticRegression(C=0.01, tol=1e-8, max_iter=2000)
    expected = model.fit(x[train], labels[train]).predict_proba(x[other])
    np.testing.assert_allclose(model.fit(a, labels[train]).predict_proba(b), expected, atol=1e-5)


def test_directions_of_speakers_are_shrunk_and_others_stay():
    rng = np.random.default_rng(0)
    speakers = np.repeat(["a", "b", "c"], 20)
    x = rng.normal(size=(60, 5))
    x[:, 0] += np.repeat([-9.0, 0.0, 9.0], 20)
    found = without_speakers(x, np.arange(60), speakers, 1e6)
    means = np.stack([found[speakers == name].mean(axis=0) for name in "abc"])
    np.testing.assert_allclose(means - means.mean(axis=0), 0, atol=0.02)
    assert np.linalg.matrix_rank(x - found, tol=1e-6) == 2  # three speakers differ in two directions
