"""One writer for each service that can record a training; each works without a network connection.

A writer is opened once for a run, gets a row of figures after each epoch, and is closed at the end. A resumed
run continues the record of its earlier part.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from deiii.data.tools.writer_lock import writer_lock

LONGEST_KEY = 240  # characters; MLflow takes 250 in the name of a setting or figure
REFUSED = re.compile(r"[^\w.:/ -]")  # what MLflow does not take in such a name

Figures = Mapping[str, float]  # figures, keyed by name, such as val/uar


class Writer(Protocol):
    """The interface that the training calls."""

    def write(self, epoch: int, figures: Figures) -> None:
        """Record the figures of an epoch."""

    def close(self, finished: bool) -> None:
        """Flush and end the record; ``finished`` is false for a training that was stopped or failed."""


class TensorBoardWriter:
    """Writes event files into ``events/`` of the run folder.

    Args:
        folder: folder of the run.
        name: name of the run.
        record: id of the record, the same when the run is resumed.
        settings: settings of the run, by dotted name.
        done: epochs that an earlier part of the run recorded; events of later ones are hidden.
    """

    def __init__(self, folder: Path, name: str, record: str, settings: Mapping[str, Any], done: int):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorBoard's imports warn about its own dependencies
            from torch.utils.tensorboard import SummaryWriter
        self._board = SummaryWriter(str(folder / "events"), purge_step=done or None)

    def write(self, epoch: int, figures: Figures) -> None:
        for key, value in figures.items():
            self._board.add_scalar(key, value, epoch)

    def close(self, finished: bool) -> None:
        self._board.close()


class WandbWriter:
    """Writes files into ``wandb/`` of the run folder, which ``wandb sync`` uploads.

    ``WANDB_MODE=online`` uploads during the training; ``WANDB_PROJECT`` names the project (default: deiii).
    The arguments are those of `TensorBoardWriter`.
    """

    def __init__(self, folder: Path, name: str, record: str, settings: Mapping[str, Any], done: int):
        os.environ.setdefault("WANDB_SILENT", "true")
        mode = os.environ.get("WANDB_MODE") or "offline"
        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else errors are sent to Sentry
        import wandb

        self._done = done
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "deiii",
            name=name,
            id=record,
            resume="allow",
            config=dict(settings),
            dir=str(folder.resolve()),
            mode=mode,
        )

    def write(self, epoch: int, figures: Figures) -> None:
        self._run.log({**figures, "epoch": epoch}, step=epoch)

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


class MlflowWriter:
    """Writes an MLflow run, into the folder ``mlflow`` beside the run unless ``MLFLOW_TRACKING_URI`` is set.

    ``MLFLOW_EXPERIMENT_NAME`` names the experiment (default: deiii). The arguments are those of
    `TensorBoardWriter`.
    """

    def __init__(self, folder: Path, name: str, record: str, settings: Mapping[str, Any], done: int):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's imports warn about its own dependencies
            from mlflow.tracking import MlflowClient

            given = os.environ.get("MLFLOW_TRACKING_URI")
            store = folder.resolve().parent / "mlflow"
            # Runs of a sweep may begin at the same time, and MLflow's tables cannot be made twice at once.
            with nullcontext() if given else writer_lock(store, waiting=lambda text: None):
                self._client = MlflowClient(tracking_uri=given or local_store(store))
                experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "deiii")
        before = self._client.search_runs([experiment], f"tags.deiii_run = '{record}'", max_results=1)
        if before:
            self._run = before[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        made = self._client.create_run(experiment, run_name=name, tags={"deiii_run": record})
        self._run = made.info.run_id
        for key, name in plain_names(settings).items():
            self._client.log_param(self._run, name, settings[key])

    def _experiment(self, name: str) -> str:
        if found := self._client.get_experiment_by_name(name):
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except Exception:
            # Another run may have made it since.
            if found := self._client.get_experiment_by_name(name):
                return found.experiment_id
            raise

    def write(self, epoch: int, figures: Figures) -> None:
        for key, name in plain_names(figures).items():
            self._client.log_metric(self._run, name, figures[key], step=epoch)

    def close(self, finished: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


def local_store(folder: Path) -> str:
    """Return the address of MLflow's store in a local folder."""
    folder.mkdir(parents=True, exist_ok=True)
    # SQLAlchemy reads `?` as the beginning of options, and `%20` as a space.
    return f"sqlite:///{quote(str(folder / 'mlflow.db'))}"


def plain_names(keys: Iterable[str]) -> dict[str, str]:
    """Return a name that MLflow accepts for each key, such as that of a class in ``corpus.classes``.

    >>> plain_names(["train.lr", "corpus.classes.calm (f)", "corpus.classes.calm [f]"])["train.lr"]
    'train.lr'
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for key in keys:
        plain = REFUSED.sub("_", key)[:LONGEST_KEY]
        name, number = plain, 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        found[key] = name
    return found
