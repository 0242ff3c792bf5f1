"""Cross-validation: train and score every fold with every seed, and write one report.

Each pair of fold and seed has an ordinary run folder, ``<train.run>/fold<f>-seed<s>``: the network is
trained, its epoch chosen on validation speakers, its test speakers scored once. Finished runs are not
repeated, interrupted runs continue.

>>> crossval(load_config("configs/ravdess_audio.yaml"), seeds=[0, 1])   # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deiii.data.cache.identity import find_corpus
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.protocol import PARTS, SplitError
from deiii.data.corpora.splits import is_tested, make_split, number_of_folds
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.feature_split import split_features
from deiii.data.tools.counts import counted, listed
from deiii.data.tools.text.figure_text import number
from deiii.model.evaluation.crossval_report import write_crossval
from deiii.model.evaluation.many_runs import check_no_run, finished, run_all, time_left
from deiii.model.run_arguments import refuse_repeated
from deiii.model.training.parts import check_parts
from deiii.model.training.run_folder import RunFolder


@dataclass(frozen=True, order=True)
class FoldSeed:
    """One fold with one seed.

    >>> FoldSeed(0, 3).name
    'fold0-seed3'
    """

    fold: int
    seed: int

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return f"fold{self.fold}-seed{self.seed}"


def crossval(
    config: Config,
    seeds: Sequence[int] = (0,),
    folds: Sequence[int] | None = None,
    jobs: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the missing pairs of folds and seeds, and write the report.

    Args:
        config: settings of every run; ``split.fold`` and ``train.seed`` are set for each, ``train.run`` is
            the folder of all of them.
        seeds: values of ``train.seed``.
        folds: folds of the protocol; all where not given.
        jobs: runs at a time; see `deiii.model.evaluation.many_runs.run_all`.
        progress: whether to print a line for each finished run, and its epochs where one runs at a time.

    Returns:
        what ``crossval.json`` holds.

    Raises:
        ConfigError: the protocol has no test part or does not have a fold, a fold or a seed is named twice,
            or a part of a fold is empty.
        RunError: a finished run was made from other settings, clips or labels.
    """
    corpus = FeatureSet.open(config).corpus if config.is_mixture else find_corpus(config)
    if not is_tested(corpus, config.split):
        raise ConfigError(
            f"split.protocol={config.split.protocol} has no test part, so there is nothing to "
            "cross-validate; choose another protocol (`deiii splits list`), or train one network with "
            "`deiii train`"
        )
    existing = range(number_of_folds(corpus, config.split))
    folds = list(existing) if folds is None else list(folds)
    if unknown := [f for f in folds if f not in existing]:
        wrong = listed(map(str, unknown), "or")
        raise ConfigError(f"the protocol has the folds 0 to {len(existing) - 1}, not {wrong}")
    refuse_repeated("seeds", seeds)
    refuse_repeated("folds", folds)
    partial = partial_folds(corpus, config, folds)
    base = Path(config.train.run)
    check_no_run(base, "cross-validation")
    # All folds of the first seed come first.
    pairs = [FoldSeed(fold, seed) for seed in seeds for fold in folds]
    configs = {pair: pair_config(config, pair) for pair in pairs}
    tables: dict[str, Corpus] = {}
    todo = [pair for pair, own in configs.items() if not finished(own, tables)]
    done = len(pairs) - len(todo)
    if progress and done:
        print(f"finished before: {done} of {counted(len(pairs), 'run')}")
    check_folds(config, sorted({pair.fold for pair in todo}))
    for count, (pair, seconds) in enumerate(run_all(configs, jobs, progress), done + 1):
        metrics = RunFolder(base / pair.name).read_metrics()
        if progress:
            head = f"[{count}/{len(pairs)}] fold {pair.fold} seed {pair.seed}"
            print(
                f"{head}: {brief(metrics)}; {time_left(seconds, count - done, len(pairs) - count)}",
                flush=True,
            )
    return write_crossval(base, [(c.fold, c.seed, base / c.name) for c in pairs], partial)


def partial_folds(corpus: Corpus, config: Config, folds: Sequence[int]) -> dict[str, int]:
    """Return what ``crossval.json`` holds on folds that are left out; empty where all are there.

    Args:
        corpus: the clip table.
        config: names the protocol.
        folds: folds that are trained and scored.

    Returns:
        ``of_folds``: the number of folds of the protocol. ``untested``: the number of speakers whom only
        folds that are left out test; it is missing where the protocol cannot split these clips for a fold
        that is left out.
    """
    count = number_of_folds(corpus, config.split)
    if len(folds) == count:
        return {}
    found = {"of_folds": count}
    tested: dict[bool, set[str]] = {True: set(), False: set()}
    try:
        for fold in range(count):
            split = make_split(corpus, replace(config.split, fold=fold))
            tested[fold in folds].update(split.speakers("test"))
    except SplitError:  # such as a file of clips that are absent here, which is no matter for these folds
        return found
    return found | {"untested": len(tested[False] - tested[True])}


def left_out(base: str | Path, result: Mapping[str, Any]) -> list[str]:
    """Return the names of finished runs of a cross-validation that its report does not cover, sorted.

    Args:
        base: folder of all runs.
        result: what `crossval` returned.
    """
    covered = {FoldSeed(run["fold"], run["seed"]).name for run in result["runs"]}
    found = {path.parent.name for path in Path(base).glob("fold*-seed*/metrics.json")}
    return sorted(found - covered)


def check_folds(config: Config, folds: Sequence[int]) -> None:
    """Refuse folds that cannot be trained or scored, before the first one is trained.

    Raises:
        ConfigError: a part of a fold is empty or has no labels.
    """
    if not folds:
        return
    features = FeatureSet.open(config)
    for fold in folds:
        split, _ = split_features(features.corpus, config, replace(config.split, fold=fold))
        check_parts(features, split, {part: features.rows(getattr(split, part)) for part in PARTS}, config)


def brief(metrics: dict[str, Any]) -> str:
    """Return a run's UAR and CCCs on validation and test clips in one line."""
    figures = []
    for part in ("val", "test"):
        if metrics[part].get("uar") is not None:
            figures.append(f"{part} UAR {metrics[part]['uar']:.3f}")
    for part in ("val", "test"):
        for key, value in metrics[part].items():
            if key.startswith("ccc_") and isinstance(value, float):
                figures.append(f"{part} CCC {key[4:]} {number(value)}")
    return ", ".join(figures)


def pair_config(config: Config, pair: FoldSeed) -> Config:
    """Return the settings of the run of one fold and seed."""
    own = deepcopy(config)
    own.split.fold = pair.fold
    own.train.seed = pair.seed
    own.train.run = str(Path(config.train.run) / pair.name)
    return own
