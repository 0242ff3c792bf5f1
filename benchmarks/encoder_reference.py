"""Score simple models on the cached features of frozen encoders, as a reference.

The models are logistic regression, an SVM and linear discriminant analysis with a shrunken covariance
(Friedman 1989, doi:10.1080/01621459.1989.10478752), on the principal axes of the training clips.

Each clip is the mean and the standard deviation over time of every layer of the rows of the stages in
``model.extra``, which the network reads, standardised and weighed by ``model.balance`` as there. Folds and
validation speakers are the network's. The strength of the regularisation (C, or the shrinkage) is chosen on
the validation speakers of each fold, or without any (``split.val_share=0``) by leaving out each training
speaker in turn. The test speakers are scored once.

    python -m benchmarks.encoder_reference configs/ravdess_speech.yaml --against runs/ravdess_speech
    python -m benchmarks.encoder_reference configs/emotional_av.yaml corpus.root=/clips \\
        --against runs/emotional_av/both runs/emotional_av/both_by_speaker

A network is compared with the models that, like it, use statistics of the test speakers or do not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.machine import made_by
from benchmarks.ravdess_svm import against, by_speaker, comparable, uar
from benchmarks.tuning_models import shrunken
from deiii.data.cache.stages import LOGMEL, get_stage
from deiii.data.config.words import read_settings
from deiii.data.corpora.splits import PARTS, make_split, number_of_folds
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_json

MODELS: dict[str, tuple[Callable[[float], Any], tuple[float, ...]]] = {
    "logistic_regression": (lambda c: LogisticRegression(C=c, max_iter=500), (0.001, 0.003, 0.01)),
    "svm": (lambda c: SVC(C=c, gamma="scale"), (3.0, 10.0, 30.0)),
    "linear_discriminant": (
        lambda s: make_pipeline(PCA(svd_solver="full"), shrunken(s)),
        (0.1, 0.3, 0.5, 0.7),
    ),
}


def rows_of_clips(features: FeatureSet, stage: str) -> Iterator[np.ndarray | None]:
    """Yield the rows of a stage for each clip, float32 [n,...]; ``None`` for a clip without any.

    Rows of an audio stage outside the times of log-mel are left out, as the network leaves them out.
    """
    spec = get_stage(stage)
    for row in range(len(features)):
        arrays = features.arrays(row)
        values = arrays[stage][spec.large].astype(np.float32) if stage in arrays else None
        if values is not None and spec.modality == "audio" and LOGMEL.name in arrays:
            heard, time = arrays[LOGMEL.name]["time"], arrays[stage]["time"]
            values = values[(time >= heard[0]) & (time <= heard[-1])]
        elif values is not None and "valid" in arrays[stage]:
            values = values[arrays[stage]["valid"]]
        yield None if values is None or not len(values) else values


def moments(features: FeatureSet, stage: str) -> np.ndarray:
    """Return mean and standard deviation of a stage's rows, float32 [N,2F]; zero for clips without any."""
    found = [
        None if x is None else np.concatenate((x.mean(axis=0).ravel(), x.std(axis=0).ravel()))
        for x in rows_of_clips(features, stage)
    ]
    width = next(len(x) for x in found if x is not None)
    return np.stack([np.zeros(width, np.float32) if x is None else x for x in found])


def stage_factors(counts: Sequence[int], balance: float) -> np.ndarray:
    """Return the factor of each stage's standardised features, [stages]: ones for a ``model.balance`` of 0.

    Args:
        counts: number of features of each stage.
        balance: a stage of F features gets a weight of F to the power of 1 - balance.
    """
    features = np.array(counts, float)
    weights = features ** (1 - balance)
    return np.sqrt(weights / features * features.sum() / weights.sum())


