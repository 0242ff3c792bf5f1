"""Where the work runs: worker processes of this machine, or a Dask cluster that exists already."""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import dask
from distributed import Client, LocalCluster
from distributed.comm import CommClosedError

from data.schema import Config
from data.signals import deaf_children

# A worker that dies takes its shard's clips into quarantine at once (`pipeline.isolation`), and
# idle connections over a long GPU task are normal.
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,
    "distributed.comm.timeouts.connect": "30s",
    "distributed.admin.tick.limit": "60s",
    "distributed.worker.profile.enabled": False,  # its samples are kept, an hour of them
}

PATIENCE = "15s"  # for a scheduler to answer


class ClusterError(RuntimeError):
    """The Dask cluster cannot do the work; the message says what to change."""


@contextmanager
def open_cluster(config: Config, tasks: int) -> Iterator[Client]:
    """A client of the configured scheduler or of a fresh local cluster, closed at the end.

    Args:
        tasks: no more workers than this are started.

    Raises:
        ClusterError: also where the block raises CommClosedError: the scheduler's process ended, or the
            way to it broke.
    """
    _silence_logs()
    try:
        with _existing(config) if config.scheduler else _local(config, tasks) as client:
            yield client
    except CommClosedError:
        raise ClusterError(
            f"the Dask scheduler{f' at {config.scheduler}' if config.scheduler else ''} is gone; finished "
            "shards are kept: start it again, with its workers, and run the same command"
        ) from None


def _silence_logs() -> None:
    """Troubles are told by outcomes and errors; Dask gives many of its loggers a level of their own."""
    loud = {"distributed", "bokeh", "tornado", "asyncio"}
    for name in loud | {n for n in logging.root.manager.loggerDict if n.split(".")[0] in loud}:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _local(config: Config, tasks: int) -> Iterator[Client]:
    workers = min(config.workers or os.cpu_count() or 1, max(1, tasks))
    with dask.config.set(SETTINGS), ExitStack() as closing:
        with deaf_children():  # the threads that start here start the workers
            cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                processes=True,
                dashboard_address=config.dashboard,
                silence_logs=logging.CRITICAL,
                resources={"GPU": 1} if gpu_count(config) else None,
            )
            closing.push(partial(_close, cluster))
            client = closing.enter_context(_closed(Client(cluster)))
        cluster.scale(workers)
        client.wait_for_workers(workers)
        yield client


def _close(cluster: LocalCluster, error: type[BaseException] | None, *_) -> None:
    """Close a cluster; after an error its workers are killed.

    Asked politely, a worker finishes its clip first, or is killed after four seconds. What it is at
    is thrown away in any case: a shard that has not its final name does not exist.
    """
    if error:
        for nanny in list(cluster.workers.values()):
            nanny.close_gracefully()  # or it would start another worker
            with suppress(ProcessLookupError):
                if nanny.pid:
                    os.kill(nanny.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        cluster.close(timeout=10)


@contextmanager
def _closed(client: Client) -> Iterator[Client]:
    try:
        yield client
    finally:
        with suppress(TimeoutError):
            client.close(timeout=5)


@contextmanager
def _existing(config: Config) -> Iterator[Client]:
    try:
        client = Client(config.scheduler, timeout=PATIENCE)
    except OSError as error:
        raise ClusterError(
            f"no Dask scheduler answers at {config.scheduler} ({error}); "
            "start one with `dask scheduler` or leave out scheduler="
        ) from None
    with _closed(client):
        try:
            client.wait_for_workers(1, timeout=30)
        except TimeoutError:
            raise ClusterError(
                f"the scheduler at {config.scheduler} has no workers; start some first"
            ) from None
        check_shared_folder(client, Path(config.cache))
        yield client


def check_shared_folder(client: Client, cache: Path) -> None:
    """Refuse workers that do not see the cache: they would write shards nobody finds."""
    cache.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    probe = cache.resolve() / f".probe-{token}.tmp"
    probe.write_text(token)
    try:
        blind = sorted(w for w, seen in client.run(_sees, str(probe), token).items() if not seen)
    finally:
        probe.unlink(missing_ok=True)
    if blind:
        raise ClusterError(
            f"these workers do not see the cache folder {cache.resolve()}: {', '.join(blind)}; "
            "put it on a file system that all of them share, under the same path"
        )


def _sees(probe: str, token: str) -> bool:
    try:
        return Path(probe).read_text() == token
    except OSError:
        return False


def gpu_count(config: Config) -> int:
    """GPUs to use for flow on this machine: as configured, or as many as there are."""
    if config.flow.method != "raft" or config.flow.device == "cpu" or config.gpus == 0:
        return 0
    if config.gpus > 0:
        return config.gpus
    import torch

    return torch.cuda.device_count()


def flow_resources(client: Client, config: Config) -> dict[str, float]:
    """The GPU resource for flow tasks, where the cluster's workers offer it."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    offered = any(w.get("resources", {}).get("GPU") for w in workers)
    return {"GPU": 1} if offered and config.flow.method == "raft" else {}
