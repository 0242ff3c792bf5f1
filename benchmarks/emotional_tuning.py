"""Score the models that were tried for emotional clips of few speakers, on training speakers alone.

For every test speaker, the other speakers are validated one by one by models of the remaining ones. The test
speaker has no part in it. Features are mean and standard deviation over time of every layer of every stage,
as with ``model.join=pooled``; ``model.balance`` weighs the stages. Models are logistic regression, linear
discriminant analysis and the linear network with SGD of `benchmarks.tuning_models`. With "by speaker", rows
are standardised with the unlabelled clips of their speaker, as with ``loader.normalise=speaker``.

    python -m benchmarks.emotional_tuning configs/emotional_av.yaml corpus.root=/clips --out tuning.json
    python -m benchmarks.emotional_tuning ... --fewer    # what one training speaker more or less changes
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.encoder_reference import rows_of_clips, stage_factors
from benchmarks.encoder_tuning import SHRINKAGES, arguments, principal, report, standardised
from benchmarks.machine import made_by
from benchmarks.ravdess_svm import uar
from benchmarks.tuning_models import Part, discriminant, logistic, network, whitened
from deiii.data.config.words import read_settings
from deiii.data.loader.feature_set import FeatureSet

LEAST = 1e-4  # smallest deviation of a feature that it is divided by
FACES = ("fer-emotion", "faceres-deep")
Model = Callable[[Part], np.ndarray]
Trial = tuple[str, tuple[str, ...], float, Model]  # what was tried, stages, balance, model


class Rows:
    """Mean and variance over time of a stage's rows, for each clip.

    Args:
        features: features of the clips.
        stage: name of the stage.
        lacking: whether clips may lack the stage; their moments are NaN.

    Attributes:
        count: [N] rows.
        mean, variance: [N,F].

    Raises:
        ValueError: a clip lacks the stage, and ``lacking`` is false.
    """

    def __init__(self, features: FeatureSet, stage: str, lacking: bool = False):
        found = list(rows_of_clips(features, stage))
        clips = [x.reshape(len(x), -1) for x in found if x is not None]
        if len(clips) < len(features) and not lacking:
            raise ValueError(f"{len(features) - len(clips)} clips have no {stage} features; leave them out")
        none = np.full((1, clips[0].shape[1]), np.nan, np.float32)
        clips = [none if x is None else x.reshape(len(x), -1) for x in found]
        self.count = np.array([len(x) for x in clips], float)
        self.mean = np.stack([x.mean(axis=0) for x in clips])
        self.variance = np.stack([x.var(axis=0) for x in clips])

    def vectors(self, speakers: np.ndarray | None) -> np.ndarray:
        """Return mean and deviation of each clip, [N,2F], of rows standardised by speaker if given."""
        mean, deviation = self.mean.copy(), np.sqrt(self.variance + 1e-6)
        for name in () if speakers is None else np.unique(speakers):
            own = speakers == name
            weight = self.count[own] / self.count[own].sum()
            centre = weight @ self.mean[own]
            scale = np.sqrt(weight @ (self.variance[own] + (self.mean[own] - centre) ** 2))
            scale = np.maximum(scale, LEAST)
            mean[own] = (mean[own] - centre) / scale
            deviation[own] = deviation[own] / scale
        return np.concatenate((mean, deviation), axis=1)


def trials() -> Iterator[Trial]:
    """Yield everything that was tried."""
    voices, faces = ("speech", "speech2"), FACES
    usual = network(0, 0, optimizer="sgd", lr=0.01, weight_decay=0.1, epochs=30)
    for stage in (*voices, *faces):
        yield f"{stage} alone, SGD, 30 epochs", (stage,), 0.0, usual
    yield "both voices, SGD, 30 epochs", voices, 0.0, usual
    for face in faces:
        for balance in (0.0, 0.5, 0.75, 1.0):
            yield f"both voices and {face}, SGD, 30 epochs", (*voices, face), balance, usual
    yield "both voices and both faces, SGD, 30 epochs", (*voices, *faces), 0.75, usual
    best = (*voices, FACES[0])
    for epochs in (15, 60, 120):
        words: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 0.1, "epochs": epochs}
        yield f"SGD, {epochs} epochs", best, 0.75, network(0, 0, **words)
    for decay, epochs, balance in (
        (0.03, 30, 0.75), (0.3, 30, 0.75), (0.3, 60, 0.75), (1.0, 60, 0.75), (0.3, 60, 0.5), (0.3, 60, 1.0)
    ):  # fmt: skip
        words = {"optimizer": "sgd", "lr": 0.01, "weight_decay": decay, "epochs": epochs}
        yield f"SGD, {epochs} epochs, weight decay {decay:g}", best, balance, network(0, 0, **words)
    mixed = network(0, 0, mixup=0.4, optimizer="sgd", lr=0.01, weight_decay=0.1, epochs=60)
    yield "SGD, 60 epochs, mixup 0.4", best, 0.75, mixed
    words = {"optimizer": "sgd", "lr": 0.01, "epochs": 30}
    for decay in (0.3, 1.0):
        for shrinkage in (0.1, 0.3, 0.5):
            model = whitened(shrinkage, network(0, 0, **words, weight_decay=decay))
            yield f"whitened, shrinkage {shrinkage:g}, SGD, weight decay {decay:g}", best, 0.75, model
    for strength in (0.001, 0.003, 0.01, 0.03):
        yield f"logistic regression, C={strength:g}", best, 0.75, logistic(strength)
    for shrinkage in SHRINKAGES:
        yield f"linear discriminant analysis, shrinkage {shrinkage:g}", best, 0.75, discriminant(shrinkage)


def balanced(parts: list[np.ndarray], balance: float) -> np.ndarray:
    """Return the standardised vectors of the stages side by side, weighted as by ``model.balance``."""
    factors = stage_factors([x.shape[1] for x in parts], balance)
    return np.concatenate([f * x for f, x in zip(factors, parts, strict=True)], axis=1)


def validate(
    parts: list[np.ndarray], balance: float, model: Model, labels, speakers, spared: int = 0
) -> dict[str, Any]:
    """Return the mean validation UAR over the test speakers, and that of each test speaker's models.

    Args:
        parts: features of each stage, [N,F].
        balance: value of ``model.balance``.
        model: trains and predicts.
        labels, speakers: labels and speakers of the clips, [N].
        spared: number of the remaining speakers that are not trained on; the mean is over all choices.
    """
    names = np.unique(speakers)
    found: dict[str, list[float]] = {str(name): [] for name in names}
    for pair in itertools.combinations(names, 2):
        rest = [name for name in names if name not in pair]
        for away in itertools.combinations(rest, spared):
            # The same model validates one speaker of the pair where the other one is the test speaker.
            train = np.flatnonzero(~np.isin(speakers, (*pair, *away)))
            x = balanced([standardised(part, train) for part in parts], balance)
            for test, validated in (pair, pair[::-1]):
                other = np.flatnonzero(speakers == validated)
                a, b = principal(x, train, other)
                guess = model((a, labels[train], b)).argmax(axis=1)
                found[str(test)].append(uar(labels[other], guess))
    return mean_figures(found)


def mean_figures(found: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the mean of the validation UARs of each test speaker's models, and over the test speakers."""
    of_test = {name: round(float(np.mean(own)), 4) for name, own in found.items()}
    return {"uar": round(float(np.mean([*of_test.values()])), 4), "by_test_speaker": of_test}


