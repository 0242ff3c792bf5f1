"""Scaling of clusters of jobs that hold several workers each.

Dask scales by single workers. dask-jobqueue maps each of them to its job, so that a target of 15 workers in
jobs of 8 cancels a job that still waits in the queue, and closing one idle worker ends 7 others that compute.
It also does not notice that a job of several workers has ended, as at its time limit, and submits no other.
`WholeJobs` scales by whole jobs, and replaces those that have ended. SLURM reports
whether jobs without a worker have ended (`deiii.data.cluster.job_states`): they may wait in the queue for
days.

>>> cluster.adapt(Adaptive=WholeJobs, minimum=0, maximum=64, per_job=8)  # doctest: +SKIP
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import Any

from distributed import Adaptive, SchedulerPlugin
from distributed.core import Status

from deiii.data.cluster.job_states import ask_ends, ask_queue

LOST_S = 30.0  # s without any of its workers after which a job counts as ended
ASK_S = 30.0  # s between two questions to SLURM about jobs of which no worker has connected
FIRST_ASK_S = 10.0  # s until the first question, so that the first message can say why jobs wait
MOST_NOTES = 8  # latest refusals that are kept


def job_of(worker: Any, per_job: int) -> str:
    """Return the name of a worker's job, given the worker's name or Dask's record of it.

    >>> job_of("SLURMCluster-0-3", 8), job_of("SLURMCluster-0", 1)
    ('SLURMCluster-0', 'SLURMCluster-0')
    """
    name = str(getattr(worker, "name", worker))
    return name.rpartition("-")[0] if per_job > 1 else name


def noting_refusals(job: Any) -> tuple[Any, list[str]]:
    """Return a class of jobs of dask-jobqueue that notes why they cannot be submitted, and its notes.

    Dask keeps a refused job in its plan as if it waited in the queue, and only logs the error.

    Args:
        job: a class of jobs, such as `dask_jobqueue.slurm.SLURMJob`.
    """
    refused: list[str] = []  # since the last job that was submitted

    class Noting(job):
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:  # those of the command's output, too
                self.status = Status.failed
                refused.append(_said_by_command(error))
                del refused[:-MOST_NOTES]
                raise
            refused.clear()

        async def close(self) -> None:
            try:
                await super().close()
            finally:
                self.status = Status.closed  # Dask refuses to close a cluster with other jobs

    return Noting, refused


def _said_by_command(error: Exception) -> str:
    """Return what a command of SLURM wrote about its failure, from the error of dask-jobqueue.

    >>> _said_by_command(RuntimeError("Exit code: 1\\nstdout:\\n\\nstderr:\\nsbatch: b\\n"))
    'sbatch: b'
    """
    said = str(error).rpartition("\nstderr:\n")[2].strip()
    return said or str(error)


class Connected(SchedulerPlugin):
    """Notes the names of all workers that connect, also of those that are gone a moment later."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note a worker; Dask calls this with its address."""
        self.names.add(str(scheduler.workers[worker].name))


