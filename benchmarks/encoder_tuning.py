"""Score the models that were tried on frozen speech encoders, on training speakers alone.

The training and validation speakers of some folds are divided into five groups, in two ways; each group
validates what the other four trained. The test speakers of a fold are not scored. Features are mean and
standard deviation over time of every layer, as in `benchmarks.encoder_reference`. Linear models and networks
with SGD do not depend on the axes of the features, so they are trained on the principal axes of the training
clips, which is faster; AdamW does, and is not.

    python -m benchmarks.encoder_tuning configs/ravdess_speech.yaml --out tuning.json

With ``copies=[speed=0.9, speed=1.1]`` further models are tried, which are also trained on these copies.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.encoder_reference import rows_of_clips
from benchmarks.machine import made_by
from benchmarks.ravdess_svm import uar
from benchmarks.tuning_models import averaged, discriminant, logistic, network
from deiii.data.config.words import read_settings
from deiii.data.corpora.splits import make_split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.mixture import copies_of
from deiii.data.tools.atomic_files import write_json

FOLDS, GROUPS = (0, 2, 4), 5
LEAST = 1e-4  # smallest deviation of a feature that it is divided by
Features = dict[str, np.ndarray]  # by stage and statistic, float32 [N,F]


def statistics(features: FeatureSet, stages: list[str]) -> Features:
    """Return mean, deviation, deviation of changes and maximum over time of the rows of each stage.

    Raises:
        ValueError: a clip lacks a stage.
    """
    found: Features = {}
    for stage in stages:
        clips = [rows.reshape(len(rows), -1) for rows in rows_of_clips(features, stage) if rows is not None]
        if len(clips) < len(features):
            raise ValueError(f"{len(features) - len(clips)} clips have no {stage} features; leave them out")
        found[f"{stage} mean"] = np.stack([x.mean(axis=0) for x in clips])
        found[f"{stage} deviation"] = np.stack([x.std(axis=0) for x in clips])
        found[f"{stage} change"] = np.stack([np.diff(x, axis=0).std(axis=0) for x in clips])
        found[f"{stage} maximum"] = np.stack([x.max(axis=0) for x in clips])
    return found


def standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return features with mean 0 and deviation 1 over the training clips."""
    return (x - x[train].mean(axis=0)) / np.maximum(x[train].std(axis=0), LEAST)


def without_speakers(x: np.ndarray, train: np.ndarray, speakers: np.ndarray, strength: float) -> np.ndarray:
    """Shrink the directions in which the means of the training speakers differ.

    Source: nuisance attribute projection (Solomonoff et al. 2005, ICASSP), with a soft limit.
    """
    means = np.stack([x[train][speakers[train] == name].mean(axis=0) for name in np.unique(speakers[train])])
    _, size, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    variance = size[:-1] ** 2 / len(means)
    axes = axes[:-1]
    return x - ((x @ axes.T) * (1 - 1 / np.sqrt(1 + strength * variance))) @ axes


