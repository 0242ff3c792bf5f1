"""Train and score many runs: one after the other, several at a time, on several GPUs or on Dask workers.

A run is finished when its ``metrics.json`` exists. An interrupted run continues where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import torch

from deiii.data.cache.identity import find_corpus
from deiii.data.cache.recipes import stage_keys
from deiii.data.config.load import parse_config, to_yaml
from deiii.data.config.schema import Config, LoaderConfig, SplitConfig, TrainConfig
from deiii.data.corpora.clips import Corpus
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.counts import counted
from deiii.data.tools.devices import usable_gpus
from deiii.data.tools.machine import usable_cores
from deiii.data.tools.processes.dask_workers import (
    ClusterError,
    connect_to_workers,
    result_of,
    while_connected,
    workers_of,
)
from deiii.data.tools.processes.pool import start_tasks, worker_pool
from deiii.data.tools.processes.stall_watch import StallWatch
from deiii.data.tools.progress import say
from deiii.data.tools.text.sizes import memory_size
from deiii.model.evaluation.evaluate import evaluate
from deiii.model.evaluation.results import unfinished_training
from deiii.model.training.origin import check_origin, check_settings
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.train import train

Name = TypeVar("Name")
Work = Callable[..., "GpuMemory"]

POLL_S = 0.2  # s between two looks for ended runs
SAVES_WITHIN = 30.0  # s that a stopped training has to end its step and save its state
GIB = 2**30
MEMORY_SHARE = 0.9  # share of a GPU's free memory that all runs on it may use together
CONTEXT = GIB  # GPU memory that a process takes beside what PyTorch reserves: CUDA's context, libraries' code
REUSE_REMEDY = "choose another folder with train.run=... (benchmarks: --folder), or remove that run"


@dataclass(frozen=True)
class GpuMemory:
    """GPU memory of one run, in bytes.

    Attributes:
        peak: largest amount that PyTorch reserved.
        available: free memory that other processes left.
    """

    peak: int = 0
    available: int = 0


def finished(config: Config, tables: dict[str, Corpus] | None = None, scored: bool = True) -> bool:
    """Return whether a run has been trained and scored.

    Args:
        config: the settings of the run.
        tables: clip tables that were read for other runs; the table of this run is added.
        scored: if false, a run that has been trained to its end is finished.

    Raises:
        RunError: the run folder holds a finished run of other settings, clips or labels, or one that was
            scored before the end of its training.
        CacheError: the corpus is not in the cache, or was changed since it was preprocessed.
    """
    run = RunFolder(config.train.run)
    if not (run.metrics_json if scored else run.state).exists():
        return False
    which = repr((config.corpus, config.mix, config.copies, config.cache))
    tables = {} if tables is None else tables
    if config.is_mixture:
        features = FeatureSet.open(config)
        keys, tables[which] = features.keys, features.corpus
    else:
        keys = stage_keys(config)
        if which not in tables:
            tables[which] = find_corpus(config)
    check_settings(run, config, keys, REUSE_REMEDY)
    check_origin(run, tables[which], REUSE_REMEDY, config.cache)
    if not scored:
        return run.training_state(config).finished
    if unfinished_training(run.read_metrics()) or not run.training_state(config).finished:
        raise RunError(
            f"{run.path} was scored before the end of its training, so it does not count as finished; remove "
            "that folder, and the same command trains and scores the run anew"
        )
    return True


def shared_features(config: Config) -> FeatureSet:
    """Return the features of a run, opened, checked and loaded once per process.

    Folds, seeds and training settings choose among the same features. Clips, labels and media that change in
    between are noticed where a run is scored (`deiii.model.training.origin.check_origin`).
    """
    return _opened(to_yaml(replace(config, split=SplitConfig(), loader=LoaderConfig(), train=TrainConfig())))


@lru_cache(maxsize=1)  # runs with the same features come one after the other
def _opened(text: str) -> FeatureSet:
    features = FeatureSet.open(parse_config(text), whole=True)
    features.resident = {}
    return features


def check_no_run(folder: Path, kind: str) -> None:
    """Refuse a folder that holds a run for the runs of a cross-validation or a sweep.

    Args:
        folder: ``train.run``, in which each run gets a folder of its own.
        kind: "cross-validation" or "sweep".

    Raises:
        RunError: names the folder and what to do.
    """
    run = RunFolder(folder)
    if run.best.exists() or run.last.exists() or run.state.exists():
        raise RunError(
            f"{folder} already holds a run; choose another folder for a {kind} with train.run=... (with "
            "make: RUN=...)"
        )


def run_one(
    text: str, threads: int = 0, progress: bool = False, scored: bool = True, share: bool = False
) -> GpuMemory:
    """Train and score one run; returns the GPU memory that it took.

    Args:
        text: its settings as YAML.
        threads: number of threads of PyTorch; 0 leaves it as it is.
        progress: whether to show the epochs.
        scored: if false, the run is trained only; its test speakers are not read.
        share: use `shared_features`, which stay in memory; for a process that does nothing after its runs.
    """
    if threads:
        torch.set_num_threads(threads)
    config = parse_config(text)
    if finished(config, scored=scored):
        return GpuMemory()
    features = shared_features(config) if share else None
    train(config, resume=True, progress=progress, features=features)
    if scored:
        evaluate(config.train.run, features=features)
    if not torch.cuda.is_initialized():
        return GpuMemory()
    return GpuMemory(
        torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    )


def jobs_that_fit(memory: GpuMemory, gpus: int, cores: int) -> int:
    """Return how many runs go at a time on GPUs that they share.

    Args:
        memory: memory of one run.
        gpus: number of equal GPUs.
        cores: processor cores; each run needs one to launch its steps.

    >>> jobs_that_fit(GpuMemory(peak=6 * GIB, available=79 * GIB), gpus=1, cores=16)
    10
    """
    fit = int(MEMORY_SHARE * memory.available / (memory.peak + CONTEXT))
    return max(gpus, min(gpus * fit, cores))


def run_all(
    configs: Mapping[Name, Config],
    jobs: int = 0,
    progress: bool = True,
    work: Work | None = None,
    is_finished: Callable[[Config, dict[str, Corpus]], bool] | None = None,
) -> Iterator[tuple[Name, float]]:
    """Do the runs that are not finished; yields the name of each when it ends, and seconds since the start.

    Args:
        configs: settings of each run, each with a ``train.run`` of its own. If the first has a ``scheduler``,
            the address of a running Dask scheduler, its workers do the runs; they must share the file system.
        jobs: runs at a time on this machine. 0 means one on a CPU, and one per GPU if there are no more runs
            than GPUs. If there are more, the first run goes alone, and its GPU memory decides how many of
            the others run at a time.
        progress: show the epochs, where one run goes at a time.
        work: function that does one run; the default is `run_one`. Other processes must be able to import it.
        is_finished: whether a run needs no work; `finished` where not given.
    """
    began = time.perf_counter()
    tables: dict[str, Corpus] = {}
    todo = {name: config for name, config in configs.items() if not (is_finished or finished)(config, tables)}
    for name in _run(todo, jobs, progress, work or run_one):
        yield name, time.perf_counter() - began


def time_left(seconds: float, done: int, left: int) -> str:
    """Return the time since the start, and an estimate of the rest if runs are left.

    Args:
        seconds: since the start of the first run.
        done: runs that ended in this time.
        left: runs that have not ended.

    >>> time_left(180, 2, 28), time_left(75, 1, 0)
    ('180 s since the start, about 42 min left', '75 s since the start')
    """
    since = f"{seconds:.0f} s since the start"
    if not left:
        return since
    rest = seconds / done * left
    if rest < 100:
        return f"{since}, about {rest:.0f} s left"
    return (
        f"{since}, about {rest / 60:.0f} min left"
        if rest < 6000
        else f"{since}, about {rest / 3600:.1f} h left"
    )


def _run(todo: dict[Name, Config], jobs: int, progress: bool, work: Work) -> Iterator[Name]:
    if not todo:
        return
    first = next(iter(todo.values()))
    if first.scheduler is not None:
        texts = {name: to_yaml(config) for name, config in todo.items()}
        yield from _on_dask(first.scheduler, first, texts, work)
        return
    gpus = usable_gpus() if first.train.device in ("auto", "cuda") else 0
    if not jobs and gpus and len(todo) > gpus:
        name, config = next(iter(todo.items()))
        del todo[name]
        ((_, memory),) = _in_processes({name: config}, 1, work, progress)
        yield name
        jobs = jobs_that_fit(memory, gpus, usable_cores())
        if progress:
            at_a_time = counted(jobs, "run")
            print(
                f"the first run took {memory_size(memory.peak)} of GPU memory; "
                f"from now on {at_a_time} at the same time"
            )
    jobs = min(jobs or max(1, gpus), len(todo))
    if jobs <= 1:
        try:
            for name, config in todo.items():
                work(to_yaml(config), progress=progress, share=True)
                yield name
        finally:
            _opened.cache_clear()
        return
    placed = {n: _on_gpu(c, i % gpus if gpus > 1 else None) for i, (n, c) in enumerate(todo.items())}
    for name, _ in _in_processes(placed, jobs, work):
        yield name


def _in_processes(
    configs: Mapping[Name, Config], jobs: int, work: Work, progress: bool = False
) -> Iterator[tuple[Name, GpuMemory]]:
    """Yield the name of each run when it ends, with what `run_one` returned."""
    threads = max(1, usable_cores() // jobs)
    with worker_pool(jobs, grace_s=SAVES_WITHIN) as pool:
        own = partial(work, threads=threads, progress=progress, share=True)
        # Serialising the settings of many runs takes time; a generator lets the first runs begin meanwhile.
        running = start_tasks(pool, own, (to_yaml(config) for config in configs.values()))
        names = dict(zip(running, configs, strict=True))
        for done in as_completed(running):
            yield names[done], done.result()


def _on_gpu(config: Config, gpu: int | None) -> Config:
    if gpu is None:
        return config
    own = deepcopy(config)
    own.train.device = f"cuda:{gpu}"
    return own


def _on_dask(address: str, first: Config, texts: Mapping[Name, str], work: Work) -> Iterator[Name]:
    """Run one task for each run; a worker with a GPU resource does one run at a time.

    Args:
        address: address of the scheduler.
        first: settings of one of the runs, to whose cache and folder the workers must have access.
        texts: settings of each run as YAML.
        work: function that does one run.

    Raises:
        ClusterError: no scheduler answers, it has no workers, a worker has no access to the files of this
            process or has other versions of the stages, or the scheduler ended.
    """
    from distributed import as_completed as finished_first
    from distributed.comm import CommClosedError

    from deiii.data.cluster.on_workers import submit_checked
    from deiii.data.cluster.worker_checks import checked_trainers, explained

    try:
        with connect_to_workers(address) as client, checked_trainers(client, first) as check:
            gpu = any("GPU" in w.get("resources", {}) for w in workers_of(client).values())
            resources = {"GPU": 1} if gpu else None
            futures = {
                submit_checked(client, check, work, text, resources=resources): name
                for name, text in texts.items()
            }
            ended = finished_first(futures)
            watch = StallWatch(client, say, "finished runs")
            while ended.count():
                if client.status != "running":
                    raise CommClosedError("the connection to the scheduler broke")
                if ended.has_ready():
                    future = ended.next()
                    try:
                        while_connected(client, partial(result_of, future))
                    except (ImportError, AttributeError) as error:
                        raise explained(client, check, error) from None
                    watch.ended()
                    yield futures[future]
                    continue
                watch.look()
                time.sleep(POLL_S)
    except CommClosedError:
        raise ClusterError(
            f"the Dask scheduler at {address} is gone; finished runs are kept: start it again, with its "
            "workers, and run the same command"
        ) from None
