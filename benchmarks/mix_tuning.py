"""Score models of a small corpus and a weighted second one, on training speakers alone.

The first corpus is that of `benchmarks.emotional_tuning`: for every test speaker, the other speakers are
validated one by one by models of the remaining ones. Here all clips of the corpora of ``mix`` are trained on,
too, with a weight; they need not have every stage. Features are standardised over the training clips of all
corpora, as with ``model.standardise``. With ``copies``, each trial is made without copies, with those of
one of the corpora and with all; a copy has the weight of the clip that it is made of. Copies of the
validated speakers are not trained on. The last figure of a line has the features of a speaker standardised
with those of the same copy alone.

    python -m benchmarks.mix_tuning configs/emotional_av.yaml corpus.root=/clips "mix=[ravdess_voices]" \\
        mix_test=false --out mix_tuning.json
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.emotional_tuning import LEAST, Model, Rows, balanced, mean_figures
from benchmarks.encoder_tuning import SHRINKAGES, arguments, principal, report
from benchmarks.machine import made_by
from benchmarks.ravdess_svm import uar
from benchmarks.tuning_models import discriminant, logistic, network
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.mixture import mixed_configs

Trial = tuple[str, float, Model]  # what was tried, weight of the other corpora's clips, model
COPIES = ("none", "own", "others", "all")  # those that are trained on


def trials(copies: bool) -> Iterator[Trial]:
    """Yield everything that was tried, without and with copies."""
    words: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 0.3}
    if copies:
        for weight in (0.02, 0.05, 0.1):
            yield "logistic regression, C=0.003", weight, logistic(0.003)
        yield "logistic regression, C=0.001", 0.05, logistic(0.001)
        for epochs, decay in ((6, 0.3), (3, 0.3), (2, 0.3), (6, 1.0)):
            own = words | {"weight_decay": decay, "epochs": epochs}
            yield f"SGD, {epochs} epochs, weight decay {decay:g}", 0.05, network(0, 0, **own)
        return
    for weight in (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        yield "logistic regression, C=0.003", weight, logistic(0.003)
    for strength in (0.001, 0.01):
        yield f"logistic regression, C={strength:g}", 0.1, logistic(strength)
    for weight in (0.05, 0.1, 0.2):
        yield "SGD, 6 epochs, weight decay 0.3", weight, network(0, 0, **words, epochs=6)
    for epochs, decay in ((3, 0.3), (12, 0.3), (6, 0.1), (6, 1.0)):
        own = words | {"weight_decay": decay, "epochs": epochs}
        yield f"SGD, {epochs} epochs, weight decay {decay:g}", 0.1, network(0, 0, **own)
    for weight in (0.0, 0.02, 0.05, 0.1):
        for shrinkage in SHRINKAGES:
            name = f"linear discriminant analysis, shrinkage {shrinkage:g}"
            yield name, weight, discriminant(shrinkage)


def standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return features with mean 0 and deviation 1 over the training clips that have them; 0 for others."""
    some = train[~np.isnan(x[train, 0])]
    scale = np.maximum(x[some].std(axis=0), LEAST)
    return np.nan_to_num((x - x[some].mean(axis=0)) / scale)


def validate(
    parts: list[np.ndarray],
    balance: float,
    tried: Sequence[tuple[np.ndarray, Model]],
    labels: np.ndarray,
    speakers: np.ndarray,
    own: np.ndarray,
) -> list[dict[str, Any]]:
    """Return for each trial the mean validation UAR over the test speakers, and that of each one's models.

    Args:
        parts: features of each stage, [N,F]; NaN for clips without the stage.
        balance: value of ``model.balance``.
        tried: weights of the clips, [N], and what trains and predicts; clips of weight 0 are left out.
        labels, speakers: labels and speakers of the clips, [N].
        own: clips of the first corpus, without its copies, bool [N].
    """
    names = np.unique(speakers[own])
    found: list[dict[str, list[float]]] = [{str(name): [] for name in names} for _ in tried]
    for pair in itertools.combinations(names, 2):
        held = np.isin(speakers, pair)
        both = np.flatnonzero(held & own)
        known: dict[bytes, Any] = {}  # by the clips that are trained on: many trials have the same
        for uars, (weights, model) in zip(found, tried, strict=True):
            train = np.flatnonzero(~held & (weights > 0))
            if train.tobytes() not in known:
                x = balanced([standardised(part, train) for part in parts], balance)
                known[train.tobytes()] = principal(x, train, both)
            a, b = known[train.tobytes()]
            guess = model((a, labels[train], b), weights[train]).argmax(axis=1)
            for test, validated in (pair, pair[::-1]):
                rows = speakers[both] == validated
                uars[str(test)].append(uar(labels[both][rows], guess[rows]))
    return [mean_figures(uars) for uars in found]


def main() -> None:
    args = arguments(__doc__)
    config = read_settings(args.settings)
    features = FeatureSet.open(config)
    labels = np.array([features.classes.index(clip.label or "") for clip in features.clips])
    speakers = np.array([clip.speaker for clip in features.clips])
    parts_of, divided = features.part, features.corpus.divided
    if parts_of is None or divided is None:
        raise ConfigError("the other corpora are trained on alone: set mix, and mix_test=false")
    copied = np.array([bool(part.corpus.corrupt) for part in mixed_configs(config)])[parts_of]
    people = np.isin(speakers, divided.speakers)
    own = people & ~copied
    rows = {stage: Rows(features, stage, lacking=True) for stage in config.model.extra}
    result: dict[str, Any] = {
        "bench": "mix_tuning", "corpus": features.corpus.name, "stages": config.model.extra,
        "balance": config.model.balance, "clips": [int(own.sum()), int((~people & ~copied).sum())],
        "copies": int(copied.sum()),
        **made_by(), "trials": [],
    }  # fmt: skip
    torch.set_num_threads(1)
    levels = {"clip": None, "by speaker": speakers}
    if copied.any():
        levels["by copy"] = np.char.add(parts_of.astype(str), speakers)
    parts = {
        level: [rows[stage].vectors(groups) for stage in config.model.extra]
        for level, groups in levels.items()
    }
    used = {"none": ~copied, "own": ~copied | people, "others": ~copied | ~people, "all": copied | ~copied}
    for copies in COPIES if copied.any() else COPIES[:1]:
        named = [trial for trial in trials(bool(copied.any())) if args.only in trial[0]]
        tried = [
            (np.where(used[copies], np.where(people, 1.0, weight), 0.0), model) for _, weight, model in named
        ]
        scores = {
            level: validate(vectors, config.model.balance, tried, labels, speakers, own)
            for level, vectors in parts.items()
        }
        for number, (name, weight, _) in enumerate(named):
            entry: dict[str, Any] = {"trial": name, "weight": weight, "copies": copies}
            entry |= {level: figures[number] for level, figures in scores.items()}
            result["trials"].append(entry)
            uars = " ".join(f"{entry[level]['uar']:.3f}" for level in levels)
            report(f"{uars} {weight:g} {name}; copies: {copies}", result, args.out)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
