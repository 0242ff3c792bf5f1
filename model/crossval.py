"""Cross-validation: every fold with every seed, from one cache, into one report.

Each cell of folds x seeds is an ordinary run folder, ``<train.run>/fold<f>-seed<s>``: trained, its epoch
chosen on its validation speakers, its test speakers scored once. What is finished is not done again, what was
interrupted goes on.

>>> crossval(load_config("configs/ravdess_audio.yaml"), seeds=[0, 1])   # doctest: +SKIP
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.cache import read_table
from data.config import ConfigError, parse_config, to_yaml
from data.corpora import cache_name
from data.schema import Config
from data.splits import number_of_folds
from model.crossval_report import write_crossval
from model.evaluate import evaluate
from model.runs import RunFolder
from model.train import train


@dataclass(frozen=True, order=True)
class Cell:
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
        jobs: runs at a time; 0 is one for each GPU, or one on a CPU.

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
    cells = [Cell(fold, seed) for seed in seeds for fold in folds]  # a whole round of folds comes first
    todo = [cell for cell in cells if not finished(base / cell.name)]
    if progress and len(todo) < len(cells):
        print(f"{len(cells) - len(todo)} of {len(cells)} runs are finished already")
    for number, (cell, seconds) in enumerate(
        _run_all(config, todo, jobs, progress), len(cells) - len(todo) + 1
    ):
        if progress:
            metrics = json.loads(RunFolder(base / cell.name).metrics_json.read_text(encoding="utf-8"))
            head = f"[{number}/{len(cells)}] fold {cell.fold} seed {cell.seed}"
            print(f"{head}: {brief(metrics)}; {seconds:.0f} s", flush=True)
    return write_crossval(base, [(c.fold, c.seed, base / c.name) for c in cells])


def finished(path: Path) -> bool:
    """Whether a cell has been trained and scored."""
    return RunFolder(path).metrics_json.exists()


def brief(metrics: dict[str, Any]) -> str:
    """One line's worth of a run's figures."""
    figures = [f"{part} {name} {metrics[part][key]:.3f}" for part in ("val", "test")
               for key, name in (("uar", "UAR"),) if metrics[part].get(key) is not None]  # fmt: skip
    figures += [f"{part} CCC {k[4:]} {v:.3f}" for part in ("val", "test") for k, v in metrics[part].items()
                if k.startswith("ccc_") and isinstance(v, float)]  # fmt: skip
    return ", ".join(figures)


def cell_config(config: Config, cell: Cell, gpu: int | None = None) -> Config:
    """The settings of one cell's run."""
    own = deepcopy(config)
    own.split.fold, own.train.seed = cell.fold, cell.seed
    own.train.run = str(Path(config.train.run) / cell.name)
    if gpu is not None:
        own.train.device = f"cuda:{gpu}"
    return own


def run_cell(text: str, threads: int = 0, progress: bool = False) -> None:
    """Train and score one cell from its settings as YAML; goes on with what is there."""
    if threads:
        torch.set_num_threads(threads)
    config = parse_config(text)
    resume = RunFolder(config.train.run).config.exists()
    train(config, resume=resume, progress=progress)
    evaluate(config.train.run)


def _run_all(
    config: Config, cells: Sequence[Cell], jobs: int, progress: bool
) -> Iterable[tuple[Cell, float]]:
    """Run cells, several at a time where asked or where there are several GPUs."""
    gpus = torch.cuda.device_count() if config.train.device in ("auto", "cuda") else 0
    jobs = min(jobs or max(1, gpus), len(cells))
    gpu = lambda n: n % gpus if gpus > 1 else None
    texts = {cell: to_yaml(cell_config(config, cell, gpu(n))) for n, cell in enumerate(cells)}
    if jobs <= 1:
        for cell, text in texts.items():
            began = time.perf_counter()
            run_cell(text, progress=progress)
            yield cell, time.perf_counter() - began
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    began = time.perf_counter()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way = {pool.submit(run_cell, text, threads): cell for cell, text in texts.items()}
        try:
            for done in as_completed(under_way):
                done.result()
                yield under_way[done], time.perf_counter() - began
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