def principal(x: np.ndarray, train: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return training and other clips on the principal axes of the training clips, without loss."""
    values, vectors = np.linalg.eigh(x[train] @ x[train].T)
    some = values > 1e-4 * values[-1]
    size = np.sqrt(values[some])
    return vectors[:, some] * size, x[other] @ (x[train].T @ vectors[:, some]) / size


LR = {f"C={c:g}": logistic(c) for c in (0.003, 0.01, 0.03)}
SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of linear discriminant analysis
SGD = {"optimizer": "sgd", "lr": 0.01, "epochs": 6}
HIDDEN = {"optimizer": "sgd", "lr": 0.03, "weight_decay": 0.03, "epochs": 12}  # with a hidden layer
# What was tried: stages and statistics, strength against speakers, whether on principal axes, model.
Trial = tuple[str, tuple[str, ...], float, bool, Any]


def trials(stages: list[str]) -> Iterator[Trial]:
    """Yield everything that was tried, by name."""
    usual = ("mean", "deviation")
    everything = tuple(f"{stage} {name}" for stage in stages for name in usual)
    for stage in stages:
        for name, model in LR.items():
            own = tuple(f"{stage} {statistic}" for statistic in usual)
            yield f"logistic regression, {stage} alone, {name}", own, 0.0, True, model
    for name, model in LR.items():
        yield f"logistic regression, all stages, {name}", everything, 0.0, True, model
    for shrinkage in SHRINKAGES:
        words = f"linear discriminant analysis, all stages, shrinkage {shrinkage:g}"
        yield words, everything, 0.0, True, discriminant(shrinkage)
    for more in ("change", "maximum"):
        wide = (*everything, *(f"{stage} {more}" for stage in stages))
        yield f"the same with each feature's {more}, C=0.003", wide, 0.0, True, LR["C=0.003"]
    for strength in (0.3, 3.0):
        words = f"the same with speakers' directions shrunk by {strength:g}, C=0.003"
        yield words, everything, strength, True, LR["C=0.003"]
    for name, model in {
        "linear, AdamW 5e-4, dropout of features 0.5, 15 epochs": network(0, 0, 0.5, lr=5e-4, epochs=15),
        "linear, AdamW 1e-3, 10 epochs": network(0, 0, lr=1e-3, epochs=10),
    }.items():
        yield name, everything, 0.0, False, model
    for name, model in {
        "linear, SGD, weight decay 0.3": network(0, 0, weight_decay=0.3, **SGD),
        "linear, SGD, weight decay 0.1 (the first recipe)": network(0, 0, weight_decay=0.1, **SGD),
        "linear, SGD, weight decay 0.03": network(0, 0, weight_decay=0.03, **SGD),
        "the first recipe, mixup 0.4, 10 epochs": network(
            0, 0, mixup=0.4, weight_decay=0.1, **{**SGD, "epochs": 10}
        ),
        "hidden layer of 128, SGD 0.03, dropout 0.5, 8 epochs": network(
            128, 0.5, optimizer="sgd", lr=0.03, weight_decay=0.01, epochs=8
        ),
        "hidden layer of 256, SGD 0.03, dropout 0.7, 12 epochs": network(
            256, 0.7, optimizer="sgd", lr=0.03, weight_decay=0.03, epochs=12
        ),
        "hidden layer of 128, SGD 0.03, mixup 0.4, 12 epochs": network(
            128, 0.5, mixup=0.4, optimizer="sgd", lr=0.03, weight_decay=0.01, epochs=12
        ),
        "hidden layer of 256, SGD 0.03, mixup 0.4, 12 epochs": network(256, 0.5, mixup=0.4, **HIDDEN),
        "the first recipe, five networks averaged": averaged(5, 0, 0, weight_decay=0.1, **SGD),
        "hidden layer of 64, SGD 0.03, 12 epochs, two networks averaged": averaged(2, 64, 0.5, **HIDDEN),
        "the same with 128": averaged(2, 128, 0.5, **HIDDEN),
        "the same with 256": averaged(2, 256, 0.5, **HIDDEN),
        "the same with 512": averaged(2, 512, 0.5, **HIDDEN),
        "256, weight decay 0.01": averaged(2, 256, 0.5, **{**HIDDEN, "weight_decay": 0.01}),
        "256, weight decay 0.1": averaged(2, 256, 0.5, **{**HIDDEN, "weight_decay": 0.1}),
        "256, 24 epochs": averaged(2, 256, 0.5, **{**HIDDEN, "epochs": 24}),
        "256, 24 epochs, one network (the recipe)": network(256, 0.5, **{**HIDDEN, "epochs": 24}),
        "256, 24 epochs, five networks averaged": averaged(5, 256, 0.5, **{**HIDDEN, "epochs": 24}),
    }.items():
        yield name, everything, 0.0, True, model


def trials_with_copies(stages: list[str]) -> Iterator[Trial]:
    """Yield what was tried with corrupted copies of the training clips, by name."""
    everything = tuple(f"{stage} {name}" for stage in stages for name in ("mean", "deviation"))
    for name, model in {
        "logistic regression, all stages, C=0.003": LR["C=0.003"],
        "hidden layer of 256, SGD 0.03, 8 epochs": network(256, 0.5, **{**HIDDEN, "epochs": 8}),
        "hidden layer of 256, SGD 0.03, 16 epochs (the recipe)": network(
            256, 0.5, **{**HIDDEN, "epochs": 16}
        ),
    }.items():
        yield name, everything, 0.0, True, model


def groupings(speakers: list[str], fold: int) -> dict[str, list[list[str]]]:
    """Return two ways to divide the speakers of RAVDESS into groups, because one alone could mislead.

    ``balanced`` groups have as many women (even numbers) as men and are drawn for each fold; the first recipe
    was chosen with these groups. Groups ``in order`` follow the numbers of the speakers.
    """
    numbers = sorted(int(name.rsplit("-", 1)[1]) for name in speakers)
    name = {int(s.rsplit("-", 1)[1]): s for s in speakers}
    drawn = np.random.RandomState(100 + fold).permutation(numbers)
    men, women = [n for n in drawn if n % 2], [n for n in drawn if n % 2 == 0]
    size = math.ceil(len(numbers) / GROUPS)
    return {
        "balanced": [[name[n] for n in men[g::GROUPS] + women[g::GROUPS]] for g in range(GROUPS)],
        "in order": [[name[n] for n in numbers[g * size : (g + 1) * size]] for g in range(GROUPS)],
    }


def splits(features: FeatureSet, config: Any, speakers: np.ndarray) -> dict[str, list[Any]]:
    """Return rows for training and for validation, for every group of every fold, keyed by the grouping."""
    found: dict[str, list[Any]] = {}
    for fold in FOLDS:
        config.split.fold = fold
        split = make_split(features.corpus, config.split)
        rows = np.sort(features.rows([*split.train, *split.val]))
        for grouping, groups in groupings(sorted(set(speakers[rows])), fold).items():
            for group in groups:
                other = np.isin(speakers[rows], group)
                found.setdefault(grouping, []).append((rows[~other], rows[other]))
    return found


def arguments(
    description: str | None, switches: Mapping[str, str] | None = None, trials: bool = True
) -> argparse.Namespace:
    """Return the arguments of a script that tries models on cached features: ``settings`` and ``out``.

    Args:
        description: description of the script.
        switches: help by name of further options that are on or off.
        trials: whether the script makes trials, of which ``--only`` chooses some.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="CONFIG or KEY=VALUE")
    parser.add_argument("--out", help="JSON file for the result")
    if trials:
        parser.add_argument(
            "--only", metavar="TEXT", default="", help="make the trials whose names contain this"
        )
    for name, words in (switches or {}).items():
        parser.add_argument(f"--{name}", action="store_true", help=words)
    return parser.parse_args()


