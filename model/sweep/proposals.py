"""Combinations of settings that Optuna proposes in rounds.

Optuna keeps its proposals and their scores in a journal file, so that a stopped sweep can be continued.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.packages.requirements import install_command
from deiii.model.sweep.space import Axis, text
from deiii.model.training.run_folder import RunError

JOURNAL = "optuna-journal.log"


class Proposals:
    """Combinations that Optuna's tree-structured Parzen estimator proposes.

    Args:
        base: the sweep's folder, which holds the journal.
        axes: what is varied.
        most: combinations in all, those of earlier calls included.

    Raises:
        ConfigError: Optuna is not installed.
        RunError: the journal is of a sweep over other settings, or damaged.
    """

    def __init__(self, base: Path, axes: Sequence[Axis], most: int):
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise ConfigError(
                f"ranges such as log(a,b) need Optuna: {install_command('sweep')}; with a list for every "
                "setting, all combinations are tried without it"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self.axes, self.most = list(axes), most
        _drop_unfinished_line(base / JOURNAL)
        try:
            storage = JournalStorage(JournalFileBackend(str(base / JOURNAL)))
            self.study = optuna.create_study(
                storage=storage, study_name="sweep", direction="maximize", load_if_exists=True
            )
        except (ValueError, KeyError, TypeError) as error:  # a line that Optuna did not write
            raise RunError(
                f"{base / JOURNAL} is damaged ({error}); put back a copy of it, or remove it: the sweep then "
                "proposes anew, and does not repeat runs that are finished"
            ) from None
        space = [str(axis) for axis in axes]
        known = self.study.user_attrs.get("space")
        if known not in (None, space):
            raise RunError(
                f"{base / JOURNAL} is of a sweep over {' '.join(known)}; choose another folder with "
                "train.run=..."
            )
        self.study.set_user_attr("space", space)
        for trial in self.study.get_trials(deepcopy=False):
            # Optuna writes a trial before its settings: a process that was killed in between left some out.
            if trial.state == optuna.trial.TrialState.RUNNING and not self._is_whole(trial):
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is marked as experimental
            # The seed is the number of earlier trials, so that a continued sweep draws other points than
            # before.
            self.study.sampler = optuna.samplers.TPESampler(
                seed=len(self.study.trials), constant_liar=True, n_startup_trials=min(10, max(4, most // 3))
            )

    def next(self, size: int) -> dict[int, dict[str, Any]]:
        """Return the settings of the next round by number: first those that were stopped, then new ones."""
        state = self._optuna.trial.TrialState
        stopped = [t for t in self._trials() if t.state == state.RUNNING]
        found = {t.number: self._settings(t.params) for t in stopped}
        while len(found) < size and len(self._trials()) < self.most:
            trial = self.study.ask(self._distributions())
            found[trial.number] = self._settings(trial.params)
        return found

    def tell(self, number: int, score: float) -> None:
        """Record the score of a combination; minus infinity is a failure."""
        if math.isfinite(score):
            self.study.tell(number, score)
        else:
            self.study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def all(self) -> dict[int, dict[str, Any]]:
        """Return the settings of all combinations that were proposed, by number."""
        return {t.number: self._settings(t.params) for t in self._trials()}

    def _trials(self) -> list[Any]:
        """Return Optuna's trials that have all settings."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if self._is_whole(trial)]

    def _is_whole(self, trial: Any) -> bool:
        return all(axis.key in trial.params for axis in self.axes)

    def _distributions(self) -> dict[str, Any]:
        made = self._optuna.distributions
        found: dict[str, Any] = {}
        for axis in self.axes:
            if not axis.kind:
                found[axis.key] = made.CategoricalDistribution([text(value) for value in axis.values])
            elif axis.whole:
                found[axis.key] = made.IntDistribution(int(axis.low), int(axis.high), log=axis.kind == "log")
            else:
                found[axis.key] = made.FloatDistribution(axis.low, axis.high, log=axis.kind == "log")
        return found

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        values = {axis.key: {text(value): value for value in axis.values} for axis in self.axes}
        return {
            axis.key: params[axis.key] if axis.kind else values[axis.key][params[axis.key]]
            for axis in self.axes
        }


def _drop_unfinished_line(journal: Path) -> None:
    """Remove the rest of a line that a process did not write to its end, which Optuna could not read."""
    if journal.exists():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)
