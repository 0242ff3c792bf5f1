"""Train every combination of settings with every seed, and rank them by their validation scores.

Each pair of a combination and a seed has an ordinary run folder, whose name is a digest of the settings that
are varied. It is trained only: the test speakers are not read. Finished runs are not repeated, interrupted
runs continue; a run that cannot be trained is recorded with its reason, and so is one for which memory did
not suffice, which the next sweep tries again.

>>> sweep(["ravdess_audio", "train.run=runs/lr"], split_space(["train.lr=[1e-3,2e-3]"])[0])  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deiii.data.cache.recipes import stage_keys
from deiii.data.cache.stages import network_stages, stages
from deiii.data.command_line.entry import memory_words
from deiii.data.config.load import parse_config
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.counts import counted
from deiii.data.tools.processes.dask_workers import connect, workers_of
from deiii.data.tools.progress import BAR_AFTER_S, progress_bar
from deiii.data.tools.text.canonical_json import canonical_json
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.evaluation.crossval import check_folds
from deiii.model.evaluation.many_runs import GpuMemory, check_no_run, finished, run_all, run_one, time_left
from deiii.model.run_arguments import refuse_repeated
from deiii.model.sweep.combinations import Combinations
from deiii.model.sweep.comparable import check_comparable
from deiii.model.sweep.proposals import Proposals
from deiii.model.sweep.results import (
    FAILED,
    Result,
    Trial,
    read_failure,
    read_result,
    write_failure,
    write_results,
)
from deiii.model.sweep.space import Axis, grid, require_axes, text
from deiii.model.training.trainer import Diverged

MOST_GRID = 10_000


def sweep(
    words: Sequence[str],
    axes: Sequence[Axis],
    seeds: Sequence[int] = (0,),
    trials: int = 20,
    jobs: int = 0,
    progress: bool = True,
) -> tuple[Result | None, Path]:
    """Try the settings and write the results into ``train.run``.

    Args:
        words: configs and settings of every run, as a command takes them; ``train.run`` is the folder of all.
            With ``scheduler``, the workers of a Dask cluster do the runs.
        axes: what is varied (`split_space`). Without a range, all combinations are tried.
        seeds: values of ``train.seed``; a combination's score is the mean over them.
        trials: combinations to try in all, where there is a range.
        jobs: runs at a time; see `deiii.model.evaluation.many_runs.run_all`.
        progress: show what is done.

    Returns:
        the best result, ``None`` where all failed, and the folder.

    Raises:
        ConfigError: nothing is varied, a combination is not allowed, features are missing, combinations
            cannot be ranked by one score, or a range needs Optuna, which is not installed.
        RunError: the folder holds runs or a journal of other settings.
        Locked: another sweep is writing to the folder.
    """
    combinations = Combinations(words)
    base = combinations.base
    require_axes(axes)
    refuse_repeated("seeds", seeds)
    check_ranges(axes)
    check_comparable(combinations, axes)
    folder = Path(base.train.run)
    check_no_run(folder, "sweep")
    one_by_one = any(axis.kind for axis in axes)
    planned: list[Trial] = []
    if one_by_one:
        check_scored(base)
        check_folds(base, [base.split.fold])
    else:
        planned = [_trial(folder, settings, seeds) for settings in _grid(axes)]
        _check_grid(combinations, planned, progress)
    with writer_lock(folder, wait=False):
        if one_by_one:
            planned = _propose(combinations, axes, seeds, trials, jobs, progress)
        else:
            for _ in _runs(combinations, planned, seeds, jobs, progress, ""):
                pass
        unique = {trial.words: trial for trial in planned}
        best = write_results(folder, axes, [read_result(trial) for trial in unique.values()], seeds)
    return best, folder


def _propose(
    combinations: Combinations,
    axes: Sequence[Axis],
    seeds: Sequence[int],
    trials: int,
    jobs: int,
    progress: bool,
) -> list[Trial]:
    """Do the runs of combinations that Optuna proposes; returns all, those of earlier calls included."""
    base = combinations.base
    folder = Path(base.train.run)
    proposals = Proposals(folder, axes, trials)
    size = jobs or _workers(base)
    # A continued sweep: with further seeds, runs of earlier combinations are missing and are done first.
    # Runs that were made with other settings are refused.
    before = [_trial(folder, settings, seeds) for settings in proposals.all().values()]
    for _ in _runs(combinations, before, seeds, jobs, progress, f"of at most {trials}"):
        pass
    while found := proposals.next(size):
        tried = {number: _trial(folder, settings, seeds) for number, settings in found.items()}
        for _ in _runs(combinations, tried.values(), seeds, jobs, progress, f"of at most {trials}"):
            pass
        for number, trial in tried.items():
            proposals.tell(number, read_result(trial).mean)
    return [_trial(folder, settings, seeds) for settings in proposals.all().values()]


def check_ranges(axes: Sequence[Axis]) -> None:
    """Raise ConfigError for a range over a setting that needs preprocessing for each value."""
    for axis in axes:
        section = axis.key.split(".")[0]
        if axis.kind and (section in stages() or section == "corpus"):
            raise ConfigError(
                f"{axis.key} needs preprocessing for each value; name the values that are preprocessed, "
                f"{axis.key}=[a,b]"
            )


def check_scored(config: Config) -> None:
    """Raise ConfigError for settings without validation speakers, which give no score for the ranking."""
    if config.split.val_share == 0:
        raise ConfigError(
            "split.val_share=0 keeps no speaker for validation, and a sweep ranks settings by validation "
            "scores; set a split.val_share of more than 0, and train with split.val_share=0 afterwards"
        )


def _grid(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_GRID:
        raise ConfigError(f"{count} combinations are too many to try all; use ranges, or fewer values")
    return list(grid(axes))


def _check_grid(combinations: Combinations, trials: Sequence[Trial], progress: bool) -> None:
    """Refuse combinations that are not allowed or lack features, before any is trained."""
    seen: set[str] = set()
    checked: set[str] = set()
    bar = progress_bar(
        trials,
        desc="checking combinations",
        unit="combination",
        delay=BAR_AFTER_S,
        leave=False,
        shown=progress,
    )
    for trial in bar:
        config = combinations.config(trial.settings)
        check_scored(config)
        values = repr(
            [(k, v) for k, v in trial.settings.items() if k.split(".")[0] not in ("train", "loader")]
        )
        if values in seen:  # the settings of training and loading change neither features nor splits
            continue
        seen.add(values)
        if (which := _features_and_split(config)) not in checked:
            checked.add(which)
            check_folds(config, [config.split.fold])


def _features_and_split(config: Config) -> str:
    """Return everything that `check_folds` depends on, as text."""
    read = (network_stages(config.model), config.model.classes, config.model.attributes)
    corpora = (config.corpus, config.mix, config.mix_test, config.copies)
    return canonical_json(stage_keys(config)) + repr((read, config.split, corpora))


def _trial(folder: Path, settings: Mapping[str, Any], seeds: Sequence[int]) -> Trial:
    name = hashlib.sha256(canonical_json({k: text(v) for k, v in settings.items()}).encode()).hexdigest()[:10]
    return Trial(settings, tuple(folder / f"{name}-seed{seed}" for seed in seeds))


def _runs(
    combinations: Combinations,
    trials: Iterable[Trial],
    seeds: Sequence[int],
    jobs: int,
    progress: bool,
    beside: str,
) -> Iterator[Path]:
    """Do the runs that are missing; yields the folder of each."""
    configs: dict[Path, Config] = {}
    about: dict[Path, str] = {}
    for trial in trials:
        for seed, folder in zip(seeds, trial.folders, strict=True):
            config = combinations.config({**trial.settings, "train.seed": seed})
            configs[folder] = replace(config, train=replace(config.train, run=str(folder)))
            about[folder] = f"{trial.words} seed {seed}"
    tables: dict[str, Corpus] = {}
    before = sum(is_tried(config, tables) for config in configs.values())
    if progress and before:
        print(f"finished before: {before} of {counted(len(configs), 'run')}")
    runs = run_all(configs, jobs, progress, try_one, is_tried)
    for number, (folder, seconds) in enumerate(runs, before + 1):
        if progress:
            result = read_result(Trial({}, (folder,)))
            what = f"{result.score} {result.mean:.4f}" if result.scores else f"failed: {result.problem}"
            left = time_left(seconds, number - before, len(configs) - number)
            head = f"[{number}/{len(configs)}{f', {beside}' if beside else ''}]"
            print(f"{head} {about[folder]}: {what}; {left}", flush=True)
        yield folder


def _workers(config: Config) -> int:
    """Return combinations in a round: one for each worker of the Dask cluster, else one."""
    if config.scheduler is None:
        return 1
    with connect(config.scheduler) as client:
        return max(1, len(workers_of(client)))


def is_tried(config: Config, tables: dict[str, Corpus]) -> bool:
    """Return whether a run was trained to its end, or cannot be trained."""
    return bool(read_failure(Path(config.train.run), config)) or finished(config, tables, scored=False)


def try_one(setting_text: str, threads: int = 0, progress: bool = False, share: bool = False) -> GpuMemory:
    """Train one run, as `run_one`; where its settings do not allow that, record the reason in its folder."""
    config = parse_config(setting_text)
    (Path(config.train.run) / FAILED).unlink(missing_ok=True)  # the failure of other settings
    try:
        return run_one(setting_text, threads, progress, scored=False, share=share)
    except (Diverged, ConfigError) as error:
        write_failure(config, str(error))
    except (MemoryError, RuntimeError) as error:
        if not (reason := memory_words(error)):
            raise
        write_failure(config, reason, again=True)
    return GpuMemory()
