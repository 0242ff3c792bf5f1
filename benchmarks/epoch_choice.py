"""Measure what choosing the epoch on the test fold adds to a result, with scores after every epoch.

Many published figures are those of the epoch that was best on the test fold. This script trains every fold
with every seed as ``deiii crossval`` does and records the test UAR of every epoch beside the validation
figures. It then compares the epoch that is best on the test fold with the one that validation speakers
choose, and with the last one. The recorded test figures serve this comparison alone: no setting and no
network is chosen by them.

    python -m benchmarks.epoch_choice configs/ravdess_speech.yaml --seeds 0,1,2,3,4 --out runs/epoch_choice

Finished runs are kept in ``runs.json``: run the command again to continue.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deiii.data.config.load import result_settings
from deiii.data.config.schema import Config
from deiii.data.config.words import read_settings
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.machine import machine, package_versions, source_revision
from deiii.data.tools.text.figure_text import number, span
from deiii.model.evaluation.crossval import FoldSeed, pair_config
from deiii.model.intervals import mean_interval
from deiii.model.network.inputs.network import Network
from deiii.model.training.loaders import make_loader
from deiii.model.training.scoring import in_full_precision, score
from deiii.model.training.train import train
from deiii.model.training.trainer import Loader, Trainer, TrainingSetup

Epochs = Sequence[Mapping[str, Any]]  # one row an epoch, with val_uar, val_loss and test_uar

CHOICES = {
    "uar": "validation UAR",
    "loss": "validation loss",
    "last": "none, the last epoch",
    "test": "UAR of the test fold",
}


class RecordingTrainer(Trainer):
    """A trainer that also scores the test clips after every epoch; the training is the same.

    Args:
        model, setup: arguments of `Trainer`.
        test: loader of the test clips.
    """

    def __init__(self, model: Network, setup: TrainingSetup, test: Loader):
        super().__init__(model, setup)
        self.test = test

    def _validate(self, epoch: int) -> dict[str, Any]:
        row = super()._validate(epoch)
        self.training_step.average.swap()
        found = score(self.forward, self.test.epoch(0), self.device, in_full_precision(self.settings))
        self.training_step.average.swap()
        return {**row, "test_uar": found.figures()["uar"]}


def record(config: Config, features: FeatureSet) -> list[dict[str, float | None]]:
    """Train one fold with one seed; returns validation figures and test UAR of every epoch.

    Args:
        config: settings of the run; its folder is removed afterwards.
        features: opened and checked.
    """
    split = make_split(features.corpus, config.split)
    test = make_loader(features, features.rows(split.test), config, torch.device("cpu"), training=False)
    folder = Path(config.train.run)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    made: list[Trainer] = []

    def trainer(model: Network, setup: TrainingSetup) -> Trainer:
        made.append(RecordingTrainer(model, setup, test))
        return made[-1]

    train(config, progress=False, features=features, trainer=trainer)
    shutil.rmtree(folder)
    names = ("val_uar", "val_loss", "test_uar")
    return [{name: row[name] for name in names} for row in made[0].history]


def chosen_epochs(epochs: Epochs) -> dict[str, int]:
    """Return the epoch that each criterion selects.

    The loss decides between equal validation UARs; between equal losses the earlier epoch is selected.

    >>> first = {"val_uar": 0.5, "val_loss": 1.0, "test_uar": 0.7}
    >>> chosen_epochs([first, {"val_uar": 0.6, "val_loss": 1.1, "test_uar": 0.6}])
    {'uar': 1, 'loss': 0, 'last': 1, 'test': 0}
    """
    numbers = range(len(epochs))
    return {
        "uar": max(numbers, key=lambda n: (epochs[n]["val_uar"], -epochs[n]["val_loss"], -n)),
        "loss": min(numbers, key=lambda n: (epochs[n]["val_loss"], n)),
        "last": len(epochs) - 1,
        "test": max(numbers, key=lambda n: (epochs[n]["test_uar"], -n)),
    }


def summary(runs: Mapping[FoldSeed, Epochs]) -> dict[str, Any]:
    """Return the mean test UAR of each way to choose, and what the choice on the test fold adds to it.

    Intervals are 95 % t intervals over folds, of means over seeds: a choice is made for a fold as a whole.
    """
    folds = sorted({run.fold for run in runs})
    by_fold: dict[str, list[float]] = {}
    for name in CHOICES:
        figures = {run: epochs[chosen_epochs(epochs)[name]]["test_uar"] for run, epochs in runs.items()}
        by_fold[name] = [
            float(np.mean([uar for run, uar in figures.items() if run.fold == fold])) for fold in folds
        ]
    found: dict[str, Any] = {"folds": folds, "seeds": sorted({run.seed for run in runs}), "runs": len(runs)}
    for name, values in by_fold.items():
        gaps = np.subtract(by_fold["test"], values)
        found[name] = {"uar": float(np.mean(values)), "by_fold": values}
        if name != "test":
            found[name] |= {"gap": float(gaps.mean()), "gap_ci": mean_interval(gaps)}
    return found


def markdown(found: Mapping[str, Any], config: str) -> str:
    """Return the table as a Markdown page."""
    rows = []
    for name, words in CHOICES.items():
        own = found[name]
        gap = "" if name == "test" else number(own["gap"], "+")
        if own.get("gap_ci"):
            gap += f" ({span(own['gap_ci'], sign='+')})"
        rows.append(f"| {words} | {own['uar']:.3f} | {gap} |")
    seeds = ", ".join(map(str, found["seeds"]))
    made = f"{found['hardware']}. Revision: {found['revision']}. torch {found['versions']['torch']}"
    return "\n".join(
        [
            f"# The epoch chosen on the test fold: {config}",
            "",
            f"{len(found['folds'])} folds, seeds {seeds}; the same {found['runs']} trainings in every row. A "
            "result whose epoch was chosen on the test fold is no result for unknown speakers; it is here "
            "for comparison with publications that did so.",
            "",
            "| epoch chosen by | test UAR, mean of folds | the test fold's choice adds (95 % over folds) |",
            "|---|---|---|",
            *rows,
            "",
            f"Hardware: {made}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="CONFIG or KEY=VALUE")
    parser.add_argument("--seeds", default="0", help="values of train.seed, with commas")
    parser.add_argument("--folds", default="", help="folds, with commas; all where not given")
    parser.add_argument("--out", type=Path, default=Path("runs/epoch_choice"), help="folder of the result")
    args = parser.parse_args()
    config = read_settings([*args.settings, f"train.run={args.out / 'run'}"])
    features = FeatureSet.open(config, whole=True)
    features.resident = {}
    every = range(number_of_folds(features.corpus, config.split))
    folds = [int(fold) for fold in args.folds.split(",")] if args.folds else list(every)
    kept = args.out / "runs.json"
    settings = json.loads(json.dumps(result_settings(config)))
    stored = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if stored and stored["settings"] != settings:
        parser.error(f"{kept} was made with other settings; name another folder with --out")
    epochs = stored.get("epochs", {})
    for pair in [FoldSeed(fold, int(seed)) for seed in args.seeds.split(",") for fold in folds]:
        if pair.name not in epochs:
            epochs[pair.name] = record(pair_config(config, pair), features)
            write_json(kept, {"settings": settings, "epochs": epochs})
            print(f"{pair.name}: {chosen_epochs(epochs[pair.name])}", flush=True)
    runs = {FoldSeed(*map(int, name[4:].split("-seed"))): rows for name, rows in epochs.items()}
    found = summary(runs) | {
        "bench": "epoch_choice", "hardware": machine(), "revision": source_revision(),
        "versions": package_versions("deiii", "torch", "numpy"),
    }  # fmt: skip
    words = [word for word in args.settings if not word.startswith(("corpus.root=", "cache="))]
    write_json(args.out / "table.json", {**found, "settings": words})
    name = Path(next(word for word in args.settings if "=" not in word)).stem
    write_text(args.out / "table.md", markdown(found, name))
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    main()
