"""Many runs from one cache: one after the other, several at a time, on several GPUs or on Dask workers.

A run is whole when its ``metrics.json`` is there. One that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from typing import TypeVar

import torch

from deiii.data.config.load import changed_settings, load_config, parse_config, to_yaml
from deiii.data.config.schema import Config
from deiii.model.evaluation.evaluate import evaluate
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.train import train

Name = TypeVar("Name")


def finished(config: Config) -> bool:
    """Whether a run has been trained and scored.

    Raises:
        RunError: it has, but with other settings: its figures would stand for something they are not.
    """
    run = RunFolder(config.train.run)
    if not run.metrics_json.exists():
        return False
    if changed := changed_settings(load_config(run.config), config):
        raise RunError(
            f"{run.path} was trained with other settings ({'; '.join(changed[:3])}); "
            "choose another folder with train.run=... (benchmarks: --folder), or remove that run"
        )
    return True


def run_cell(text: str, threads: int = 0, progress: bool = False) -> None:
    """Train and score one run from its settings as YAML, its test speakers once."""
    if threads:
        torch.set_num_threads(threads)
    config = parse_config(text)
    if finished(config):
        return
    train(config, resume=RunFolder(config.train.run).config.exists(), progress=progress)
    evaluate(config.train.run)


def run_all(
    configs: Mapping[Name, Config], jobs: int = 0, progress: bool = True
) -> Iterator[tuple[Name, float]]:
    """Run what is not finished; yields each name as its run ends, and the seconds since the start.

    Args:
        configs: settings of each run, each with a ``train.run`` of its own; the first one's ``scheduler``
            names a running Dask scheduler, whose workers then do it (on a file system they share).
        jobs: runs at a time on this machine; 0 is one for each GPU, or one on a CPU.
        progress: show each run's own epochs, where one runs at a time.
    """
    began = time.perf_counter()
    todo = {name: config for name, config in configs.items() if not finished(config)}
    if not todo:
        return
    first = next(iter(todo.values()))
    since = lambda: time.perf_counter() - began
    if first.scheduler is not None:
        for name in _on_dask(first.scheduler, {n: to_yaml(c) for n, c in todo.items()}):
            yield name, since()
        return
    gpus = torch.cuda.device_count() if first.train.device in ("auto", "cuda") else 0
    jobs = min(jobs or max(1, gpus), len(todo))
    if jobs <= 1:
        for name, config in todo.items():
            run_cell(to_yaml(config), progress=progress)
            yield name, since()
        return
    texts = {n: to_yaml(_on_gpu(c, i % gpus if gpus > 1 else None)) for i, (n, c) in enumerate(todo.items())}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way = {pool.submit(run_cell, text, threads): name for name, text in texts.items()}
        try:
            for done in as_completed(under_way):
                done.result()
                yield under_way[done], since()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _on_gpu(config: Config, gpu: int | None) -> Config:
    if gpu is None:
        return config
    own = deepcopy(config)
    own.train.device = f"cuda:{gpu}"
    return own


def _on_dask(address: str, texts: Mapping[Name, str]) -> Iterator[Name]:
    """One task a run; a worker with a GPU resource gives it to one run at a time."""
    from distributed import Client
    from distributed import as_completed as finished_first

    with Client(address) as client:
        gpu = any(
            "GPU" in w.get("resources", {}) for w in client.scheduler_info(n_workers=-1)["workers"].values()
        )
        resources = {"GPU": 1} if gpu else None
        futures = {client.submit(run_cell, t, pure=False, resources=resources): n for n, t in texts.items()}
        for future in finished_first(futures):
            future.result()
            yield futures[future]
