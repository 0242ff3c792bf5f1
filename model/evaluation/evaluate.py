"""Score a run's best checkpoint on the test speakers, once, and write down everything about it.

>>> metrics, report = evaluate("runs/latest")                     # doctest: +SKIP
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.devices import pick_device
from deiii.model.evaluation.mistakes import worst_mistakes
from deiii.model.evaluation.report import write_report
from deiii.model.metrics import bootstrap, ccc, class_intervals, class_report, figure_names
from deiii.model.network.deiii import DEIII
from deiii.model.network.hide_streams import enabled_streams, hide
from deiii.model.network.task import Task
from deiii.model.training import checkpoint
from deiii.model.training.loaders import make_loader
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.scoring import Predictions, score


def evaluate(
    path: str | Path, cache: str | None = None, device: str | None = None
) -> tuple[dict[str, Any], Path]:
    """Metrics of a run on its test and validation speakers, and where its report lies.

    Args:
        path: a run folder that training made.
        cache: where the feature caches are now; as in training where not given.
        device: auto, cpu or cuda; as in training where not given.

    Raises:
        RunError: the caches are not those that the run was trained on.
        CheckpointError: no usable best checkpoint.
    """
    run = RunFolder(path)
    info = run.read_info()
    config = load_config([run.config])
    if cache is not None:
        config.cache = cache
    device = pick_device(device or config.train.device)
    features = FeatureSet.open(config, whole=True)
    if dict(features.keys) != info["keys"]:
        raise RunError(
            f"{run.path} was trained on caches with the keys {info['keys']}, here are {dict(features.keys)}"
        )
    split = Split.load(run.split)
    split.check(features.corpus)
    model, task = load_best(run, config, features)
    model = model.to(device)

    def predict(part: str, **gone: bool) -> Predictions:
        rows = features.rows(getattr(split, part))
        loader = make_loader(features, rows, config, device, training=False)
        return score(model, loader.epoch(0), device, config.train, lambda batch: hide(batch, **gone))

    speakers = np.array([clip.speaker for clip in features.clips])
    test, val = predict("test"), predict("val")
    metrics = {
        "test": full_figures(test, speakers, task),
        "val": full_figures(val, speakers, task),
        "heads": {h: brief_figures(test, speakers, task, h) for h in _heads(test)},
        "without": {
            "+".join(gone): brief_figures(predict("test", **dict.fromkeys(gone, True)), speakers, task)
            for gone in _absences(config)
        },
        "epoch": checkpoint.load(run.best)[1]["epoch"],
        "clips": {
            part: {"in_split": len(getattr(split, part)), "scored": len(p.index)}
            for part, p in (("test", test), ("val", val))
        },
    }
    write_json(run.metrics_json, metrics)
    write_predictions(run.predictions, test, features, task)
    return metrics, write_report(run, metrics, info, features, worst_mistakes(test, features, task))


def load_best(run: RunFolder, config: Config, features: FeatureSet) -> tuple[DEIII, Task]:
    """The network with a run's best weights, on the CPU, and its task."""
    task = Task.of(features, config)
    weights, _ = checkpoint.load(run.best)
    model = task.network(config)
    checkpoint.load_into(model, weights, run.best)
    return model, task


def full_figures(found: Predictions, speakers: np.ndarray, task: Task) -> dict[str, Any]:
    """The fused head's figures with intervals, per class and per speaker."""
    result: dict[str, Any] = {"loss": found.loss}
    owner = speakers[found.index]
    if task.classes:
        rows = found.label >= 0
        truth, guess = found.label[rows], found.probabilities["fused"][rows].argmax(axis=1)
        result |= class_report(truth, guess, task.classes)
        result |= class_intervals(truth, guess, owner[rows], len(task.classes))
    for i, name in enumerate(task.attributes):
        truth_a, guess_a = found.target[:, i], found.attributes["fused"][:, i]
        result[f"ccc_{name}"] = ccc(truth_a, guess_a)
        again = lambda r, t=truth_a, g=guess_a: ccc(t[r], g[r])
        result[f"ccc_{name}_ci"] = bootstrap(owner, again)
    result["per_speaker"] = {
        str(s): {
            "clips": int((owner == s).sum()),
            **_rows(found, owner == s).figures("fused", task.attributes),
        }
        for s in np.unique(owner)
    }
    return result


def brief_figures(
    found: Predictions, speakers: np.ndarray, task: Task, head: str = "fused"
) -> dict[str, Any]:
    """One head's figures with intervals.

    Clips without what the head reads are left out for the modality heads and counted.
    """
    result = {"clips": int(found.present[head].sum()), **found.figures(head, task.attributes)}
    if "uar" in result:
        rows = (found.label >= 0) & found.present[head]
        truth, guess = found.label[rows], found.probabilities[head][rows].argmax(axis=1)
        result |= class_intervals(truth, guess, speakers[found.index][rows], len(task.classes))
    return result


def write_predictions(path: Path, found: Predictions, features: FeatureSet, task: Task) -> None:
    """One row a test clip: id, speaker, truth, prediction, probabilities, attributes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    header = ["clip", "speaker"]
    if task.classes:
        header += ["truth", "predicted", *(f"p_{c}" for c in task.classes)]
    header += [f"{name}_{side}" for name in task.attributes for side in ("truth", "predicted")]
    table.writerow(header)
    for n, row in enumerate(found.index):
        clip = features.clips[row]
        line: list[Any] = [clip.id, clip.speaker]
        if task.classes:
            p = found.probabilities["fused"][n]
            line += [clip.label or "", task.classes[p.argmax()], *(f"{x:.4f}" for x in p)]
        for i in range(len(task.attributes)):
            truth = found.target[n, i]
            line += ["" if np.isnan(truth) else f"{truth:.4f}", f"{found.attributes['fused'][n, i]:.4f}"]
        table.writerow(line)
    write_text(path, text.getvalue())


def summary(metrics: dict[str, Any]) -> str:
    """A few lines for the terminal."""
    test = metrics["test"]
    lines = []
    for key, label in figure_names(test).items():
        if test.get(key) is not None:
            ci = test.get(f"{key}_ci")
            lines.append(
                f"test {label:12s} {test[key]:.3f}" + (f"  [{ci[0]:.3f}, {ci[1]:.3f}]" if ci else "")
            )
    counts = metrics["clips"]["test"]
    lines.append(
        f"{counts['scored']} of {counts['in_split']} test clips, {len(test['per_speaker'])} speakers; "
        "95 % intervals are over speakers"
    )
    return "\n".join(lines)


def _heads(found: Predictions) -> list[str]:
    return [h for h in ("video", "audio") if h in found.present]


def _absences(config: Config) -> list[tuple[str, ...]]:
    """What is taken away, one by one: each stream, and the whole of the picture."""
    streams = enabled_streams(config.model)
    one = [(s,) for s in streams] if len(streams) > 1 else []
    return [*one, ("frames", "flow")] if len(streams) == 3 else one


def _rows(found: Predictions, keep: np.ndarray) -> Predictions:
    pick = lambda by_head: {h: values[keep] for h, values in by_head.items()}
    return Predictions(
        found.index[keep], found.label[keep], found.target[keep],
        pick(found.probabilities), pick(found.attributes), pick(found.present), found.loss,
    )  # fmt: skip
