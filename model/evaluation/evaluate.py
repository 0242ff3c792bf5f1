"""Score the best checkpoint of a run on its test speakers, once, and write the results into the run folder.

>>> metrics, report = evaluate("runs/latest")                     # doctest: +SKIP
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deiii.data.cache.identity import latest_corpus
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import is_placeholder
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import file_sha256, write_json
from deiii.data.tools.counts import counted
from deiii.data.tools.devices import use_device
from deiii.data.tools.progress import BAR_AFTER_S, progress_bar
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.evaluation.predictions import write_predictions
from deiii.model.evaluation.report import write_report
from deiii.model.evaluation.results import (
    brief_figures,
    count_clips,
    full_figures,
    modality_heads,
    prediction_table,
)
from deiii.model.evaluation.sections.calibration import calibration_of
from deiii.model.evaluation.sections.ceiling import human_ceilings
from deiii.model.evaluation.sections.gaps import gaps_of
from deiii.model.evaluation.sections.layers import layer_weights
from deiii.model.evaluation.sections.mistakes import worst_mistakes
from deiii.model.intervals import INTERVAL_FORM, OVER_SPEAKERS
from deiii.model.network.hide_streams import further_hidden, hide_in_scoring
from deiii.model.network.task import Task
from deiii.model.training.loaders import make_loader
from deiii.model.training.monitor import TrainingState
from deiii.model.training.origin import (
    OTHER_FEATURES,
    check_origin,
    keys_of_training,
    other_features,
    require_test,
)
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.scoring import Predictions, average, in_full_precision, score
from deiii.model.training.trained import TrainedNetwork, load_network

EVALUATE_REMEDY = (
    "Its figures would be those of other data than its training data. To go on, train a new run, or put back "
    "what it was trained on and run `deiii preprocess`"
)

SCORED = "the scores are those of the new features"


def evaluate(
    path: str | Path,
    cache: str | None = None,
    device: str | None = None,
    again: bool = False,
    keep: bool = False,
    unfinished: bool = False,
    features: FeatureSet | None = None,
    progress: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Score a run, once; writes ``metrics.json``, ``predictions.csv``, ``figures/`` and ``report.html``.

    Args:
        path: a run folder that training made.
        cache: folder that holds the feature caches now; that of the training if not given.
        device: a value of ``train.device``; that of the training if not given.
        again: score a run that was scored before. ``run.json``, ``metrics.json`` and the report then state
            how often the test speakers were scored.
        keep: return the stored result of a run that was scored before.
        unfinished: score a run whose training did not come to its end. ``metrics.json`` and the report then
            state this.
        features: the features of its training, opened and checked before; opened here where not given.
        progress: whether to show a bar where scoring takes long.

    Returns:
        what ``metrics.json`` holds, and the path of the report.

    Raises:
        RunError: the run was scored before, its training is not finished, it has no test clip to score, a
            prediction is NaN or infinite, or caches, clips or labels are not those of its training.
        Locked: the run is still being trained, or another process scores it.
        CheckpointError: no usable best checkpoint.
        CacheError: the features are not in the cache, or are damaged.
        DeviceError: the device does not exist.
    """
    run = RunFolder(path)
    if keep and run.metrics_json.exists():
        return run.read_metrics(), run.report
    run.read_info(whole=True)  # refuses what is no run before the lock is made
    with writer_lock(run.path, wait=False):
        if keep and run.metrics_json.exists():  # another process scored the run meanwhile
            return run.read_metrics(), run.report
        return _evaluate(run, cache, device, again, unfinished, features, progress)