def report(line: str, result: dict[str, Any], out: str | None) -> None:
    """Print a trial's line, and write everything so far, if a file is named for it."""
    print(line, flush=True)
    if out:
        write_json(out, result)


def main() -> None:
    args = arguments(__doc__)
    config = read_settings(args.settings)
    features = FeatureSet.open(replace(config, copies=[]))
    tables = [statistics(features, config.model.extra)]
    for part in copies_of(config):
        copy = FeatureSet.open(part)
        if [clip.id for clip in copy.clips] != [clip.id for clip in features.clips]:
            raise ValueError(f"{copy.corpus.name} has other usable clips than {features.corpus.name}")
        tables.append(statistics(copy, config.model.extra))
    table = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
    labels = np.array([features.classes.index(clip.label or "") for clip in features.clips])
    speakers = np.array([clip.speaker for clip in features.clips])
    parts = splits(features, config, speakers)
    labels, speakers = np.tile(labels, len(tables)), np.tile(speakers, len(tables))
    result: dict[str, Any] = {
        "bench": "encoder_tuning", "folds": FOLDS, "groups": GROUPS, "stages": config.model.extra,
        "copies": config.copies, **made_by(), "trials": {},
    }  # fmt: skip
    torch.set_num_threads(1)
    tried = trials_with_copies if config.copies else trials
    for name, columns, strength, rotated, model in tried(config.model.extra):
        if args.only not in name:
            continue
        x = np.concatenate([table[column] for column in columns], axis=1)
        own_result: dict[str, Any] = {}
        for grouping, pairs in parts.items():
            figures, losses = [], []
            for rows, other in pairs:
                train = np.concatenate([rows + len(features) * n for n in range(len(tables))])
                own = standardised(x, train)
                if strength:
                    own = without_speakers(own, train, speakers, strength)
                a, b = principal(own, train, other) if rotated else (own[train], own[other])
                found = model((a, labels[train], b))
                figures.append(uar(labels[other], found.argmax(axis=1)))
                losses.append(float(-np.log(found[np.arange(len(other)), labels[other]] + 1e-9).mean()))
            own_result[grouping] = {
                "uar": round(float(np.mean(figures)), 4),
                "loss": round(float(np.mean(losses)), 4),
            }
        result["trials"][name] = own_result
        report(f"{own_result}: {name}", result, args.out)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