def fewer_speakers() -> Iterator[Trial]:
    """Yield what is trained on all remaining speakers, and on all but one of them."""
    best = ("speech", "speech2", FACES[0])
    words: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 0.3, "epochs": 30}
    yield "SGD, 30 epochs, weight decay 0.3", best, 0.75, network(0, 0, **words)
    yield "logistic regression, C=0.003", best, 0.75, logistic(0.003)


def main() -> None:
    args = arguments(__doc__, {"fewer": "try the settings with one training speaker less, too"})
    rows: dict[str, Rows] = {}
    for face in FACES:
        features = FeatureSet.open(read_settings([*args.settings, f"appearance.encoder={face}"]))
        rows[face] = Rows(features, "appearance")
        for voice in ("speech", "speech2"):
            rows[voice] = Rows(features, voice)
    labels = np.array([features.classes.index(clip.label or "") for clip in features.clips])
    speakers = np.array([clip.speaker for clip in features.clips])
    result: dict[str, Any] = {
        "bench": "emotional_tuning", **made_by(), "trials": [],
    }  # fmt: skip
    torch.set_num_threads(1)
    tried = [(trial, 0) for trial in trials()]
    if args.fewer:
        tried = [(trial, spared) for trial in fewer_speakers() for spared in (0, 1)]
    tried = [(trial, spared) for trial, spared in tried if args.only in trial[0]]
    for (name, stages, balance, model), spared in tried:
        entry: dict[str, Any] = {"trial": name, "stages": stages, "balance": balance}
        entry["training_speakers"] = len(np.unique(speakers)) - 2 - spared
        for level, own in (("clip", None), ("by speaker", speakers)):
            parts = [rows[stage].vectors(own) for stage in stages]
            entry[level] = validate(parts, balance, model, labels, speakers, spared)
        result["trials"].append(entry)
        uars = f"{entry['clip']['uar']:.3f} {entry['by speaker']['uar']:.3f}"
        report(f"{uars} {balance} {name}", result, args.out)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
