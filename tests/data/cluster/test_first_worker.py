"""The command ends where no job starts, and waits where one may."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deiii.data.cluster import first_worker
from deiii.data.cluster.first_worker import FAILURES, first_worker_watch
from deiii.data.config.load import load_config
from deiii.data.tools.processes.dask_workers import ClusterError

CONFIG = load_config(overrides=["cluster.kind=slurm", "cluster.adaptive=true", "workers=64"])


@pytest.fixture
def look(monkeypatch):
    """Return a function that looks at a cluster with these attributes and without a worker."""
    monkeypatch.setattr(first_worker, "workers_of", lambda client: {})

    def found(**counts) -> None:
        cluster = SimpleNamespace(**{"refused": [], "refusals": 0, "unstarted": 0, **counts})
        first_worker_watch(SimpleNamespace(cluster=cluster), CONFIG)()

    return found


def test_many_jobs_refused_at_once_or_beside_an_accepted_one_are_no_error(look):
    """A busy SLURM refuses all jobs of one attempt; a limit refuses some, while others wait."""
    look(refused=["sbatch: error: Socket timed out"] * 8, refusals=1)
    look(refused=["sbatch: error: QOSMaxSubmitJobPerUserLimit"] * 8)
    with pytest.raises(ClusterError, match="slurm does not accept the jobs: sbatch: error: c d"):
        look(refused=["a", "sbatch: error:\n c d"], refusals=FAILURES)


def test_jobs_that_end_again_and_again_are_an_error(look):
    look(unstarted=FAILURES - 1)
    with pytest.raises(ClusterError, match="3 times in a row, all jobs of slurm ended .*cluster.prologue"):
        look(unstarted=FAILURES)