def _evaluate(
    run: RunFolder,
    cache: str | None,
    device: str | None,
    again: bool,
    unfinished: bool,
    features: FeatureSet | None,
    progress: bool,
) -> tuple[dict[str, Any], Path]:
    earlier = run.evaluations()
    if earlier and not again:
        command = f"deiii evaluate {shlex.quote(str(run.path))}"
        raise RunError(
            f"the test speakers of {run.path} were scored before (at {earlier[-1]['time']}), and they are "
            "scored once: if you choose settings after you have seen test results, these speakers are not "
            f"unseen any more. {run.report} has the result, `{command} --keep` prints it; "
            f"`{command} --again` scores again and records that"
        )
    split = require_test(run)
    trained = load_network(run.path)
    config, task, info = trained.config, trained.task, dict(trained.info)
    state = require_finished(run, config, unfinished)
    if cache is not None:
        config.cache = cache
    target = use_device(device or config.train.device)
    features = open_features(run, config, task, info, features)
    split.check(features.corpus)
    scorer = Scorer((trained,), features, split, target, progress)
    metrics, test = score_parts(scorer, run.path)
    metrics |= {
        "epoch": trained.epoch,
        "layers": layer_weights(trained.network, {e["stage"]: e["layers"] for e in info.get("encoders", ())}),
        "weights": file_sha256(run.best),
        "evaluations": len(earlier) + 1,
        "training": state.record(),
    }
    if changed := other_features(run, features):
        metrics["other_features"] = changed
    write_predictions(run.predictions, prediction_table(test, features, task))
    report = write_report(run, metrics, info, features, worst_mistakes(test, features, task))
    write_json(run.metrics_json, metrics)  # last: with it the run counts as scored
    known = [] if "evaluations" in info else earlier  # an earlier version did not record it
    for entry in [*known, {"time": now(), "epoch": trained.epoch, "device": str(target)}]:
        run.add_evaluation(entry)
    return metrics, report


@dataclass(frozen=True)
class Scorer:
    """Predicts for the parts of a split with trained networks, whose predictions are averaged.

    Attributes:
        networks: one, or the members of an ensemble.
        features: the clips and their features.
        split: split of the training.
        device: device on which the networks compute.
        progress: whether to show a bar.
    """

    networks: Sequence[TrainedNetwork]
    features: FeatureSet
    split: Split
    device: torch.device
    progress: bool = False

    def predict(self, part: str, hidden: tuple[str, ...] = ()) -> Predictions:
        """Predict for one part of the split; ``hidden`` streams are hidden in addition to ``split.hide``."""
        rows = self.features.rows(getattr(self.split, part))
        found = []
        for trained in self.networks:
            loader = make_loader(self.features, rows, trained.config, self.device, training=False)
            words = f"scoring the {part} part" + (f" without {' and '.join(hidden)}" if hidden else "")
            batches = progress_bar(
                loader.epoch(0), desc=words, unit="batch", total=len(loader),
                delay=BAR_AFTER_S, leave=False, shown=self.progress,
            )  # fmt: skip
            with batches:
                found.append(score(
                    trained.network.to(self.device), batches, self.device,
                    in_full_precision(trained.config.train),
                    hide_in_scoring(trained.config, hidden),
                ))  # fmt: skip
        whole = average(found)
        check_finite(whole, self.features, f"the {part} part")
        return whole


def check_finite(found: Predictions, features: FeatureSet, scored: str) -> None:
    """Refuse predictions of which no figure can be computed.

    Args:
        found: the predictions.
        features: the features of their clips.
        scored: what the clips are of, for the message.

    Raises:
        RunError: names the clips.
    """
    outputs = [*found.probabilities.values(), *found.attributes.values()]
    wrong = [~np.isfinite(values).all(axis=1) for values in outputs]
    rows = np.flatnonzero(np.logical_or.reduce(wrong)) if wrong else np.array([], int)
    if len(rows):
        named = ", ".join(features.clips[row].id for row in found.index[rows[:5]])
        raise RunError(
            f"the predictions for {counted(len(rows), 'clip')} of {scored} are NaN or infinite "
            f"({named}{', ...' if len(rows) > 5 else ''}), so there are no figures: the weights or the "
            "features of these clips hold such values. Check the caches with `deiii verify`, or train again "
            "with a smaller train.lr"
        )


