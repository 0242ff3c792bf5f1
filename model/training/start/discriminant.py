"""Linear discriminant analysis in closed form, with a shrunken covariance, and the temperature of its scores.

Every class is taken as a normal distribution; all have one covariance. The score of a class is the logarithm
of its prior times its density. The covariance is shrunken towards a multiple of the identity (Friedman 1989,
"Regularized Discriminant Analysis", doi:10.1080/01621459.1989.10478752), without which it could not be
inverted: frozen encoders give more features than a small corpus has clips.

Axes: N clips, F features, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LEAST_PRIOR = 1e-12  # of a class without a clip
LEAST_SHARE = 1e-9  # of the variance that is taken to be within classes
FOLDS = 5  # groups of speakers that are left out in turn
# Limits of the temperature. The first is 1, so that probabilities never get more confident than the analysis
# itself; in small groups of clips, a temperature below 1 can fit by chance.
LIMITS = (1.0, 1000.0)


class Clips(NamedTuple):
    """The clips that a head is computed from.

    Attributes:
        features: float64 [N,F].
        targets: float64 [N,C], distributions over the classes.
        weights: float64 [N], above 0.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor

    def some(self, rows: Tensor) -> Clips:
        """Return some of the clips, by bool [N] or int64 [n]."""
        return Clips(*(values[rows] for values in self))


def discriminant(clips: Clips, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return the coefficients, float64 [C,F], and the intercepts, float64 [C], of the scores of the classes.

    A clip whose target is a distribution counts for every class with its share. A class without a clip gets
    the coefficients 0 and a prior of 1e-12.

    Args:
        clips: the training clips.
        shrinkage: s, above 0 and up to 1. The covariance within classes S becomes (1 - s) S + s m I, where m
            is the mean variance within classes over the min(F, N - 1) dimensions that N clips can span.

    >>> clips = Clips(torch.tensor([[0.0], [2.0]]).double(), torch.eye(2).double(), torch.ones(2).double())
    >>> discriminant(clips, 1.0)[0].shape
    torch.Size([2, 1])
    """
    share = clips.weights / clips.weights.sum()
    member = clips.targets * share[:, None]  # [N,C]
    prior = member.sum(dim=0)
    inverse = torch.where(prior > 0, 1 / prior.clamp_min(LEAST_PRIOR), 0.0)
    own = member.sum(dim=1)
    centre = own @ clips.features
    x = clips.features - centre
    means = (member * inverse).T @ x  # [C,F]
    # S = x' P x with P = diag(own) - member diag(1 / prior) member', and its trace `within`.
    whole = (own @ x.square()).sum()
    within = whole - (prior * means.square().sum(dim=1)).sum()
    # Also where the clips of each class are equal, the equations can be solved.
    within = torch.maximum(within, LEAST_SHARE * whole).clamp_min(LEAST_SHARE)
    spread = shrinkage * within / max(1, min(x.shape[1], len(x) - 1))
    if len(x) < x.shape[1]:
        # (spread I + (1 - s) x' P x)^-1 x' = x' (spread I + (1 - s) P x x')^-1: a system of N equations.
        gram = x @ x.T
        system = own[:, None] * gram - member @ (inverse[:, None] * (member.T @ gram))
        system = (1 - shrinkage) * system
        system.diagonal().add_(spread)
        coefficients = torch.linalg.solve(system, member * inverse).T @ x
    else:
        system = (x.T * own) @ x - means.T @ (prior[:, None] * means)
        system = (1 - shrinkage) * system
        system.diagonal().add_(spread)
        coefficients = torch.linalg.solve(system, means.T).T
    intercepts = prior.clamp_min(LEAST_PRIOR).log() - (means * coefficients).sum(dim=1) / 2
    return coefficients, intercepts - coefficients @ centre


def find_temperature(clips: Clips, speakers: Sequence[str], shrinkage: float) -> float:
    """Return the temperature by which scores are divided to give the best probabilities for unseen speakers.

    The speakers are divided into at most five groups. The clips of each group are scored by the
    discriminant analysis of the other groups; the temperature has the smallest weighted cross-entropy on
    these scores, within 1 to 1000.

    Args:
        clips: the training clips.
        speakers: speaker of each clip, N names.
        shrinkage: that of `discriminant`.

    Returns:
        the temperature; 1 for clips of a single speaker.
    """
    from scipy.optimize import minimize_scalar  # slow to import, and only this function needs it

    names = sorted(set(speakers))
    group_of = {name: number % FOLDS for number, name in enumerate(names)}
    group = torch.tensor([group_of[name] for name in speakers])
    if len(names) < 2:
        return 1.0
    scores = torch.empty_like(clips.targets)
    for number in range(min(FOLDS, len(names))):
        held = group == number
        coefficients, intercepts = discriminant(clips.some(~held), shrinkage)
        scores[held] = clips.features[held] @ coefficients.T + intercepts
    share = clips.weights / clips.weights.sum()

    def loss(log_t: float) -> float:
        log_p = (scores / math.exp(log_t)).log_softmax(dim=1)
        return -float((share[:, None] * clips.targets * log_p).sum())

    found = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-4})
    return float(math.exp(found.x))
