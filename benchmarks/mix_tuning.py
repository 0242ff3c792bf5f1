"""What clips of another corpus add to a small one, by their weight, on training speakers alone.

The first corpus is that of `benchmarks.emotional_tuning`: for every test speaker, the other speakers are
validated one by one by models of the remaining ones. Here all clips of the corpora of ``mix`` are trained on,
too, with a weight; they need not have every stage. Features are standardised over the training clips of all
corpora, as with ``model.standardise``.

    python -m benchmarks.mix_tuning configs/emotional_av.yaml corpus.root=/clips "mix=[ravdess_voices]" \\
        mix_test=false --out mix_tuning.json
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.emotional_tuning import LEAST, Model, Rows, balanced, mean_figures
from benchmarks.encoder_tuning import arguments, logistic, network, principal, report
from benchmarks.ravdess_svm import uar
from deiii.data.config.words import read_settings
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.machine import machine, source_revision

Trial = tuple[str, float, Model]  # what was tried, weight of the other corpora's clips, model


def trials() -> Iterator[Trial]:
    """Everything that was tried."""
    for weight in (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        yield "logistic regression, C=0.003", weight, logistic(0.003)
    for strength in (0.001, 0.01):
        yield f"logistic regression, C={strength:g}", 0.1, logistic(strength)
    words: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 0.3}
    for weight in (0.05, 0.1, 0.2):
        yield "SGD, 6 epochs, weight decay 0.3", weight, network(0, 0, **words, epochs=6)
    for epochs, decay in ((3, 0.3), (12, 0.3), (6, 0.1), (6, 1.0)):
        own = words | {"weight_decay": decay, "epochs": epochs}
        yield f"SGD, {epochs} epochs, weight decay {decay:g}", 0.1, network(0, 0, **own)


def standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Features with mean 0 and deviation 1 over the training clips that have them; 0 for the others."""
    some = train[~np.isnan(x[train, 0])]
    scale = np.maximum(x[some].std(axis=0), LEAST)
    return np.nan_to_num((x - x[some].mean(axis=0)) / scale)


def validate(
    parts: list[np.ndarray], balance: float, weights: np.ndarray, model: Model, labels, speakers, own
) -> dict[str, Any]:
    """Mean validation UAR over the test speakers, and that of each test speaker's models.

    Args:
        parts: features of each stage, [N,F]; NaN for clips without the stage.
        balance: as ``model.balance``.
        weights: of the clips, [N]; those of weight 0 are left out.
        model: trains and predicts.
        labels, speakers: of the clips, [N].
        own: clips of the first corpus, bool [N].
    """
    names = np.unique(speakers[own])
    found: dict[str, list[float]] = {str(name): [] for name in names}
    for pair in itertools.combinations(names, 2):
        held = np.isin(speakers, pair)
        train = np.flatnonzero(~held & (weights > 0))
        x = balanced([standardised(part, train) for part in parts], balance)
        both = np.flatnonzero(held)
        a, b = principal(x, train, both)
        guess = model((a, labels[train], b), weights[train]).argmax(axis=1)
        for test, validated in (pair, pair[::-1]):
            rows = speakers[both] == validated
            found[str(test)].append(uar(labels[both][rows], guess[rows]))
    return mean_figures(found)


def main() -> None:
    args = arguments(__doc__)
    config = read_settings(args.settings)
    features = FeatureSet.open(config)
    labels = np.array([features.classes.index(clip.label or "") for clip in features.clips])
    speakers = np.array([clip.speaker for clip in features.clips])
    first = features.corpus.parts[0]
    own = np.array([clip.id.partition(":")[0] == first for clip in features.clips])
    rows = {stage: Rows(features, stage, lacking=True) for stage in config.model.extra}
    result: dict[str, Any] = {
        "bench": "mix_tuning", "corpus": features.corpus.name, "stages": config.model.extra,
        "balance": config.model.balance, "clips": [int(own.sum()), int((~own).sum())],
        "machine": machine(), "revision": source_revision(), "trials": [],
    }  # fmt: skip
    torch.set_num_threads(1)
    parts = {
        level: [rows[stage].vectors(groups) for stage in config.model.extra]
        for level, groups in (("clip", None), ("by speaker", speakers))
    }
    for name, weight, model in trials():
        weights = np.where(own, 1.0, weight)
        entry: dict[str, Any] = {"trial": name, "weight": weight}
        for level, vectors in parts.items():
            entry[level] = validate(vectors, config.model.balance, weights, model, labels, speakers, own)
        result["trials"].append(entry)
        uars = f"{entry['clip']['uar']:.3f} {entry['by speaker']['uar']:.3f}"
        report(f"{uars} {weight:g} {name}", result, args.out)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
