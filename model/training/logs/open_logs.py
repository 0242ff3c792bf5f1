"""The hook of the training loop: ``train.log`` opens writers, and each gets a row after every epoch."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from omegaconf import OmegaConf

from deiii.data.config.load import to_yaml
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.packages.requirements import install_command
from deiii.model.training.logs.writers import MlflowWriter, TensorBoardWriter, WandbWriter, Writer
from deiii.model.training.run_folder import RunFolder

MOST_SHOWN = 300  # characters of an error; some have a page of advice
# Name in ``train.log``: the module, the extra that installs it (none: a dependency of deiii), the writer.
KINDS: dict[str, tuple[str, str, type[Any]]] = {
    "tensorboard": ("tensorboard", "", TensorBoardWriter),
    "wandb": ("wandb", "wandb", WandbWriter),
    "mlflow": ("mlflow", "mlflow", MlflowWriter),
}


def check_logs(names: Sequence[str]) -> None:
    """Refuse a ``train.log`` whose packages are not installed, before anything is read or trained.

    Raises:
        ConfigError: names the package and the command that installs it.
    """
    for name in names:
        module, extra, _ = KINDS[name]
        if find_spec(module) is None:
            install = install_command(extra) if extra else f"pip install {module}"
            raise ConfigError(f"train.log={name} needs the package {module}: {install}")


class Logs:
    """The open writers of a run. A writer that fails is closed and dropped; the training continues.

    Args:
        writers: writers, keyed by name.
    """

    def __init__(self, writers: Mapping[str, Writer]):
        self.writers = dict(writers)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Record an epoch's row of metrics; undefined figures are left out."""
        figures = {
            name.replace("_", "/", 1): float(value)
            for name, value in row.items()
            if value is not None and name != "epoch"
        }
        for name, writer in list(self.writers.items()):
            try:
                writer.write(int(row["epoch"]), figures)
            except Exception as error:  # a service that is full or away must not end hours of training
                reason = _one_line(error)
                print(f"train.log={name} stopped: {reason}; metrics.csv has all figures", file=sys.stderr)
                self._close(name, finished=False)

    def close(self, finished: bool) -> None:
        """Close all writers; one that is closed already is not closed again."""
        for name in list(self.writers):
            self._close(name, finished)

    def _close(self, name: str, finished: bool) -> None:
        """Drop a writer and close it, so that what it recorded is flushed and its record has an end."""
        try:
            self.writers.pop(name).close(finished)
        except Exception as error:
            print(f"train.log={name} was not closed: {_one_line(error)}", file=sys.stderr)


@contextmanager
def open_logs(config: Config, run: RunFolder, done: int) -> Iterator[Logs]:
    """Open what ``train.log`` names for the time of a training; what cannot be opened is left out.

    Args:
        config: all settings.
        run: the run folder; its ``run.json`` gets the identity of the record.
        done: epochs that were trained before.

    Raises:
        ConfigError: a package that ``train.log`` needs cannot be imported; all else is left out with a note.

    >>> with open_logs(config, run, 0) as logs:  # doctest: +SKIP
    ...     logs.epoch({"epoch": 0, "val_uar": 0.5})
    """
    record = record_id(run)
    settings = flat(OmegaConf.to_container(OmegaConf.create(to_yaml(config))))
    name = run.path.resolve().name
    logs = Logs({})
    finished = False
    try:
        for kind in dict.fromkeys(config.train.log):
            _, install, writer = KINDS[kind]
            try:
                logs.writers[kind] = writer(run.path, name, record, settings, done)
            except ImportError as error:
                raise ConfigError(f"train.log={kind} cannot be imported ({error}): {install}") from None
            except Exception as error:  # such as a server that is away, or a wrong address of it
                reason = _one_line(error)
                print(
                    f"train.log={kind} does not record this training: {reason}; metrics.csv has all figures",
                    file=sys.stderr,
                )
        yield logs
        finished = True
    finally:
        logs.close(finished)


def _one_line(error: Exception) -> str:
    """Return the message of an error of a package in one line, cut after `MOST_SHOWN` characters."""
    return " ".join(str(error).split())[:MOST_SHOWN] or type(error).__name__


def record_id(run: RunFolder) -> str:
    """Return the id of a run's records, 32 hex digits; made once and kept in ``run.json`` if it exists."""
    info = run.read_info() if run.info.exists() else {}
    return info.get("record") or run.add(record=uuid.uuid4().hex)["record"]


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries by dotted name.

    >>> flat({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
