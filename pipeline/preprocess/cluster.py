"""The Dask cluster of a run: processes of this machine, an existing cluster, SLURM or Kubernetes."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import dask
import psutil
from distributed import Client
from distributed.comm import CommClosedError
from distributed.core import Status

from deiii.data.cache.stages import get_stage, with_upstream
from deiii.data.cluster.first_worker import await_first_worker
from deiii.data.cluster.on_workers import WorkerCheck, submit_checked
from deiii.data.cluster.whole_jobs import WholeJobs
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.devices import NO_GPU, usable_gpus
from deiii.data.tools.machine import usable_cores
from deiii.data.tools.processes.dask_workers import (
    ClusterError,
    closed,
    connect_to_workers,
    kill_workers,
    result_of,
    silence_logs,
    while_connected,
    workers_of,
)
from deiii.data.tools.processes.main_guard import watch_workers
from deiii.data.tools.processes.signals import block_sigint
from deiii.data.tools.progress import say
from deiii.pipeline.preprocess.cluster_kinds import (
    FURTHER,
    GPU_PROCESSES,
    await_processes,
    kubernetes_cluster,
    local_cluster,
    slurm_cluster,
)
from deiii.pipeline.preprocess.worker_settings import placed

# Dask settings on this machine. After a worker's first death the clips of its shard are isolated
# (`deiii.pipeline.stages.isolation`), so Dask must not start the shard again itself. Connections may be
# idle during a long task on a GPU.
LOCAL_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,
    "distributed.comm.timeouts.connect": "30s",
    "distributed.admin.tick.limit": "60s",
    "distributed.worker.profile.enabled": False,  # it would keep an hour of samples in memory
    # Dask notices the death of a local worker at once; a worker that does not answer was suspended with the
    # machine.
    "distributed.scheduler.worker-ttl": None,
}
# On other machines, jobs and pods end for reasons that have nothing to do with the clips, without notice.
REMOTE_SETTINGS = {
    **LOCAL_SETTINGS,
    "distributed.scheduler.allowed-failures": 3,
    "distributed.scheduler.worker-ttl": "5 minutes",
}
# Some time after a worker's death, Dask closes its process or SLURM job if the worker is not there at that
# moment: also if it has died again, is slow to start, or if its next job waits in the queue. Only an adaptive
# cluster of this machine then starts another one. `WholeJobs` replaces lost jobs.
KEEP_LOST = {"distributed.deploy.lost-worker-timeout": "1000 days"}

MAX_NAMED = 3  # workers that an error message names
LEAST_FILES = 40  # open files that a scheduler needs
CLOSE_S = 10  # s that a cluster may take to close


@contextmanager
def open_cluster(config: Config, tasks: int, report: Callable[[str], None] = say) -> Iterator[Client]:
    """Yield a client of the configured scheduler or of a new cluster; both are closed after the block.

    Args:
        config: settings.
        tasks: number of tasks that can start at once; no more workers are started on this machine.
        report: called with a line for users if the first worker does not connect.

    Raises:
        ClusterError: no scheduler answers or no worker connects. Also raised in place of a CommClosedError
            of the block: the process of the scheduler ended, or the connection to it broke.
        ConfigError: settings that exclude each other, or an extra that is not installed.

    >>> with open_cluster(config, 8) as client:  # doctest: +SKIP
    ...     client.submit(len, "abc").result()
    """
    silence_logs()
    if config.scheduler and (config.cluster.kind != "local" or config.cluster.adaptive):
        raise ConfigError("scheduler= names an existing cluster; leave out cluster.kind and cluster.adaptive")
    try:
        with (
            connect_to_workers(config.scheduler)
            if config.scheduler
            else _new_cluster(config, tasks, report) as client
        ):
            yield client
    except CommClosedError:
        own = ("that this command started", "run the same command again")
        far = (f"at {config.scheduler}", "start it again, with its workers, and run the same command")
        which, remedy = far if config.scheduler else own
        raise ClusterError(
            f"the Dask scheduler {which} is gone; finished shards are kept: {remedy}"
        ) from None


@contextmanager
def _new_cluster(config: Config, tasks: int, report: Callable[[str], None]) -> Iterator[Client]:
    """Start a cluster and its workers."""
    local = config.cluster.kind == "local"
    settings = LOCAL_SETTINGS if local else REMOTE_SETTINGS
    kept = {} if local and config.cluster.adaptive else KEEP_LOST
    with dask.config.set({**settings, **kept}), ExitStack() as closing:
        mark = closing.enter_context(watch_workers())
        # Workers of this machine and SLURM's commands are started by threads that start here. Kubernetes
        # starts no process, and may let the command wait for long, so that Ctrl-C must have an effect.
        with block_sigint() if config.cluster.kind != "kubernetes" else nullcontext():
            others = set(psutil.Process().children())
            cluster, workers = _start(config, tasks)
            closing.push(partial(_close, cluster, others if local else None))
            client = closing.enter_context(closed(Client(cluster)))
        fewest = min(config.cluster.minimum, workers) if config.cluster.adaptive else workers
        if config.cluster.kind == "slurm":  # a fixed number of workers, too: jobs that ended are replaced
            per_job = config.cluster.per_job
            cluster.adapt(Adaptive=WholeJobs, minimum=fewest, maximum=workers, per_job=per_job)
        elif config.cluster.adaptive:
            cluster.adapt(minimum=fewest, maximum=workers)
        else:
            cluster.scale(workers)
        if not local:
            await_first_worker(client, config, report)
        elif not config.cluster.adaptive:
            await_processes(cluster, client, workers, mark)
        yield client


def _start(config: Config, tasks: int) -> tuple[Any, int]:
    """Return a cluster that is not scaled yet, and the number of workers that it is to have."""
    if config.cluster.kind == "local":
        return _start_local(config, tasks)
    if not config.workers:
        raise ConfigError(
            f"cluster.kind={config.cluster.kind} needs workers=, the number of workers to ask for"
        )
    make = {"slurm": slurm_cluster, "kubernetes": kubernetes_cluster}[config.cluster.kind]
    try:
        return make(config), wanted_workers(config)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ClusterError(f"{config.cluster.kind} did not start a cluster: {error}") from error


def wanted_workers(config: Config) -> int:
    """Return the number of workers in the settings: those with a GPU if jobs or pods have one; 0 for none."""
    return (config.cluster.gpu and config.cluster.gpu_workers) or config.workers


def _start_local(config: Config, tasks: int) -> tuple[Any, int]:
    """Return a cluster of this machine, and the number of workers that it is to have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most < LEAST_FILES:  # Dask would hang
        raise ClusterError(
            f"this process may have {most} open files, but a scheduler needs {LEAST_FILES} and ten a worker; "
            "allow more with `ulimit -n 1024`"
        )
    workers = min(config.workers or usable_cores(), max(1, tasks))
    gpus = gpu_count(config)
    if gpus and config.cluster.adaptive:
        raise ConfigError("cluster.adaptive is not for GPUs of this machine; add gpus=0 or leave it out")
    return local_cluster(config, workers, gpus), workers + GPU_PROCESSES * gpus


