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

import psutil
from distributed import Client, Future, KilledWorker, as_completed
from distributed.comm import CommClosedError

from deiii.data.cache.index import ShardRecord
from deiii.data.cache.stages import get_stage
from deiii.data.cluster.worker_checks import WorkerCheck, run_checked
from deiii.data.tools.processes.dask_workers import ASK_AGAIN_S, no_worker
from deiii.data.tools.progress import ProgressBar, say
from deiii.pipeline.stages.shard import ShardTask, run_shard

POLL_S = 0.02  # s between two looks for finished tasks
LOOK_S = 30.0  # s without an ended shard after which the workers are looked at, and between two looks
STATES = 10  # times in `LOOK_S` at which the states of the workers' threads are read
PROCESSES = Path("/proc")
MAX_ATTEMPTS = 3  # attempts for a shard whose worker dies; from the second, clips are isolated


class PreprocessError(RuntimeError):
    """Preprocessing cannot continue; finished shards are kept, and the message says what to do."""


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


class TaskRunner:
    """Computes shards on a cluster.

    Args:
        client: client of the cluster.
        resources: the resources that a stage's tasks request
            (`deiii.pipeline.preprocess.cluster.stage_resources`).
        check: how workers check that they see the files of this process; ``None`` on one machine.
        limit: how many tasks are submitted to the scheduler at a time.
        tasks: the shards to compute, in the order in which they are started.
        done: records of finished shards by stage and shard name; those of new shards are added.
        report: called with a line for users if no shard ends and the cause is known.
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
    ):
        self._client = client
        self._resources = resources
        self._check = check
        self._limit = limit
        self._done = done
        self._stalls = StallWatch(client, report)
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
                self._ready.append(next_attempt(attempt, error))
            self._submit()

    def _submit(self) -> None:
        while self._ready and len(self._running) < self._limit:
            attempt = self._ready.popleft()
            future = self._client.submit(
                run_checked,
                self._check,
                run_shard,
                attempt.task,
                # Dask keeps an entry for every key prefix it has ever seen; this makes one a stage.
                key=(f"{attempt.stage}-{attempt.task.recipe.key}", attempt.shard, attempt.number),
                resources=share(attempt.stage, self._resources(attempt.stage)),
                priority=1 if attempt.task.upstream else 0,
                pure=False,
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


def next_attempt(attempt: Attempt, error: BaseException | None) -> Attempt:
    """Return the same shard again with its clips isolated, if its worker died; raises ``error`` otherwise.

    Raises:
        PreprocessError: this was the last attempt.
    """
    if not isinstance(error, KilledWorker):
        raise error or RuntimeError(f"{attempt.stage} of shard {attempt.shard} ended without a result")
    if attempt.number >= MAX_ATTEMPTS:
        raise PreprocessError(
            f"{attempt.stage} of shard {attempt.shard} killed its worker {MAX_ATTEMPTS} times, most likely "
            "because memory ran out; finished shards are kept: run again with fewer workers"
        ) from error
    isolate = attempt.task.upstream is None  # only decoding media files is isolated
    return Attempt(replace(attempt.task, isolate=isolate), attempt.number + 1)


class StallWatch:
    """Reports why no shard ends, once for each cause.

    No worker may be connected, or workers of this machine may be stopped, or wait for a disk or a network
    share that does not answer. None of these ends a run, because all can pass: a job of SLURM starts later, a
    stopped process is continued, a share answers again.

    Args:
        client: client of the cluster.
        report: called with a line of text for users.

    >>> watch = StallWatch(client, print)  # doctest: +SKIP
    >>> watch.look()  # doctest: +SKIP
    """

    def __init__(self, client: Client, report: Callable[[str], None]):
        self._client = client
        self._report = report
        self.ended()

    def ended(self) -> None:
        """Take note that a shard has ended."""
        self._told = ""
        self._next = time.monotonic() + LOOK_S
        self._read_next = time.monotonic() + LOOK_S / STATES
        self._blocked: list[dict[int, int]] = []  # what `blocked_threads` returned since the last look

    def look(self) -> None:
        """Look at the workers if no shard has ended for `LOOK_S`, and report what is wrong with them.

        Raises:
            CommClosedError: the scheduler is gone.
        """
        if time.monotonic() >= self._read_next:
            self._read_next = time.monotonic() + LOOK_S / STATES
            self._blocked.append(blocked_threads())
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_S
        found = (
            no_worker(self._client, "finished shards")
            or _stopped_workers()
            or waiting_for_disk(self._blocked)
        )
        self._blocked = []
        if found and found != self._told:
            self._report(found)
        self._told = found


def _stopped_workers() -> str:
    """Return a line if processes that this one started are stopped, as by Ctrl-Z, else an empty text."""
    stopped = []
    for child in psutil.Process().children():
        try:
            if child.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
                stopped.append(str(child.pid))
        except psutil.Error:  # it has ended
            continue
    if not stopped:
        return ""
    numbers = " ".join(stopped)
    return (
        f"stopped worker processes: {numbers}; `kill -CONT {numbers}` continues them, `kill -KILL {numbers}` "
        "replaces them by new ones"
    )


def blocked_threads() -> dict[int, int]:
    """Return the threads that cannot be interrupted while they wait (state D), with their process.

    Threads are those of the processes that this one started, and of theirs. Empty where there is no
    ``/proc``, as on macOS.
    """
    found: dict[int, int] = {}
    for child in psutil.Process().children(recursive=True):
        for path in (PROCESSES / str(child.pid) / "task").glob("*/stat"):
            try:
                state = path.read_text().rpartition(")")[2].split()[0]
            except (OSError, IndexError):  # it has ended
                continue
            if state == "D":
                found[int(path.parent.name)] = child.pid
    return found


def waiting_for_disk(states: Sequence[Mapping[int, int]]) -> str:
    """Return a line on processes with a thread that waited at every look, else an empty text.

    Args:
        states: what `blocked_threads` returned, from the earliest to the latest. Each clip is read and each
            shard is written, so that a thread which waits at a few looks is nothing unusual.

    >>> waiting_for_disk([{71: 70}, {72: 70}] * (STATES // 2))
    ''
    """
    if len(states) < STATES - 1:
        return ""
    always = set.intersection(*(set(state) for state in states))
    waiting = sorted({states[-1][thread] for thread in always})
    if not waiting:
        return ""
    numbers = " ".join(map(str, waiting))
    return (
        f"worker processes that have waited for the disk or network share for {LOOK_S:.0f} s: {numbers}; the "
        "run continues when it answers. Check that the folders of corpus.root and cache can be listed, and "
        "look for errors of the disk in `dmesg`; finished shards are kept if you stop the run"
    )
