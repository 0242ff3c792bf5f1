"""Score the best checkpoint of a run on its test speakers, once, and write the results into the run folder.

>>> metrics, report = evaluate("runs/latest")                     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deiii.data.cache.identity import latest_corpus
from deiii.data.config.schema import Config
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import file_sha256, write_json
from deiii.data.tools.counts import counted
from deiii.data.tools.devices import use_device
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.evaluation.ceiling import ceiling_lines, human_ceilings
from deiii.model.evaluation.mistakes import worst_mistakes
from deiii.model.evaluation.predictions import PredictionTable, write_predictions
from deiii.model.evaluation.report import write_report
from deiii.model.intervals import CCC_LIMITS, FEWEST, OVER_SPEAKERS, kind_of_interval, speaker_interval
from deiii.model.metrics import ccc, class_intervals, class_report, figure_names
from deiii.model.network.hide_streams import hidden_together, hide
from deiii.model.network.inputs.network import Network
from deiii.model.network.task import Task
from deiii.model.training.loaders import make_loader
from deiii.model.training.monitor import TrainingState
from deiii.model.training.origin import check_origin
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.scoring import Predictions, in_full_precision, score
from deiii.model.training.trained import load_network

EVALUATE_CURE = (
    "Its figures would be about other data than those it learned. To go on, train a new run, or put back "
    "what it was trained on and run `deiii preprocess`"
)


def evaluate(
    path: str | Path,
    cache: str | None = None,
    device: str | None = None,
    again: bool = False,
    keep: bool = False,
    unfinished: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Score a run, once; writes ``metrics.json``, ``predictions.csv``, ``figures/`` and ``report.html``.

    Args:
        path: a run folder that training made.
        cache: where the feature caches are now; as in training where not given.
        device: auto, cpu or cuda; as in training where not given.
        again: score a run that was scored before. ``run.json``, ``metrics.json`` and the report then say how
            often the test speakers were scored.
        keep: return the stored result of a run that was scored before.
        unfinished: score a run whose training did not come to its end. ``metrics.json`` and the report then
            say so.

    Returns:
        what ``metrics.json`` holds, and the path of the report.

    Raises:
        RunError: the run was scored before, its training is not finished, or caches, clips or labels are not
            those of its training.
        Locked: the training of the run goes on, or another process scores it.
        CheckpointError: no usable best checkpoint.
        DeviceError: the device is not there.
    """
    run = RunFolder(path)
    if keep and run.metrics_json.exists():
        return run.read_metrics(), run.report
    run.read_info()  # refuses a folder without a run, before the lock writes into it
    with writer_lock(run.path, wait=False):
        return _evaluate(run, cache, device, again, unfinished)


def _evaluate(
    run: RunFolder, cache: str | None, device: str | None, again: bool, unfinished: bool
) -> tuple[dict[str, Any], Path]:
    earlier = run.evaluations()
    if earlier and not again:
        raise RunError(
            f"the test speakers of {run.path} were scored before (time: {earlier[-1]['time']}), and they are "
            f"scored once: what is chosen after looking at them is not tested by them. {run.report} has the "
            "result, `deiii evaluate RUN --keep` prints it; --again scores anew and records that"
        )
    trained = load_network(run.path)
    config, task, info = trained.config, trained.task, dict(trained.info)
    state = require_finished(run, config, unfinished)
    if cache is not None:
        config.cache = cache
    target = use_device(device or config.train.device)
    features = _open_features(run, config, task, info)
    split = Split.load(run.split)
    split.check(features.corpus)
    scorer = _Scorer(trained.network.to(target), features, split, config, target)

    speakers = np.array([clip.speaker for clip in features.clips])
    test = scorer.predict("test")
    validation = scorer.predict("val")
    counts = {
        part: count_clips(len(getattr(split, part)), predictions, task)
        for part, predictions in (("test", test), ("val", validation))
    }
    if not counts["test"]["scored"]:
        raise RunError(
            f"{run.path} has no test clip to score: of {counts['test']['in_split']} in the split, "
            f"{counts['test']['unlabelled']} have no label and the others no features; add labels, look at "
            "failures.csv in the cache, or train with another split.fold"
        )
    metrics = {
        "test": full_figures(test, speakers, task),
        "val": full_figures(validation, speakers, task),
        "heads": {head: brief_figures(test, speakers, task, head) for head in _modality_heads(test)},
        "without": {
            "+".join(hidden): brief_figures(scorer.predict("test", hidden), speakers, task)
            for hidden in hidden_together(config.model)
        },
        "epoch": trained.epoch,
        "weights": file_sha256(run.best),
        "interval": OVER_SPEAKERS,
        "clips": counts,
        "ceilings": human_ceilings(
            [features.clips[row] for row in test.index],
            task.classes,
            features.corpus.labels,
            features.corpus.votes,
        ),
        "evaluations": len(earlier) + 1,
        "training": state.record(),
    }
    write_predictions(run.predictions, prediction_table(test, features, task))
    report = write_report(run, metrics, info, features, worst_mistakes(test, features, task))
    write_json(run.metrics_json, metrics)  # last: with it the run counts as scored
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known = [] if "evaluations" in info else earlier  # an earlier version did not record it
    for entry in [*known, {"time": now, "epoch": trained.epoch, "device": str(target)}]:
        run.add_evaluation(entry)
    return metrics, report


