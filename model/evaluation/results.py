"""The figures of predictions with intervals, as ``metrics.json`` holds them, and their summary as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deiii.data.corpora.splits import LEAKS, UNKNOWN_SPEAKERS
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.counts import counted
from deiii.data.tools.text.columns import padded, width_of
from deiii.data.tools.text.figure_text import bracketed, number
from deiii.model.evaluation.predictions import PredictionTable
from deiii.model.evaluation.sections.calibration import calibration_lines
from deiii.model.evaluation.sections.ceiling import ceiling_lines
from deiii.model.evaluation.sections.gaps import gap_lines
from deiii.model.intervals import CCC_LIMITS, kind_of_interval, no_intervals, speaker_interval
from deiii.model.metrics import ccc, class_intervals, class_report, figure_names, guessing
from deiii.model.network.task import Task
from deiii.model.training.scoring import Predictions

# By the key in stored figures: why the test speakers may not be new to the network.
DOUBTS = {"leaks": LEAKS, "unknown_speakers": UNKNOWN_SPEAKERS}


def count_clips(in_split: int, found: Predictions | None, task: Task) -> dict[str, int]:
    """Return how many clips a part of the split has, how many are scored, and how many only predicted.

    The latter, ``unlabelled``, have features but neither a label nor a rating, such as clips whose raters
    tie: no figure can use their predictions.
    """
    if found is None:
        return {"in_split": in_split, "scored": 0, "unlabelled": 0}
    known = (found.label >= 0) & bool(task.classes)
    if task.attributes:
        known = known | ~np.isnan(found.target).all(axis=1)
    scored = int(known.sum())
    return {"in_split": in_split, "scored": scored, "unlabelled": len(found.index) - scored}


def full_figures(found: Predictions, speakers: np.ndarray, task: Task) -> dict[str, Any]:
    """Return the fused head's figures with intervals, and those of each class and each speaker without.

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
            **found.select(owner == s).figures("fused", task.attributes, every=True),
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

    interval = speaker_interval(speakers, figure, CCC_LIMITS, known=~np.isnan(truth))
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
    if members := metrics.get("members"):
        lines.append(f"ensemble of {', '.join(str(member['run']) for member in members)}")
    names = figure_names(test)
    width = width_of(names.values(), least=12)
    for key, label in names.items():
        if test.get(key) is not None:
            interval = test.get(f"{key}_ci")
            line = f"test {padded(label, width)} {number(test[key])}"
            line += f"  {bracketed(interval)}" if interval else ""
            classes = test.get("per_class") if key == "uar" else None
            lines.append(line + (f"  (guessing: {guessing(list(classes)):.3f})" if classes else ""))
    counts = metrics["clips"]["test"]
    clips = f"{counts['scored']} of {counted(counts['in_split'], 'test clip')}"
    if counts.get("unlabelled"):
        lacking = counted(counts["unlabelled"], "has", "have")
        scored = "is" if counts["unlabelled"] == 1 else "are"
        what = "label, such as a tie or a dropped class," if "uar" in test else "rating"
        clips += f" ({lacking} no {what} and {scored} not scored)"
    lines.append(f"{clips}, {counted(len(test['per_speaker']), 'speaker')}; {about_interval(metrics)}")
    lines += gap_lines(metrics.get("gaps", {}))
    lines += calibration_lines(metrics.get("calibration", {}))
    lines += ceiling_lines(metrics.get("ceilings", {}))
    lines += hidden_lines(metrics)
    if words := speaker_doubts(metrics):
        lines.append(f"{words}: the figures may be too high")
    if metrics.get("evaluations", 1) > 1:
        lines.append(f"the test speakers were scored {metrics['evaluations']} times")
    if words := unfinished_training(metrics):
        lines.append(words)
    return "\n".join(lines)


def speaker_doubts(metrics: Mapping[str, Any]) -> str:
    """Return why the test speakers of stored figures may not be new ones; empty if they are."""
    return "; ".join(words for key, words in DOUBTS.items() if metrics.get(key))


def hidden_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return a line on the streams that were hidden from the scored clips; empty where there are none.

    >>> hidden_lines({"hidden": ["audio"]})
    ['hidden from these clips (split.hide): audio']
    """
    hidden = metrics.get("hidden")  # older files do not record it
    return [f"hidden from these clips (split.hide): {', '.join(hidden)}"] if hidden else []


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


def about_interval(metrics: dict[str, Any]) -> str:
    """Return which interval the figures of ``metrics.json`` have; with too few speakers, none.

    A speaker without a labelled clip does not count, so the presence of the intervals decides.
    """
    if not any(value for name, value in metrics["test"].items() if name.endswith("_ci")):
        return no_intervals(len(metrics["test"]["per_speaker"]))
    return f"95 % {kind_of_interval(metrics)}"


def modality_heads(found: Predictions) -> list[str]:
    """Return the heads other than the fused one."""
    return [head for head in ("video", "audio") if head in found.present]