def _close(
    cluster: Any, others: set[psutil.Process] | None, error: type[BaseException] | None, *_: object
) -> None:
    """Close a cluster; after an error, or Ctrl-C while it closes, its workers on this machine are killed.

    A worker that is closed in the ordinary way finishes its clip first, or is killed after four seconds.
    Its work is lost in any case, because a shard without its final name does not count.

    Args:
        cluster: the cluster.
        others: children of this process that are not workers; ``None`` where no child is one.
        error: the type of the exception that ended the block.
    """
    if error:
        kill_workers(cluster, others)
    # In a thread, because Dask cancels what Ctrl-C interrupts, but keeps the status "closing", with which a
    # further close, such as Dask's own when Python ends, waits for its whole time limit.
    with ThreadPoolExecutor(1) as closing:
        try:
            with suppress(TimeoutError):
                closing.submit(cluster.close, timeout=CLOSE_S).result()
        except KeyboardInterrupt:
            kill_workers(cluster, others)
            raise
        except Exception:
            if others is None:  # jobs or pods that may still run
                raise
            # Dask cannot close a worker that died just before, while it is being started again. All work is
            # done or lost by now: workers are killed, and the rest of the cluster is closed without them.
            kill_workers(cluster, others)
            cluster.workers.clear()
            cluster.status = Status.failed  # with "closing", a further close would wait for the first one
            with suppress(Exception):  # Dask's last check expects that it has closed all workers itself
                closing.submit(cluster.close, timeout=CLOSE_S).result()
            cluster.status = Status.closed  # otherwise Dask closes it once more when Python ends