def require_finished(run: RunFolder, config: Config, unfinished: bool) -> TrainingState:
    """Return how far the training of a run came.

    Args:
        run: the run folder.
        config: its settings.
        unfinished: whether a training that did not come to its end is accepted.

    Raises:
        RunError: the training did not come to its end; says what to do.
    """
    state = run.training_state(config)
    if not (state.finished or unfinished):
        raise RunError(
            f"the training of {run.path} was interrupted after {state}: a later epoch may be better, and the "
            "test speakers are scored once. Finish it with `deiii train ... --resume`, or score the best "
            "epoch so far with --unfinished, which is recorded"
        )
    return state


def _open_features(run: RunFolder, config: Config, task: Task, info: dict[str, Any]) -> FeatureSet:
    """Open the caches and check that they, and clips and labels, are those of the training."""
    folder = None if config.mix else info["corpus"]
    if not config.mix:
        check_origin(run, latest_corpus(config, folder), EVALUATE_CURE)
    features = FeatureSet.open(config, whole=True, folder=folder)
    check_origin(run, features.corpus, EVALUATE_CURE, config.cache)
    if dict(features.keys) != info["keys"]:
        raise RunError(
            f"{run.path} was trained on caches with the keys {info['keys']}, but {config.cache} has "
            f"{dict(features.keys)}; name the right folder with cache=..., or train again"
        )
    if Task.of(features, config) != task:
        raise RunError(
            f"{run.path} was trained with the classes {list(task.classes)} and the attributes "
            f"{list(task.attributes)}, but {features.corpus.name} in {config.cache} has others; train again"
        )
    return features


@dataclass(frozen=True)
class _Scorer:
    """A network with the clips that it is scored on."""

    network: Network
    features: FeatureSet
    split: Split
    config: Config
    device: torch.device

    def predict(self, part: str, hidden: tuple[str, ...] = ()) -> Predictions:
        """Predict for one part of the split, with some streams hidden from every clip."""
        rows = self.features.rows(getattr(self.split, part))
        loader = make_loader(self.features, rows, self.config, self.device, training=False)
        return score(
            self.network, loader.epoch(0), self.device, in_full_precision(self.config.train),
            lambda batch: hide(batch, **dict.fromkeys(hidden, True)),
        )  # fmt: skip


def count_clips(in_split: int, found: Predictions, task: Task) -> dict[str, int]:
    """Return how many clips a part of the split has, how many are scored and how many have no label.

    A clip whose raters tie has no single label: a prediction is made, but no figure can use it.
    """
    known = (found.label >= 0) & bool(task.classes)
    if task.attributes:
        known = known | ~np.isnan(found.target).all(axis=1)
    scored = int(known.sum())
    return {"in_split": in_split, "scored": scored, "unlabelled": len(found.index) - scored}


def full_figures(found: Predictions, speakers: np.ndarray, task: Task) -> dict[str, Any]:
    """Return the fused head's figures with intervals, also for each class and each speaker.

    Args:
        found: predictions for N clips.
        speakers: the speaker of every row of the feature set.
        task: the classes and attributes.
    """
    result: dict[str, Any] = {"loss": found.loss}
    owner = speakers[found.index]
    if task.classes:
        rows = found.label >= 0
        truth, predicted = found.label[rows], found.probabilities["fused"][rows].argmax(axis=1)
        result |= class_report(truth, predicted, task.classes)
        result |= class_intervals(truth, predicted, owner[rows], len(task.classes))
    for i, name in enumerate(task.attributes):
        result |= attribute_figures(name, found.target[:, i], found.attributes["fused"][:, i], owner)
    result["per_speaker"] = {
        str(s): {
            "clips": int((owner == s).sum()),
            **found.select(owner == s).figures("fused", task.attributes),
        }
        for s in np.unique(owner)
    }
    return result


