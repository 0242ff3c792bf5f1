"""Wait for the first worker of a cluster whose jobs or pods may wait in a queue.

>>> await_first_worker(client, config, print)  # doctest: +SKIP
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from distributed import Client

from deiii.data.cluster.pods import PodWatch, ask_trouble
from deiii.data.config.schema import Config
from deiii.data.tools.processes.dask_workers import ClusterError, workers_of
from deiii.data.tools.processes.stall_watch import StallWatch
from deiii.data.tools.progress import say

POLL_S = 0.2  # s between two looks for the first worker
FAILURES = 3  # failed attempts in a row to submit or to start jobs after which the command ends
LOOK_S = 5.0  # s between two looks for the first worker of an adaptive cluster
# What SLURM's commands write if the controller is down or busy for a while.
UNREACHED = re.compile(r"unable to contact slurm controller|timed out|standby mode", re.IGNORECASE)


def await_first_worker(client: Client, config: Config, report: Callable[[str], None]) -> None:
    """Wait for the first worker on another machine.

    Args:
        client: client of the cluster.
        config: settings.
        report: called with a line for users on why none has connected, as far as that is known.

    Raises:
        ClusterError: none connected within ``cluster.patience``, the queue refuses the jobs, or they end.
    """
    if config.cluster.adaptive and not config.cluster.minimum:
        return  # workers are started for the first tasks; `first_worker_watch` waits for them
    end = time.monotonic() + config.cluster.patience
    stalls = StallWatch(client, report, "finished shards")
    pods = WorkerPods(client, config, report)
    while not workers_of(client):
        _check_submitted(client, config)
        pods.look()
        if time.monotonic() > end:
            raise _no_first_worker(client, config, pods.reason())
        stalls.look()
        time.sleep(POLL_S)


def _check_submitted(client: Client, config: Config, started: bool = False) -> None:
    """Raise ClusterError if all jobs are refused again and again, or end before any worker connects.

    Args:
        client: client of the cluster.
        config: settings.
        started: whether a worker has connected before, so that the settings are right.
    """
    cluster: Any = client.cluster
    refused = getattr(cluster, "refused", [])
    waits = started and refused and UNREACHED.search(refused[-1])
    if refused and not waits and getattr(cluster, "refusals", 0) >= FAILURES:
        raise ClusterError(f"{config.cluster.kind} does not accept the jobs: {' '.join(refused[-1].split())}")
    if getattr(cluster, "unstarted", 0) >= FAILURES:
        raise ClusterError(
            f"{FAILURES} times in a row, all jobs of {config.cluster.kind} ended before any of their workers "
            f"connected; their output in {config.cluster.logs} says why. Look there for a failed command of "
            "cluster.prologue, or an address that the nodes cannot reach (cluster.interface)"
        )


class WorkerPods:
    """Looks every `LOOK_S` at what keeps the worker pods of a Kubernetes cluster from starting.

    Args:
        client: client of the cluster.
        config: settings; for other kinds of clusters nothing is looked at.
        report: called with a line of text for users.
    """

    def __init__(self, client: Client, config: Config, report: Callable[[str], None] = say):
        self._cluster: Any = client.cluster if config.cluster.kind == "kubernetes" else None
        self._namespace = config.cluster.namespace
        self._watch = PodWatch("pod of a worker", config.cluster.patience, report)
        self._next = 0.0

    def look(self) -> None:
        """Look at the pods.

        Raises:
            ClusterError: a reason that does not pass by itself.
        """
        if self._cluster is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_S
        cluster = self._cluster
        self._watch.note(cluster.sync(ask_trouble, cluster.name, self._namespace, "worker"))

    def reason(self) -> str:
        """Return the end of a sentence with the latest reason; empty if none is known."""
        return self._watch.reason()


def _no_first_worker(client: Client, config: Config, reason: str) -> ClusterError:
    """Return the error where no job or pod started in time.

    Args:
        client: client of the cluster.
        config: settings.
        reason: the end of a sentence with the cause; empty if none is known.
    """
    queue = getattr(client.cluster, "queue", "")
    said = f" ({queue})" if queue else ""
    remedy = {
        "slurm": f"`squeue --me` says why jobs wait{said}; their output is in {config.cluster.logs}",
        "kubernetes": f"`kubectl get pods -n {config.cluster.namespace}` says why pods wait",
    }
    return ClusterError(
        f"no worker connected within cluster.patience={config.cluster.patience:g} s"
        f"{reason or '; ' + remedy[config.cluster.kind]}"
    )


def first_worker_watch(client: Client, config: Config) -> Callable[[], None]:
    """Return a function that raises ClusterError in the cases of `await_first_worker`.

    It is called while tasks wait; a cluster that starts workers only for tasks has none before. After the
    first worker, an error is raised if all jobs are refused or end before a worker connects; a SLURM
    controller that does not answer is then waited for.
    """
    if config.cluster.kind == "local" or config.scheduler:
        return lambda: None
    end = time.monotonic() + config.cluster.patience
    seen = False
    next_look = 0.0
    pods = WorkerPods(client, config)

    def look() -> None:
        nonlocal seen, next_look
        now = time.monotonic()
        if now < next_look:
            return
        next_look = now + min(LOOK_S, config.cluster.patience)
        seen = seen or bool(workers_of(client))
        _check_submitted(client, config, seen)
        if not seen:
            pods.look()
        if not seen and now > end:
            raise _no_first_worker(client, config, pods.reason())

    return look