def gpu_count(config: Config) -> int:
    """Return the number of this machine's GPUs for stages that can use one: as configured, or all.

    Raises:
        ConfigError: ``gpus=0``, and a stage has a GPU as its device.
    """
    stages = _stages_on_gpu(config)
    if config.gpus == 0:
        for stage in sorted(stages):
            device = getattr(get_stage(stage).section(config), "device", "auto")
            if device not in ("auto", "cpu"):
                raise ConfigError(
                    f"gpus=0 uses no GPU, but {stage}.device={device} needs one: leave out one of the two"
                )
    if config.gpus == 0 or not stages:
        return 0
    if config.gpus > 0:
        return config.gpus
    return usable_gpus()


def with_devices(client: Client, config: Config) -> Config:
    """Return the settings for workers: ``device=auto`` becomes what this run gives them.

    A worker that was to have a GPU and finds none then fails, instead of computing for days on its CPU; and
    with ``gpus=0`` no worker uses a GPU, even if one is visible to it.
    """
    if config.scheduler:
        return placed(config, "cuda") if gpu_workers(client) else config
    gpus = config.cluster.gpu if config.cluster.kind != "local" else gpu_count(config) > 0
    return placed(config, "cuda" if gpus else "cpu")


def device_lines(
    client: Client, config: Config, check: WorkerCheck | None = None, computed: Collection[str] | None = None
) -> list[str]:
    """Return a line on the devices of the stages that can use a GPU; none where no stage can.

    Args:
        client: client of the cluster.
        config: settings.
        computed: the stages that this cluster computes; ``None`` for those of the settings.
        check: what workers of other machines check; ``None`` where all are on this one.

    Raises:
        ClusterError: a worker that offers a GPU finds none or was given none, or lacks PyTorch.
    """
    stages = sorted(_stages_on_gpu(config))
    if computed is not None:
        stages = [stage for stage in stages if stage in computed]
    if not stages:
        return []
    named = {}
    for address, name in gpu_workers(client).items():
        named[name] = submit_checked(client, check, _gpu_name, workers=[address])
    found = {name: while_connected(client, partial(result_of, future)) for name, future in named.items()}
    further = {n + FURTHER.format(k) for n in found for k in range(2, GPU_PROCESSES + 1)}
    found = {name: gpu for name, gpu in sorted(found.items()) if name not in further}
    if lacking := [name for name, gpu in found.items() if not gpu]:
        raise ClusterError(
            f"{', '.join(lacking[:MAX_NAMED])} offers a GPU, but PyTorch finds none there: see "
            "`deiii doctor` on that machine, start the worker without --resources GPU=1, or use gpus=0"
        )
    if found:
        return [f"{', '.join(stages)} on {', '.join(f'{gpu} ({name})' for name, gpu in found.items())}"]
    if config.cluster.gpu or config.scheduler:
        return []  # workers that are not connected yet
    return [f"{', '.join(stages)} on the CPU"]


def gpu_workers(client: Client) -> dict[str, str]:
    """Return the names of the connected workers that offer a GPU, by address."""
    workers = workers_of(client)
    return {a: str(w.get("name", a)) for a, w in workers.items() if (w.get("resources") or {}).get("GPU")}


def _gpu_name() -> str:
    """Return the GPU that this process would use, as PyTorch names it; empty if it finds none.

    Raises:
        ClusterError: its job has none for it.
    """
    import torch

    if reason := os.environ.get(NO_GPU):
        raise ClusterError(reason)

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def stage_resources(client: Client, config: Config) -> Callable[[str], Mapping[str, float] | None]:
    """Return a function that maps a stage to the Dask resources that its tasks request, ``None`` for none.

    A stage that can use a GPU requests ``GPU`` if workers offer it. The other stages then request ``CPU``,
    if that is offered, too, so that the worker of a GPU does not decode media.
    """
    workers = workers_of(client).values()
    offered = {name for w in workers for name, n in (w.get("resources") or {}).items() if n}
    if config.cluster.gpu:
        offered.add("GPU")
    on_gpu = _stages_on_gpu(config)
    if "GPU" not in offered or not on_gpu:
        return lambda stage: None
    others = {"CPU": 1} if "CPU" in offered else None
    return lambda stage: {"GPU": 1} if stage in on_gpu else others


def runs_on_gpu(config: Config, stage: str) -> bool:
    """Return whether a stage can use a GPU with these settings."""
    return stage in _stages_on_gpu(config)


def _stages_on_gpu(config: Config) -> set[str]:
    """Return the configured stages that run on a GPU if there is one."""
    specs = [get_stage(name) for name in with_upstream(config.stages)]
    return {stage.name for stage in specs if stage.on_gpu(stage.section(config))}