def attribute_figures(
    name: str, truth: np.ndarray, predicted: np.ndarray, speakers: Sequence[str] | np.ndarray
) -> dict[str, Any]:
    """Return one attribute's CCC and its interval; truth (NaN where unknown) and prediction: float [N]."""

    def figure(rows: np.ndarray) -> float | None:
        return ccc(truth[rows], predicted[rows])

    interval = speaker_interval(speakers, figure, CCC_LIMITS, clips=int((~np.isnan(truth)).sum()))
    return {f"ccc_{name}": ccc(truth, predicted), f"ccc_{name}_ci": interval}


def brief_figures(
    found: Predictions, speakers: np.ndarray, task: Task, head: str = "fused"
) -> dict[str, Any]:
    """Return one head's figures with intervals over the clips that have what the head reads."""
    result: dict[str, Any] = {
        "clips": int(found.present[head].sum()),
        **found.figures(head, task.attributes),
    }
    if "uar" in result:
        rows = (found.label >= 0) & found.present[head]
        truth, predicted = found.label[rows], found.probabilities[head][rows].argmax(axis=1)
        result |= class_intervals(truth, predicted, speakers[found.index][rows], len(task.classes))
    return result


def prediction_table(found: Predictions, features: FeatureSet, task: Task) -> PredictionTable:
    """Return the fused head's predictions in the form of ``predictions.csv``."""
    clips = [features.clips[row] for row in found.index]
    nothing = np.zeros((len(clips), 0))
    probabilities = found.probabilities["fused"] if task.classes else nothing
    return PredictionTable(
        clips=tuple(clip.id for clip in clips),
        speakers=tuple(clip.speaker for clip in clips),
        classes=task.classes,
        truth=tuple(clip.label or "" for clip in clips) if task.classes else (),
        predicted=tuple(task.classes[row.argmax()] for row in probabilities) if task.classes else (),
        probabilities=probabilities,
        attributes=task.attributes,
        attribute_truth=found.target if task.attributes else nothing,
        attribute_predicted=found.attributes["fused"] if task.attributes else nothing,
    )


def summary(metrics: dict[str, Any]) -> str:
    """Return the test figures as a few lines for the terminal."""
    test = metrics["test"]
    lines = []
    for key, label in figure_names(test).items():
        if test.get(key) is not None:
            interval = test.get(f"{key}_ci")
            line = f"test {label:12s} {test[key]:.3f}"
            lines.append(line + (f"  [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""))
    counts = metrics["clips"]["test"]
    clips = f"{counts['scored']} of {counted(counts['in_split'], 'test clip')}"
    if counts.get("unlabelled"):
        lacking = counted(counts["unlabelled"], "has", "have")
        scored = "is" if counts["unlabelled"] == 1 else "are"
        clips += f" ({lacking} no label, such as a tie, and {scored} not scored)"
    lines.append(f"{clips}, {counted(len(test['per_speaker']), 'speaker')}; {_about_interval(metrics)}")
    lines += ceiling_lines(metrics.get("ceilings", {}))
    if metrics.get("evaluations", 1) > 1:
        lines.append(f"the test speakers were scored {metrics['evaluations']} times")
    if words := unfinished_training(metrics):
        lines.append(words)
    return "\n".join(lines)


def unfinished_training(metrics: Mapping[str, Any]) -> str:
    """Return a sentence on a run that was scored before the end of its training; empty for others.

    >>> unfinished_training({"training": {"finished": False, "epochs": 3, "planned": 25}})
    'the run was scored before the end of its training, after 3 of 25 epochs'
    """
    state = metrics.get("training")  # older files do not record it
    if not state or state["finished"]:
        return ""
    done = f"{state['epochs']} of {state['planned']} epochs"
    return f"the run was scored before the end of its training, after {done}"


def _about_interval(metrics: dict[str, Any]) -> str:
    if len(metrics["test"]["per_speaker"]) < FEWEST:
        return f"no intervals: they need {counted(FEWEST, 'speaker')}"
    return f"95 % {kind_of_interval(metrics)}"


def _modality_heads(found: Predictions) -> list[str]:
    return [head for head in ("video", "audio") if head in found.present]
