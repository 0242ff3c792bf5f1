"""Models on pooled features: linear discriminant analysis against the densities that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from benchmarks.tuning_models import discriminant, shrunken, weighted_discriminant, whitened


@pytest.mark.parametrize("shrinkage", [0.1, 0.5, 1.0])
def test_the_discriminant_is_that_of_normal_densities_with_one_shrunken_covariance(shrinkage):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], (4, 6, 10))
    x = 2 * np.eye(3, 30)[labels] + rng.normal(size=(20, 30)) * np.linspace(0.5, 2, 30)
    other = rng.normal(size=(7, 30))
    means = np.stack([x[labels == k].mean(axis=0) for k in range(3)])
    within = x - means[labels]
    covariance = within.T @ within / len(x)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 30 * np.eye(30)
    logs = np.stack([multivariate_normal(mean, covariance).logpdf(other) for mean in means], axis=1)
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True)) * np.bincount(labels)
    expected = likelihood / likelihood.sum(axis=1, keepdims=True)
    found = discriminant(shrinkage)((x, labels, other))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_nearest_class_mean_of_whitened_features_is_linear_discriminant_analysis():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 20)
    x = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=(3, 5))[labels]
    other = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5))
    seen = []

    def nearest_mean(part, weights):
        a, y, b = part
        seen.append(a)
        means = np.stack([a[y == name].mean(axis=0) for name in range(3)])
        return -((b[:, None] - means) ** 2).sum(axis=2)

    found = whitened(0.3, nearest_mean)((x, labels, other)).argmax(axis=1)
    expected = discriminant(0.3)((x, labels, other)).argmax(axis=1)
    assert found.tolist() == expected.tolist() and len(set(found)) == 3
    assert (seen[0] ** 2).sum() == pytest.approx((x**2).sum())


def test_the_weighted_discriminant_is_that_of_repeated_clips():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 40)
    x = rng.normal(size=(40, 6)) + labels[:, None] * rng.normal(size=6)
    times = rng.integers(1, 4, 40)
    coefficients, intercepts = weighted_discriminant(x, labels, 0.1 * times, 0.3)
    model = shrunken(0.3).fit(np.repeat(x, times, axis=0), np.repeat(labels, times))
    np.testing.assert_allclose(coefficients.T, model.coef_, rtol=1e-8)
    np.testing.assert_allclose(intercepts, model.intercept_, rtol=1e-8)
    other = rng.normal(size=(5, 6))
    found = discriminant(0.3)((x, labels, other), 0.1 * times)
    np.testing.assert_allclose(found, model.predict_proba(other), atol=1e-10)
