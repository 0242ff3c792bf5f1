"""Find out why no task of a Dask cluster ends.

>>> watch = StallWatch(client, print, "finished shards")  # doctest: +SKIP
>>> watch.look()  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from deiii.data.tools.processes.dask_workers import ended_jobs, ends_of_jobs, no_worker, paused_workers

if TYPE_CHECKING:
    from distributed import Client

LOOK_S = 30.0  # s without an ended task after which the workers are looked at, and between two looks
STATES = 10  # times in `LOOK_S` at which the states of the workers' threads are read
PROCESSES = Path("/proc")


class StallWatch:
    """Reports why no task ends, once for each cause.

    No worker may be connected, jobs of SLURM may end before their tasks do, workers may be paused because
    their memory is full, or workers of this machine may be stopped, or wait for a disk or a network share
    that does not answer. None of these ends a run, because all can pass: a job of SLURM starts later, a
    stopped process is continued, a share answers again.

    Args:
        client: client of the cluster.
        report: called with a line of text for users.
        kept: what is kept if the user stops the command.
    """

    def __init__(self, client: Client, report: Callable[[str], None], kept: str):
        self._client = client
        self._report = report
        self._kept = kept
        self.ended()

    def ended(self) -> None:
        """Take note that a task has ended."""
        self._ends = len(ends_of_jobs(self._client))
        self._told = ""
        self._next = time.monotonic() + LOOK_S
        self._read_next = time.monotonic() + LOOK_S / STATES
        self._blocked: list[dict[int, int]] = []  # what `blocked_threads` returned since the last look

    def look(self) -> None:
        """Look at the workers if no task has ended for `LOOK_S`, and report what is wrong with them.

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
            no_worker(self._client, self._kept)
            or ended_jobs(ends_of_jobs(self._client)[self._ends :], self._kept)
            or paused_workers(self._client, self._kept)
            or _stopped_workers()
            or waiting_for_disk(self._blocked, self._kept)
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


def waiting_for_disk(states: Sequence[Mapping[int, int]], kept: str) -> str:
    """Return a line on processes with a thread that waited at every look, else an empty text.

    Args:
        states: what `blocked_threads` returned, from the earliest to the latest. Every task reads and writes
            files, so that a thread which waits at a few looks is nothing unusual.
        kept: what is kept if the user stops the command.

    >>> waiting_for_disk([{71: 70}, {72: 70}] * (STATES // 2), "finished runs")
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
        f"look for errors of the disk in `dmesg`; {kept} are kept if you stop it"
    )
