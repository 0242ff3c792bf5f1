"""Ask SLURM which jobs have ended, and why others wait.

>>> asyncio.run(ask_queue(cluster.workers))  # doctest: +SKIP
QueueState(ended=['SLURMCluster-3'], waiting='1 job is PENDING: Resources', unlisted=[])
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from deiii.data.tools.counts import counted

# States of jobs that have ended and that SLURM does not start again (manual of squeue, job state codes).
# Jobs that SLURM starts again after a preemption are PENDING.
ENDED = frozenset(
    (
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    )
)
# SLURM lists jobs that have ended for some time (MinJobAge, 300 s by default; some clusters set 2 s).
COMMAND = ("squeue", "--me", "--noheader", "--states=all", "--format=%A %T %r")
ANSWER_S = 20.0  # longest time in s until SLURM answers
MAX_NAMED = 3  # states of jobs that a message names


class QueueState(NamedTuple):
    """The states of jobs of which no worker has connected, as SLURM reports them.

    Attributes:
        ended: the names of the jobs that have ended.
        waiting: how many of the others are in which state, and why; empty if there are none.
        unlisted: the names of the jobs that SLURM does not list; they ended some time ago.
    """

    ended: list[str]
    waiting: str
    unlisted: list[str]


async def ask_queue(jobs: Mapping[str, Any]) -> QueueState:
    """Return which jobs have ended, and the states of the others, as far as SLURM reports them.

    Args:
        jobs: records of dask-jobqueue by name. Those that are not submitted have no number and are left out.

    Returns:
        the states. No job has ended where SLURM does not answer.
    """
    numbers = _numbers(jobs)
    if not numbers:
        return QueueState([], "", [])
    states = await _states()
    if states is None:
        return QueueState([], "squeue does not answer", [])
    known = {name: states[number] for name, number in numbers.items() if number in states}
    ended = [name for name, (state, _) in known.items() if state in ENDED]
    waiting = _in_words([found for found in known.values() if found[0] not in ENDED])
    return QueueState(ended, waiting, [name for name in numbers if name not in known])


async def ask_ends(jobs: Mapping[str, Any]) -> list[str]:
    """Return how jobs have ended, such as ``TIMEOUT: TimeLimit``, as far as SLURM reports it.

    Args:
        jobs: records of dask-jobqueue by name.
    """
    states = await _states() if _numbers(jobs) else None
    found = [states[number] for number in _numbers(jobs).values() if number in states] if states else []
    return [_words(*state) for state in found if state[0] in ENDED]


def _numbers(jobs: Mapping[str, Any]) -> dict[str, str]:
    """Return the numbers of submitted jobs by name."""
    return {name: str(number) for name, job in jobs.items() if (number := getattr(job, "job_id", None))}


async def _states() -> dict[str, tuple[str, str]] | None:
    """Return state and reason of each job that SLURM lists, by number; ``None`` if it does not answer."""
    text = await _answer()
    if text is None:
        return None
    states = {}
    for line in text.splitlines():
        number, _, rest = line.strip().partition(" ")
        state, _, reason = rest.partition(" ")
        states[number] = (state, reason.strip())
    return states


def _words(state: str, reason: str) -> str:
    return f"{state}: {reason}" if reason not in ("", "None") else state


def _in_words(states: list[tuple[str, str]]) -> str:
    """Return how many jobs are in which state, the most frequent first.

    >>> _in_words([("PENDING", "Resources"), ("RUNNING", "None"), ("PENDING", "Resources")])
    '2 jobs are PENDING: Resources; 1 job is RUNNING'
    """
    counts = Counter(_words(state, reason) for state, reason in states)
    words = [
        f"{counted(number, 'job')} {'is' if number == 1 else 'are'} {state}"
        for state, number in counts.most_common(MAX_NAMED)
    ]
    return "; ".join(words)


async def _answer() -> str | None:
    """Return the output of `COMMAND`; ``None`` if it cannot be called or fails."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        asked = await asyncio.create_subprocess_exec(*COMMAND, stdin=none, stdout=pipe, stderr=none)
    except OSError:
        return None
    try:
        text, _ = await asyncio.wait_for(asked.communicate(), ANSWER_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            asked.kill()
        await asked.wait()
        return None
    return text.decode(errors="replace") if asked.returncode == 0 else None