def score_parts(scorer: Scorer, name: str | Path) -> tuple[dict[str, Any], Predictions]:
    """Score test and validation speakers; returns the figures, and the predictions for the test clips.

    Args:
        scorer: the networks and the clips.
        name: name of the run, for messages.

    Raises:
        RunError: there is no test clip to score, or a prediction is NaN or infinite.
    """
    features, split, task = scorer.features, scorer.split, scorer.networks[0].task
    config = scorer.networks[0].config
    speakers = np.array([clip.speaker for clip in features.clips])
    test = scorer.predict("test")
    # Features of all validation clips may be gone since the training.
    validation = scorer.predict("val") if len(features.rows(split.val)) else None
    counts = {
        part: count_clips(len(getattr(split, part)), predictions, task)
        for part, predictions in (("test", test), ("val", validation))
    }
    if not counts["test"]["scored"]:
        raise RunError(
            f"{name} has no test clip to score: of {counts['test']['in_split']} in the split, "
            f"{counts['test']['unlabelled']} have no label or rating and the others no features; add labels "
            "or ratings, look at failures.csv in the cache, or train with another split.fold"
        )
    metrics: dict[str, Any] = {
        "test": full_figures(test, speakers, task),
        "val": {} if validation is None else full_figures(validation, speakers, task),
        "heads": {head: brief_figures(test, speakers, task, head) for head in modality_heads(test)},
        "without": {
            "+".join(hidden): brief_figures(scorer.predict("test", hidden), speakers, task)
            for hidden in further_hidden(config)
        },
        "hidden": list(config.split.hide),
        "interval": OVER_SPEAKERS,
        "interval_form": INTERVAL_FORM,
        "clips": counts,
        "calibration": calibration_of(test, validation),
        "gaps": gaps_of(test, [features.clips[row] for row in test.index], _name_of(features), task),
        "ceilings": human_ceilings(
            [features.clips[row] for row in test.index],
            task.classes,
            features.corpus.labels,
            features.corpus.votes,
        ),
    }
    if scorer.split.leaks:
        metrics["leaks"] = True
    if any(is_placeholder(name) for part in ("train", "val", "test") for name in split.speakers(part)):
        metrics["unknown_speakers"] = True
    return metrics, test


def _name_of(features: FeatureSet) -> str:
    """Return the name of the corpus without the digest that distinguishes corpora of one name."""
    return features.corpus.base or features.corpus.name


def now() -> str:
    """Return the time in UTC, as it is recorded with each evaluation."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def require_finished(run: RunFolder, config: Config, unfinished: bool) -> TrainingState:
    """Return how far the training of a run came.

    Args:
        run: the run folder.
        config: its settings.
        unfinished: whether a training that did not come to its end is accepted.

    Raises:
        RunError: the training did not come to its end; the message states what to do.
    """
    state = run.training_state(config)
    if not (state.finished or unfinished):
        raise RunError(
            f"the training of {run.path} was interrupted after {state}: a later epoch may be better, and the "
            "test speakers are scored once. Finish it with `deiii train ... --resume`, or score the best "
            "epoch so far with --unfinished, which is recorded"
        )
    return state


def open_features(
    run: RunFolder, config: Config, task: Task, info: dict[str, Any], features: FeatureSet | None = None
) -> FeatureSet:
    """Open the caches and check that they, and clips and labels, are those of the training.

    Args:
        run: the run folder.
        config: its settings.
        task: what its network predicts.
        info: what ``run.json`` holds.
        features: opened and checked before; opened here where not given.

    Raises:
        RunError: caches, clips, labels or classes are others.
    """
    folder = None if config.is_mixture else info["corpus"]
    if not config.is_mixture:
        check_origin(run, latest_corpus(config, folder), EVALUATE_REMEDY)
    if features is None:
        features = FeatureSet.open(config, keys_of_training(run, config), whole=True, folder=folder)
    check_origin(run, features.corpus, EVALUATE_REMEDY, config.cache)
    if dict(features.keys) != info["keys"]:
        raise RunError(
            f"{run.path} was trained on caches with the keys {info['keys']}, but {config.cache} has "
            f"{dict(features.keys)}; name the right folder with cache=..., or train again"
        )
    say_other_features(run, features)
    if Task.of(features, config) != task:
        raise RunError(
            f"{run.path} was trained with the classes {list(task.classes)} and the attributes "
            f"{list(task.attributes)}, but {features.corpus.title} in {config.cache} has others; train again"
        )
    return features


def say_other_features(run: RunFolder, features: FeatureSet) -> None:
    """Print a note if a run was trained on other features than those with which it is scored."""
    if changed := other_features(run, features):
        print(OTHER_FEATURES.format(", ".join(changed), run.path, SCORED), file=sys.stderr)
