"""The validation figure that selects the epoch and ends a training, and what can be checked of it before."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deiii.data.config.schema import Config
from deiii.data.config.schema_train import TrainConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.text.figure_text import number

if TYPE_CHECKING:
    from deiii.data.loader.feature_set import FeatureSet


def check_monitor(config: Config, features: FeatureSet, val: np.ndarray) -> None:
    """Refuse a ``train.monitor`` that cannot be computed from the validation clips.

    Args:
        config: all settings.
        features: the clips.
        val: rows of the validation clips, int64 [N].

    Raises:
        ConfigError: the clips lack these labels; the message states which, and what to do.
    """
    monitor, names = config.train.monitor, config.model.attributes
    clips = [features.clips[row] for row in val]
    labelled = config.model.classes and any(clip.label is not None for clip in clips)
    rated = [n for n in names if sum(clip.attributes.get(n) is not None for clip in clips) > 1]
    if monitor == "ccc" and not rated:
        reason = (
            f"the validation clips have no ratings of {', '.join(names)}"
            if names
            else "model.attributes is empty"
        )
        raise ConfigError(
            f"train.monitor=ccc, but {reason}; use train.monitor=auto, or name attributes of the "
            "corpus, e.g. model.attributes=[valence,arousal]"
        )
    if monitor == "uar" and not labelled:
        reason = "the validation clips have no labels" if config.model.classes else "model.classes is off"
        raise ConfigError(f"train.monitor=uar, but {reason}; use train.monitor=auto")


def monitored(row: Mapping[str, Any], monitor: str) -> float:
    """Return the figure that selects the epoch; larger is better.

    Args:
        row: an epoch's metrics.
        monitor: ``uar``, ``ccc`` (the mean over attributes), ``loss`` (negated), ``last`` (the number of the
            epoch, so that nothing is chosen), or ``auto``: UAR where classes are predicted, else CCC, else
            the loss.

    Raises:
        ValueError: the validation clips do not have the labels, or there are no validation clips.
    """
    cccs = [v for k, v in row.items() if k.startswith("val_ccc_") and v is not None]
    figures: dict[str, float | None] = {
        "uar": row.get("val_uar"),
        "ccc": sum(cccs) / len(cccs) if cccs else None,
        "loss": -row["val_loss"] if row.get("val_loss") is not None else None,
        "last": float(row["epoch"]) if monitor == "last" else None,
    }
    known = [v for v in figures.values() if v is not None]
    figure = next(iter(known), None) if monitor == "auto" else figures[monitor]
    if figure is None:
        reason = "the validation clips have no such labels; use train.monitor=auto"
        raise ValueError(
            f"train.monitor={monitor}, but {reason if known else 'there are no validation clips'}"
        )
    return figure


def known_monitor(row: Mapping[str, Any], monitor: str) -> str:
    """Return what ``train.monitor=auto`` stands for where an epoch has these metrics; others as given.

    >>> known_monitor({"val_uar": None, "val_ccc_valence": 0.5}, "auto"), known_monitor({}, "last")
    ('ccc', 'last')
    """
    if monitor != "auto":
        return monitor
    has_ccc = any(k.startswith("val_ccc_") and v is not None for k, v in row.items())
    return "uar" if row.get("val_uar") is not None else "ccc" if has_ccc else "loss"


def describe_monitored(row: dict[str, Any], monitor: str) -> str:
    """Return the name and value of the figure that selects the epoch; for ``last``, those of the loss.

    Without validation clips, the training loss is returned.

    >>> describe_monitored({"epoch": 3, "val_monitor": 0.25, "val_loss": 1.5, "val_uar": 0.25}, "auto")
    'validation UAR 0.250'
    """
    if row.get("val_loss") is None:
        return f"training loss {row['train_loss']:.3f}"
    monitor = known_monitor(row, monitor)
    if monitor in ("loss", "last"):
        return f"validation loss {row['val_loss']:.3f}"
    return f"validation {monitor.upper()} {number(row['val_monitor'])}"


@dataclass(frozen=True)
class TrainingState:
    """The progress of a training.

    Attributes:
        epochs: epochs that were trained and validated.
        planned: ``train.epochs``.
        waited: epochs since the best one.
        patience: ``train.patience``; 0 trains all planned epochs.

    >>> TrainingState(3, 25, 1, 0).finished, str(TrainingState(3, 25, 1, 0))
    (False, '3 of 25 epochs')
    """

    epochs: int
    planned: int
    waited: int
    patience: int

    @property
    def finished(self) -> bool:
        """Whether the training came to its last epoch or to early stopping."""
        return self.epochs >= self.planned or 0 < self.patience <= self.waited

    def record(self) -> dict[str, Any]:
        """Return the entry ``training`` of ``metrics.json``."""
        return {"finished": self.finished, "epochs": self.epochs, "planned": self.planned}

    def __str__(self) -> str:
        return f"{self.epochs} of {self.planned} epochs"


def training_state(rows: Sequence[Mapping[str, float | None]], settings: TrainConfig) -> TrainingState:
    """Return how far a training came.

    Args:
        rows: the metrics of its epochs in order, as ``metrics.csv`` has them.
        settings: settings of the training.
    """
    results = [(row.get("val_monitor") or 0.0, -(row.get("val_loss") or 0.0)) for row in rows]
    best = max(range(len(rows)), key=lambda epoch: (results[epoch], -epoch), default=-1)
    return TrainingState(len(rows), settings.epochs, len(rows) - 1 - best, settings.patience)


def describe(row: dict[str, Any], best: bool) -> str:
    """Return one line on an epoch."""
    names = {"train_loss": "loss", "val_loss": "val loss", "val_uar": "val UAR"}
    names |= {k: f"val CCC {k.removeprefix('val_ccc_')}" for k in row if k.startswith("val_ccc_")}
    figures = [f"{label} {row[key]:.3f}" for key, label in names.items() if row.get(key) is not None]
    return f"epoch {row['epoch']:3d}  {'  '.join(figures)}  {row['seconds']:.1f} s{'  best' if best else ''}"


def longer(run: Path, changed: Iterable[str], mixture: bool) -> str:
    """Return what to do in order to train a run longer than planned; empty if its length was not changed.

    Args:
        run: the run folder.
        changed: the settings that differ, as ``key: old -> new``.
        mixture: whether several corpora are trained on together; such a training starts from no other.

    >>> longer(Path("runs/a"), ["train.lr: 0.1 -> 0.2"], mixture=False)
    ''
    """
    if not any(setting.startswith(("train.epochs: ", "train.patience: ")) for setting in changed):
        return ""
    new = "a new run:" if mixture else f"a new run from its network: {shlex.quote(f'train.start={run}')}"
    return (
        ". The learning rate follows a schedule over all epochs, so a run cannot be made longer or shorter; "
        f"to train on, start {new} train.run=..."
    )