class WholeJobs(Adaptive):
    """Starts and ends whole jobs of a cluster of dask-jobqueue.

    The wanted number of workers is rounded up to whole jobs. A job that waits in the queue, or whose workers
    start, is not cancelled before the cluster is closed. A job ends when all of its workers have been idle in
    several looks in a row (Dask's ``wait_count``). A job whose workers were connected and are all gone for
    `LOST_S` is replaced if it is still needed, and so is one that ended before any of its workers connected.

    It counts two kinds of failure as attributes of the cluster, for `deiii.data.cluster.first_worker`:
    ``refusals``, looks in a row at which jobs were refused and no other was accepted; and ``unstarted``, how
    often all jobs had ended and none of their workers had connected, since the last worker that did. Its
    attribute ``queue`` states in words why no worker of the jobs has connected, and ``ends`` lists how jobs
    ended whose workers were connected, for `deiii.data.tools.processes.stall_watch`.

    Args:
        cluster: the cluster.
        per_job: number of workers in a job.
        minimum, maximum: numbers of workers; rounded up to whole jobs.
        options: further arguments of `distributed.Adaptive`.
    """

    def __init__(self, cluster: Any, per_job: int, minimum: int = 0, maximum: int = 0, **options: Any):
        self._per_job = per_job
        self._connected = Connected()
        cluster.scheduler.add_plugin(self._connected, name="deiii-jobs")
        self._unlisted: dict[str, Any] = {}  # jobs that SLURM did not list in its last answer
        self._gone: dict[str, float] = {}  # jobs without a worker, and the time at which this was first seen
        self._ask_next = time.monotonic() + min(FIRST_ASK_S, ASK_S)
        cluster.refusals = cluster.unstarted = 0
        cluster.queue = ""
        cluster.ends = []
        super().__init__(cluster, minimum=self._whole(minimum), maximum=self._whole(maximum), **options)

    def _whole(self, workers: int) -> int:
        """Return a number of workers rounded up to whole jobs."""
        return math.ceil(workers / self._per_job) * self._per_job

    def _job(self, worker: Any) -> str:
        return job_of(worker, self._per_job)

    async def adapt(self) -> None:
        """Look at the cluster, and submit or end jobs."""
        await self._forget_ended()
        await super().adapt()

    async def _forget_ended(self) -> None:
        """Remove jobs that ended or were refused from the cluster's plan, so that others are submitted."""
        cluster: Any = self.cluster
        failed = [name for name, job in cluster.workers.items() if job.status == Status.failed]
        for job in failed:
            self._remove(job)
        cluster.refusals = 0 if cluster.workers else cluster.refusals + bool(failed)
        # Dask gives the names of jobs that were ended because they were idle to later jobs.
        self._connected.names &= self.plan
        present = {self._job(name) for name in self.observed}
        started = {self._job(name) for name in self._connected.names}
        if started:
            cluster.unstarted = 0
        now = time.monotonic()
        self._gone = {job: self._gone.get(job, now) for job in started - present}
        lost = [job for job, since in self._gone.items() if now - since >= LOST_S]
        removed = {job: record for job in lost if (record := self._remove(job)) is not None}
        if removed:
            cluster.ends += await ask_ends(removed)
        for record in removed.values():
            with suppress(RuntimeError, OSError):  # scancel fails for a job that has ended
                await record.close()
        if now >= self._ask_next:
            self._ask_next = now + ASK_S
            await self._forget_unstarted(started | present)

    async def _forget_unstarted(self, started: set[str]) -> None:
        """Remove jobs that ended before any of their workers connected, and note why the others wait."""
        cluster: Any = self.cluster
        waiting = {name: job for name, job in cluster.workers.items() if name not in started}
        answer = await ask_queue(waiting)
        # Twice in a row, because a controller that has just started may not list all jobs yet.
        purged = [name for name in answer.unlisted if self._unlisted.get(name) is waiting[name]]
        self._unlisted = {name: waiting[name] for name in answer.unlisted}
        connected = {self._job(name) for name in self._connected.names}  # also while SLURM was asked
        ended = [
            name
            for name in (*answer.ended, *purged)
            if name not in connected and cluster.workers.get(name) is waiting[name]
        ]
        for name in ended:
            self._remove(name)
        if ended and not cluster.workers:
            cluster.unstarted += 1
        refused = getattr(cluster, "refused", [])
        cluster.queue = answer.waiting or (" ".join(refused[-1].split()) if refused else "")

    def _remove(self, job: str) -> Any:
        """Remove a job from the cluster's plan; returns Dask's record of it. A later one may get its name."""
        cluster: Any = self.cluster
        cluster.worker_spec.pop(job, None)
        self._connected.names = {name for name in self._connected.names if self._job(name) != job}
        record = cluster.workers.pop(job, None)
        if record is not None:
            record.status = Status.closed  # Dask refuses to close a cluster with other jobs
        return record

    async def target(self) -> int:
        """Return the wanted number of workers, in whole jobs."""
        return self._whole(await super().target())

    async def recommendations(self, target: int) -> dict:
        """Return what to do: submit jobs, nothing, or end jobs whose workers are all idle.

        Args:
            target: the wanted number of workers.
        """
        if len(self.plan) != len(self.requested):
            await self.cluster  # submits the jobs that are planned
        if target >= len(self.plan):
            return await super().recommendations(target)
        # To reach a target, the scheduler would end busy workers; with a minimum instead, it names idle ones.
        # It is asked directly, because dask-jobqueue's scheduler runs in this process, in the same loop.
        cluster: Any = self.cluster
        key = partial(job_of, per_job=self._per_job)
        idle = cluster.scheduler.workers_to_close(key=key, attribute="name", minimum=target)
        counts = {name: self.close_counts[name] + 1 for name in idle}
        self.close_counts.clear()
        self.close_counts.update(counts)
        jobs: defaultdict[str, list[int]] = defaultdict(list)
        for name, count in counts.items():
            jobs[self._job(name)].append(count)
        ends = [name for name in idle if min(jobs[self._job(name)]) >= self.wait_count]
        return {"status": "down", "workers": ends} if ends else {"status": "same"}
