"""Shard tasks on a Dask cluster: one task per shard and stage, submitted when its inputs are finished.

A bounded number of tasks is submitted to the scheduler at a time, so a corpus of millions of clips needs no
large graph.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, as_completed
from distributed.comm import CommClosedError

from deiii.data.cache.index import ShardRecord
from deiii.data.cache.stages import get_stage
from deiii.data.cluster.on_workers import MOUNT, WorkerCheck, submit_checked
from deiii.data.cluster.worker_checks import explained
from deiii.data.tools.counts import examples
from deiii.data.tools.os_errors import is_missing
from deiii.data.tools.processes.dask_workers import (
    ASK_AGAIN_S,
    ClusterError,
    ends_of_jobs,
    remedy_for_ends,
    said_of_ends,
)
from deiii.data.tools.processes.stall_watch import StallWatch
from deiii.data.tools.progress import ProgressBar, say
from deiii.pipeline.stages.shard import ShardTask, UnseenFiles, run_shard

POLL_S = 0.02  # s between two looks for finished tasks
MAX_ATTEMPTS = 3  # attempts for a shard whose worker dies; from the second, clips are isolated


class PreprocessError(RuntimeError):
    """Preprocessing cannot continue; finished shards are kept, and the message states what to do."""


@dataclass
class Attempt:
    """A shard to compute, and how often it was started, this time included."""

    task: ShardTask
    number: int = 1

    @property
    def stage(self) -> str:
        return self.task.recipe.stage

    @property
    def shard(self) -> str:
        return self.task.plan.name

    @property
    def marks(self) -> tuple[int, int]:
        """Numbers in which two attempts for a shard differ."""
        return self.number, len(self.task.absent or ())


class TaskRunner:
    """Computes shards on a cluster.

    Args:
        client: client of the cluster.
        resources: the resources that a stage's tasks request
            (`deiii.pipeline.preprocess.cluster.stage_resources`).
        check: how workers check that they find the files of this process; ``None`` on one machine.
        limit: how many tasks are submitted to the scheduler at a time.
        tasks: the shards to compute, in the order in which they are started.
        done: records of finished shards by stage and shard name; those of new shards are added.
        report: called with a line for users if no shard ends and the cause is known.
        waiting: called while tasks run; raises an error if their workers do not come.
    """

    def __init__(
        self,
        client: Client,
        resources: Callable[[str], Mapping[str, float] | None],
        check: WorkerCheck | None,
        limit: int,
        tasks: list[ShardTask],
        done: dict[str, dict[str, ShardRecord]],
        report: Callable[[str], None] = say,
        waiting: Callable[[], None] = lambda: None,
    ):
        self._client = client
        self._resources = resources
        self._check = check
        self._look = waiting
        self._limit = limit
        self._done = done
        self._stalls = StallWatch(client, report, "finished shards")
        self._ready: deque[Attempt] = deque()
        # Key: upstream stage and shard.
        self._waiting: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
        self._running: dict[Future, Attempt] = {}
        # Results are fetched while others are waited for; fetching them one by one costs a round trip each.
        self._completed = as_completed(with_results=True, raise_errors=False)
        for task in tasks:
            if waits(task, done):
                self._waiting[str(task.recipe.upstream), task.plan.name].append(Attempt(task))
            else:
                self._ready.append(Attempt(task))

    def run(self, bar: ProgressBar) -> None:
        """Compute all shards; ``bar`` counts their clips.

        Raises:
            PreprocessError: a shard killed its worker again and again.
            ClusterError: a worker lacks deiii, or does not find the files of this process.
            CommClosedError: the scheduler is gone.
        """
        self._submit()
        for future, record in self._ended():
            attempt = self._running.pop(future)
            # The status of the future is not enough: if the worker that held the result has died since, Dask
            # computes the shard again, and the status is that of the new computation.
            if isinstance(record, ShardRecord):
                self._done[attempt.stage][attempt.shard] = record
                bar.update(len(attempt.task.plan.clips))
                bar.set_postfix_str(attempt.stage, refresh=False)
                # Start the stages downstream at once, not after all shards of this stage: then a GPU has
                # work early, and the arrays are still in the file cache.
                for waiting in self._waiting.pop((attempt.stage, attempt.shard), []):
                    self._ready.appendleft(waiting)
            else:
                error = future.exception() if future.status == "error" else None
                if error is not None:
                    error = explained(self._client, self._check, error)
                self._ready.append(next_attempt(attempt, error, ends_of_jobs(self._client)))
            self._submit()

    def _submit(self) -> None:
        while self._ready and len(self._running) < self._limit:
            attempt = self._ready.popleft()
            future = submit_checked(
                self._client,
                self._check,
                run_shard,
                attempt.task,
                # Dask keeps an entry for every key prefix it has ever seen; this makes one a stage.
                key=(f"{attempt.stage}-{attempt.task.recipe.key}", attempt.shard, *attempt.marks),
                resources=share(attempt.stage, self._resources(attempt.stage)),
                priority=1 if attempt.task.upstream else 0,
            )
            self._running[future] = attempt
            self._completed.add(future)

    def _ended(self) -> Iterator[tuple[Future, Any]]:
        """Yield ended futures with their results as long as any are running.

        Raises:
            CommClosedError: the scheduler is gone. Waiting on ``as_completed`` would hang then, because
                it forgets a future whose result was on its way.
        """
        latest = time.monotonic()
        while self._running:
            batch = self._completed.next_batch(block=False)
            if self._client.status != "running" or any(future.cancelled() for future in self._running):
                raise CommClosedError("the connection to the scheduler broke")
            for future, record in batch:
                if future in self._running:  # the future was not yielded before
                    latest = time.monotonic()
                    self._stalls.ended()
                    yield future, record
            if time.monotonic() - latest > ASK_AGAIN_S:
                # If all workers die at once, ``as_completed`` may not yield a future that has ended: fetching
                # its result raises, or waits for ever (dask/distributed#7331). A second fetch succeeds.
                self._completed.update([future for future in self._running if future.done()])
                latest = time.monotonic()
            if not batch:
                self._stalls.look()
                self._look()
                time.sleep(POLL_S)


def share(stage: str, wanted: Mapping[str, float] | None) -> Mapping[str, float] | None:
    """Return the resources that one shard needs: a part of a GPU if several shards of the stage share one.

    Their files are read and written while the GPU computes others; a worker with fewer threads takes fewer.

    >>> share("flow", {"GPU": 1})["GPU"] <= 1 / 3
    True
    """
    at_once = get_stage(stage).at_once
    if at_once < 2 or not wanted or "GPU" not in wanted:
        return wanted
    parts = 1 << (at_once - 1).bit_length()  # a power of two, so that sums of parts are exact
    return {**wanted, "GPU": wanted["GPU"] / parts}


def waits(task: ShardTask, done: Mapping[str, Mapping[str, ShardRecord]]) -> bool:
    """Return whether the shard that a task reads is not finished yet."""
    upstream = task.recipe.upstream
    return upstream is not None and task.plan.name not in done[upstream]


def next_attempt(attempt: Attempt, error: BaseException | None, ends: Sequence[str] = ()) -> Attempt:
    """Return the same shard again, if its worker died or found no media files that are missing here, too.

    After a worker's death the clips are isolated. Any other error is raised.

    Args:
        attempt: the attempt that failed.
        error: why.
        ends: how jobs of workers ended.

    Raises:
        PreprocessError: this was the last attempt.
        ClusterError: the worker does not find media files that this process finds.
    """
    if isinstance(error, UnseenFiles):
        return _without(attempt, error)
    if not isinstance(error, KilledWorker):
        raise error or RuntimeError(f"{attempt.stage} of shard {attempt.shard} ended without a result")
    if attempt.number >= MAX_ATTEMPTS and ends:
        raise PreprocessError(
            f"{attempt.stage} of shard {attempt.shard} lost its worker {MAX_ATTEMPTS} times, and jobs ended "
            f"while they computed ({said_of_ends(ends)}); finished shards are kept: run again with "
            f"{remedy_for_ends(ends)}, or with more cluster.memory_gb if memory ran out"
        ) from error
    if attempt.number >= MAX_ATTEMPTS:
        raise PreprocessError(
            f"{attempt.stage} of shard {attempt.shard} killed its worker {MAX_ATTEMPTS} times, most likely "
            "because memory ran out; finished shards are kept: run again with fewer workers, or with more "
            "memory for each (--memory-limit of `dask worker`, or cluster.memory_gb)"
        ) from error
    isolate = attempt.task.upstream is None  # only decoding media files is isolated
    return Attempt(replace(attempt.task, isolate=isolate), attempt.number + 1)


def _without(attempt: Attempt, error: UnseenFiles) -> Attempt:
    """Return the same shard again with its missing media files named.

    Raises:
        ClusterError: this process finds some of them.
    """
    root = Path(attempt.task.root)
    seen = [root / path for path in error.paths if not is_missing(root / path)]
    if seen:
        here = "does" if len(seen) == len(error.paths) else f"finds {examples(seen, 1)}"
        raise ClusterError(
            f"{error}, but this process {here}: {MOUNT}, then run the same command again; nothing was "
            "recorded for these clips"
        ) from None
    absent = tuple(sorted({*(attempt.task.absent or ()), *error.paths}))
    return replace(attempt, task=replace(attempt.task, absent=absent))