def run_fold(
    model: str,
    x: np.ndarray,
    y: np.ndarray,
    speakers: np.ndarray,
    rows: dict[str, np.ndarray],
    factors: np.ndarray,
) -> dict[str, Any]:
    """Choose the strength on the validation rows, then score the test rows once.

    Without validation rows, the strength with the largest mean UAR over the training speakers is chosen, each
    of whom is predicted by models of the others.

    Args:
        model: name in `MODELS`.
        x: features, float32 [N,F].
        y: class numbers, [N].
        speakers: names of the speakers, [N].
        rows: row numbers of each part.
        factors: factors of the standardised features, [F].

    Raises:
        ValueError: there are no validation rows, and a single training speaker.
    """
    make, strengths = MODELS[model]
    train, val, test = (rows[part] for part in PARTS)
    if len(val):
        rounds = [(train, val)]
    else:
        held_out = LeaveOneGroupOut().split(train, groups=speakers[train])
        rounds = [(train[others], train[one]) for others, one in held_out]

    def guesses(c: float, fit: np.ndarray, score: np.ndarray) -> np.ndarray:
        scaler = StandardScaler().fit(x[fit])
        of_part = [scaler.transform(x[part]) * factors.astype(x.dtype) for part in (fit, score)]
        return make(c).fit(of_part[0], y[fit]).predict(of_part[1])

    scores = {c: float(np.mean([uar(y[b], guesses(c, a, b)) for a, b in rounds])) for c in strengths}
    best = max(scores, key=lambda c: scores[c])
    guess = guesses(best, train, test)
    return {"strength": best, "val_uar": round(scores[best], 4), "test_uar": round(uar(y[test], guess), 4),
            "guess": guess}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="CONFIG or KEY=VALUE")
    parser.add_argument("--out", help="JSON file for the result")
    parser.add_argument(
        "--against", nargs="+", default=[], type=Path, metavar="FOLDER", help="finished crossvals to compare"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="MODEL", help="such as logistic_regression; default: all"
    )
    args = parser.parse_args()
    config = read_settings(args.settings)
    features = FeatureSet.open(config)
    clips, classes = features.clips, features.classes
    parts = [moments(features, stage) for stage in config.model.extra]
    x = np.concatenate(parts, axis=1)
    counts = [part.shape[1] for part in parts]
    factors = np.repeat(stage_factors(counts, config.model.balance), counts)
    y = np.array([classes.index(c.label or "") for c in clips])
    speakers = np.array([c.speaker for c in clips])
    result: dict[str, Any] = {
        "bench": "encoder_reference", "stages": config.model.extra, "features": x.shape[1],
        "balance": config.model.balance,
        **made_by(),
    }  # fmt: skip
    right: dict[str, np.ndarray] = {}
    tested = np.zeros(len(y), bool)  # copies of clips are only trained on
    for kind, values in (("", x), (" by speaker", by_speaker(x, speakers))):
        for model in MODELS:
            name, folds = f"{model}{kind}", []
            if args.only and name not in args.only:
                continue
            right[name] = np.zeros(len(y), bool)
            for fold in range(number_of_folds(features.corpus, config.split)):
                config.split.fold = fold
                split = make_split(features.corpus, config.split)
                rows = {part: features.rows(getattr(split, part)) for part in PARTS}
                found = run_fold(model, values, y, speakers, rows, factors)
                tested[rows["test"]] = True
                right[name][rows["test"]] = found.pop("guess") == y[rows["test"]]
                folds.append({"fold": fold, "split": split.digest[:12], **found})
            scores = [f["test_uar"] for f in folds]
            result[name] = {"uar": round(float(np.mean(scores)), 4),
                            "sd": round(float(np.std(scores, ddof=1)), 4), "folds": folds}  # fmt: skip
            print(
                f"{name}: UAR {np.mean(scores):.3f}, sd {np.std(scores, ddof=1):.3f} over folds", flush=True
            )
    if args.against:
        some = [clip for clip, held in zip(clips, tested, strict=True) if held]
        result["network_minus"] = {}
        for folder in args.against:
            alike = comparable(folder, {name: hits[tested] for name, hits in right.items()})
            result["network_minus"] |= against(folder, some, alike)
    if args.out:
        write_json(args.out, result)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
