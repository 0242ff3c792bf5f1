"""The models that `benchmarks.encoder_tuning` and others try on pooled features of frozen encoders.

Each one is a function of `Part`, and of the weights of the training clips, [N], where it takes them. It
returns probabilities of the validation clips, [M,C].

    >>> logistic(0.003)((x, labels, other)).shape                     # doctest: +SKIP
    (24, 6)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from deiii.data.config.schema import TrainConfig
from deiii.model.training.optim import learning_rate, make_optimizer, set_learning_rate

Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # features and classes for training, features for validation


def logistic(strength: float) -> Callable[..., np.ndarray]:
    """Return a function that fits logistic regression with strength C and predicts the validation clips."""

    def run(part: Part, weights: np.ndarray | None = None) -> np.ndarray:
        x, labels, other = part
        model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
        return model.fit(x, labels, sample_weight=weights).predict_proba(other)

    return run


def shrunken(shrinkage: float) -> LinearDiscriminantAnalysis:
    """Return linear discriminant analysis with a shrunken covariance; see `discriminant`."""
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)


def discriminant(shrinkage: float) -> Callable[..., np.ndarray]:
    """Return a function that fits linear discriminant analysis and predicts the validation clips.

    Source: Friedman 1989, "Regularized Discriminant Analysis", doi:10.1080/01621459.1989.10478752.

    Args:
        shrinkage: share, 0 to 1, of the identity, times the mean variance, in the covariance within classes.
    """

    def run(part: Part, weights: np.ndarray | None = None) -> np.ndarray:
        x, labels, other = part
        if weights is None:
            return shrunken(shrinkage).fit(x, labels).predict_proba(other)
        scores = other @ (found := weighted_discriminant(x, labels, weights, shrinkage))[0] + found[1]
        return softmax(scores, axis=1)

    return run


def weighted_discriminant(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray, shrinkage: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients [F,C] and intercepts [C] of `discriminant` for clips that have weights.

    Args:
        x: features on principal axes, [N,F].
        labels: numbers of the classes from 0 on, [N]; each class has a clip.
        weights: positive weights of the clips, [N].
        shrinkage: as in `discriminant`.
    """
    x, share = x.astype(np.float64), weights / weights.sum()
    member = np.eye(int(labels.max()) + 1)[labels]
    prior = share @ member
    means = (member * share[:, None]).T @ x / prior[:, None]
    rest = (x - means[labels]) * np.sqrt(share)[:, None]
    covariance = (1 - shrinkage) * rest.T @ rest
    covariance.flat[:: len(covariance) + 1] += shrinkage * np.square(rest).sum() / len(covariance)
    coefficients = np.linalg.solve(covariance, means.T)
    return coefficients, np.log(prior) - np.sum(means.T * coefficients, axis=0) / 2


def whitened(shrinkage: float, model: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a function that whitens features by their covariance within classes, then runs another model.

    Linear discriminant analysis compares distances to the class means in these features. They are scaled so
    that the sum of their squares over the training clips is as before.

    Args:
        shrinkage: as in `discriminant`.
        model: function of `Part`, such as `network` returns.
    """

    def run(part: Part, weights: np.ndarray | None = None) -> np.ndarray:
        x, labels, other = part
        means = np.stack([x[labels == name].mean(axis=0) for name in range(labels.max() + 1)])
        rest = x - means[labels]
        covariance = rest.T @ rest / len(x)
        shrunk = (1 - shrinkage) * covariance
        shrunk += shrinkage * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        values, axes = np.linalg.eigh(shrunk)
        axes = axes / np.sqrt(values)
        axes *= np.sqrt((x**2).sum() / ((x @ axes) ** 2).sum())
        return model((x @ axes, labels, other @ axes), weights)

    return run


def network(
    hidden: int, dropout: float, inputs: float = 0.0, mixup: float = 0.0, seed: int = 0, **words: Any
) -> Any:
    """Return a function that trains a linear or a hidden layer with deiii's optimisers, in batches of 32.

    Args:
        hidden: width of the hidden layer; 0 for none.
        dropout: dropout after the hidden layer.
        inputs: dropout of the features.
        mixup: parameter of the beta distribution of mixup; 0 for none.
        seed: seed of the initial weights, the order of the clips and dropout.
        words: settings of `TrainConfig`.
    """
    settings = TrainConfig(label_smoothing=0.1, **words)

    def run(part: Part, weights: np.ndarray | None = None) -> np.ndarray:
        torch.manual_seed(seed)
        shares = torch.ones(len(part[0])) if weights is None else torch.from_numpy(weights).float()
        x, other = (torch.from_numpy(np.ascontiguousarray(v)).float() for v in (part[0], part[2]))
        classes = int(part[1].max()) + 1
        target = F.one_hot(torch.from_numpy(part[1]), classes).float()
        layers: list[nn.Module] = [nn.Dropout(inputs)]
        if hidden:
            first = nn.Linear(x.shape[1], hidden)
            layers += [first, nn.SiLU(), nn.Dropout(dropout)]
        model = nn.Sequential(*layers, nn.Linear(hidden or x.shape[1], classes))
        optimizer = make_optimizer(model, settings, torch.device("cpu"))
        batches = math.ceil(len(x) / 32)
        total = settings.epochs * batches
        for step in range(total):
            if step % batches == 0:
                order = torch.randperm(len(x))
            rows = order[32 * (step % batches) : 32 * (step % batches + 1)]
            set_learning_rate(optimizer, learning_rate(step, total, settings))
            _step(model, optimizer, x[rows], target[rows], mixup, settings, shares[rows])
        with torch.no_grad():
            return model.eval()(other).softmax(dim=1).numpy()

    return run


def averaged(seeds: int, hidden: int, dropout: float, **words: Any) -> Callable[..., np.ndarray]:
    """Return a function for the mean probabilities of several `network`, with the seeds from 0 on."""
    networks = [network(hidden, dropout, seed=seed, **words) for seed in range(seeds)]

    def run(part: Part, weights: np.ndarray | None = None) -> np.ndarray:
        return np.mean([own(part, weights) for own in networks], axis=0)

    return run


def _step(
    model: nn.Module,
    optimizer: Any,
    x: Tensor,
    target: Tensor,
    mixup: float,
    settings: TrainConfig,
    weights: Tensor,
) -> None:
    if mixup:
        share, other = float(torch.distributions.Beta(mixup, mixup).sample()), torch.randperm(len(x))
        x, target = share * x + (1 - share) * x[other], share * target + (1 - share) * target[other]
    smooth = settings.label_smoothing
    each = F.cross_entropy(model(x), target, label_smoothing=smooth, reduction="none")
    loss = (weights * each).sum() / weights.sum()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    optimizer.step()
