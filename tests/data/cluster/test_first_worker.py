"""The command ends where no job starts, and waits where one may."""

from __future__ import annotations

import time
from functools import partial
from types import SimpleNamespace

import pytest

from deiii.data.cluster import first_worker
from deiii.data.cluster.first_worker import FAILURES, await_first_worker, first_worker_watch
from deiii.data.cluster.pods import Trouble
from deiii.data.config.load import load_config
from deiii.data.tools.processes import dask_workers, stall_watch
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


@pytest.fixture
def later(monkeypatch):
    """Return a function that looks twice: while a worker is connected, and then with these attributes."""
    monkeypatch.setattr(first_worker, "LOOK_S", 0.0)

    def found(config=CONFIG, **counts) -> None:
        connected = {"tcp://a:1": {}}
        monkeypatch.setattr(first_worker, "workers_of", lambda client: connected)
        cluster = SimpleNamespace(refused=[], refusals=0, unstarted=0)
        watch = first_worker_watch(SimpleNamespace(cluster=cluster), config)
        watch()
        connected.clear()
        vars(cluster).update(counts)
        watch()

    return found


@pytest.mark.parametrize("adaptive", ["true", "false"])
def test_jobs_that_are_refused_or_end_later_are_an_error(later, adaptive):
    """The command waited for ever, where it says that it ends."""
    config = load_config(overrides=["cluster.kind=slurm", f"cluster.adaptive={adaptive}", "workers=64"])
    later(config)
    with pytest.raises(ClusterError, match="does not accept the jobs: sbatch: error: Job violates"):
        later(config, refused=["sbatch: error: Job violates accounting policy"], refusals=FAILURES)
    with pytest.raises(ClusterError, match="3 times in a row, all jobs of slurm ended"):
        later(config, unstarted=FAILURES)


# What sbatch of SLURM 22.05 writes while slurmctld does not run, and while it is busy.
DOWN = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
BUSY = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


@pytest.mark.parametrize("said", [DOWN, BUSY])
def test_a_controller_that_does_not_answer_ends_no_run_that_has_begun(later, look, said):
    later(refused=[said], refusals=FAILURES)
    with pytest.raises(ClusterError, match="slurm does not accept the jobs"):
        look(refused=[said], refusals=FAILURES)


def test_the_reason_for_which_jobs_wait_is_reported(monkeypatch):
    """With cluster.adaptive=false the command waited for an hour without a word."""
    config = load_config(overrides=["cluster.kind=slurm", "workers=1", "cluster.patience=1"])
    cluster = SimpleNamespace(queue="1 job is PENDING: PartitionTimeLimit")
    client = SimpleNamespace(cluster=cluster)
    monkeypatch.setattr(first_worker, "workers_of", lambda client: {})
    monkeypatch.setattr(dask_workers, "workers_of", lambda client: {})
    monkeypatch.setattr(stall_watch, "LOOK_S", 0.1)
    lines: list[str] = []
    with pytest.raises(ClusterError, match=r"why jobs wait \(1 job is PENDING: PartitionTimeLimit\); their"):
        await_first_worker(client, config, lines.append)
    assert lines == [
        "no worker is connected; the queue says: 1 job is PENDING: PartitionTimeLimit. The run continues "
        "when a job starts; finished shards are kept if you stop it"
    ]
    cluster.queue = ""
    assert dask_workers.no_worker(client, "shards").startswith("no worker is connected. The run continues")


class Pods:
    """A Kubernetes cluster whose worker pods wait for this reason."""

    name = "deiii-0"

    def __init__(self, trouble):
        self.trouble = trouble
        self.asked = []

    def sync(self, function, *words):
        assert function is first_worker.ask_trouble
        self.asked.append(words)
        return self.trouble


@pytest.mark.parametrize("adaptive", ["true", "false"])
@pytest.mark.parametrize(
    ("trouble", "patience", "says"),
    [
        (
            Trouble("CrashLoopBackOff", lasting=True, final=True),
            20,
            "pod of a worker cannot start: CrashLoopBackOff",
        ),
        (Trouble("no GPU"), 1, "no worker connected within cluster.patience=1 s: no GPU"),
        (None, 1, "no worker connected within cluster.patience=1 s; `kubectl get pods -n lab` says why"),
    ],
)
def test_worker_pods_that_do_not_start_are_told_with_the_reason(
    trouble, patience, says, adaptive, monkeypatch
):
    """The command said after an hour that no worker had connected."""
    monkeypatch.setattr(first_worker, "workers_of", lambda client: {})
    monkeypatch.setattr(first_worker, "LOOK_S", 0.0)
    words = ["cluster.kind=kubernetes", "cluster.namespace=lab", f"cluster.patience={patience}", "workers=2"]
    config = load_config(overrides=[*words, f"cluster.adaptive={adaptive}"])
    client = SimpleNamespace(cluster=Pods(trouble))
    watch = (
        first_worker_watch(client, config)
        if adaptive == "true"
        else partial(await_first_worker, client, config, print)
    )
    with pytest.raises(ClusterError, match=says):
        for _ in range(1000):
            watch()
            time.sleep(0.01)
    assert client.cluster.asked[0] == ("deiii-0", "lab", "worker")
