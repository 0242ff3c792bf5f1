"""Ask SLURM which jobs have ended.

>>> asyncio.run(ended_jobs(cluster.workers))  # doctest: +SKIP
['SLURMCluster-3']
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

# States of jobs that have ended and that SLURM does not start again (manual of squeue, job state codes).
ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
)
# SLURM lists jobs that have ended for some minutes (MinJobAge, 300 s by default).
COMMAND = ("squeue", "--me", "--noheader", "--states=all", "--format=%A %T")
ANSWER_S = 20.0  # longest time in s until SLURM answers


async def ended_jobs(jobs: Mapping[str, Any]) -> list[str]:
    """Return the names of the jobs that have ended, as far as SLURM says so.

    Args:
        jobs: records of dask-jobqueue by name. Those that are not submitted have no number and are left out.

    Returns:
        the names; empty where SLURM does not answer, or no longer knows the jobs.
    """
    numbers = {name: number for name, job in jobs.items() if (number := getattr(job, "job_id", None))}
    if not numbers:
        return []
    text = await _answer()
    states = dict(line.split()[:2] for line in text.splitlines() if len(line.split()) > 1)
    return [name for name, number in numbers.items() if states.get(str(number)) in ENDED]


async def _answer() -> str:
    """Return the output of `COMMAND`; empty if it cannot be called or fails."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        asked = await asyncio.create_subprocess_exec(*COMMAND, stdin=none, stdout=pipe, stderr=none)
    except OSError:
        return ""
    try:
        text, _ = await asyncio.wait_for(asked.communicate(), ANSWER_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            asked.kill()
        await asked.wait()
        return ""
    return text.decode(errors="replace") if asked.returncode == 0 else ""
