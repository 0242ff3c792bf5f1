"""Cross-validation: every fold with every seed, from one cache, into one report.

Each cell of folds x seeds is an ordinary run folder, ``<train.run>/fold<f>-seed<s>``: trained, its epoch
chosen on its validation speakers, its test speakers scored once. What is finished is not done again, what was
interrupted goes on.

>>> crossval(load_config("configs/ravdess_audio.yaml"), seeds=[0, 1])   # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deiii.data.cache.index import read_table
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.scan import cache_name
from deiii.data.corpora.splits import number_of_folds
from deiii.model.evaluation.crossval_report import write_crossval
from deiii.model.evaluation.many_runs import finished, run_all
from deiii.model.training.run_folder import RunFolder


@dataclass(frozen=True, order=True)
class FoldSeed:
    """One fold with one seed."""

    fold: int
    seed: int

    @property
    def name(self) -> str:
        return f"fold{self.fold}-seed{self.seed}"


def crossval(
    config: Config,
    seeds: Sequence[int] = (0,),
    folds: Sequence[int] | None = None,
    jobs: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Run what is missing of folds x seeds and write the report.

    Args:
        config: of every run; ``split.fold`` and ``train.seed`` are set by the cell, ``train.run`` is the
            folder of all of them.
        seeds: `TrainConfig.seed` values.
        folds: all of the protocol's where not given.
        jobs: runs at a time; see `deiii.model.evaluation.many_runs.run_all`.

    Returns:
        what ``crossval.json`` holds.

    Raises:
        ConfigError: a fold that the protocol does not have, or a seed named twice.
    """
    corpus = read_table(config.cache, cache_name(config.corpus))
    there = range(number_of_folds(corpus, config.split))
    folds = list(there) if folds is None else list(folds)
    if odd := [f for f in folds if f not in there]:
        raise ConfigError(f"the protocol has the folds 0 to {len(there) - 1}, not {odd}")
    if len(set(seeds)) != len(seeds) or not seeds or len(set(folds)) != len(folds):
        raise ConfigError(f"seeds and folds are named once each; got seeds {list(seeds)}, folds {folds}")
    base = Path(config.train.run)
    cells = [FoldSeed(fold, seed) for seed in seeds for fold in folds]  # a whole round of folds comes first
    configs = {cell: cell_config(config, cell) for cell in cells}
    done = sum(finished(c) for c in configs.values())
    if progress and done:
        print(f"{done} of {len(cells)} runs are finished already")
    for number, (cell, seconds) in enumerate(run_all(configs, jobs, progress), done + 1):
        metrics = json.loads(RunFolder(base / cell.name).metrics_json.read_text(encoding="utf-8"))
        if progress:
            head = f"[{number}/{len(cells)}] fold {cell.fold} seed {cell.seed}"
            print(f"{head}: {brief(metrics)}; {seconds:.0f} s since the start", flush=True)
    return write_crossval(base, [(c.fold, c.seed, base / c.name) for c in cells])


def brief(metrics: dict[str, Any]) -> str:
    """One line's worth of a run's figures."""
    figures = [f"{part} {name} {metrics[part][key]:.3f}" for part in ("val", "test")
               for key, name in (("uar", "UAR"),) if metrics[part].get(key) is not None]  # fmt: skip
    figures += [f"{part} CCC {k[4:]} {v:.3f}" for part in ("val", "test") for k, v in metrics[part].items()
                if k.startswith("ccc_") and isinstance(v, float)]  # fmt: skip
    return ", ".join(figures)


def cell_config(config: Config, cell: FoldSeed) -> Config:
    """The settings of one cell's run."""
    own = deepcopy(config)
    own.split.fold, own.train.seed = cell.fold, cell.seed
    own.train.run = str(Path(config.train.run) / cell.name)
    return own
