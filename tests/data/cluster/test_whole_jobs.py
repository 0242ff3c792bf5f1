"""Jobs of several workers are submitted and ended as a whole."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from distributed.core import Status

from deiii.data.cluster import whole_jobs
from deiii.data.cluster.job_states import QueueState
from deiii.data.cluster.whole_jobs import WholeJobs, job_of, noting_refusals
from deiii.data.tools.processes import stall_watch

PER_JOB = 8
# What sbatch of SLURM 22.05 writes.
SAID = (
    "sbatch: error: invalid partition specified: short\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified"
)


class Cluster:
    """The parts of a cluster of dask-jobqueue that scaling reads; ``here`` are the connected workers."""

    def __init__(self, jobs: int):
        self.names = [f"SLURMCluster-{n}" for n in range(jobs)]
        self.worker_spec = {name: {"group": [f"-{i}" for i in range(PER_JOB)]} for name in self.names}
        self.cancelled: list[str] = []
        self.workers = {
            name: SimpleNamespace(close=self._closes(name), status=Status.running) for name in self.names
        }
        self.here: set[str] = set()
        self.wanted = 0
        self.idle: list[str] = []
        self.asked: dict = {}
        self.scheduler_comm = self.scheduler = self
        self.loop = None

    def add_plugin(self, plugin, name: str) -> None:
        self.plugin = plugin

    def connect(self, names: list[str]) -> None:
        """Connect exactly these workers."""
        for name in names:
            self.plugin.add_worker(SimpleNamespace(workers={"a": SimpleNamespace(name=name)}), "a")
        self.here = set(names)

    def _closes(self, name: str):
        async def close() -> None:
            self.cancelled.append(name)
            raise RuntimeError("scancel: error: Invalid job id specified")

        return close

    @property
    def plan(self) -> set[str]:
        return {name + end for name, spec in self.worker_spec.items() for end in spec["group"]}

    requested = plan

    @property
    def observed(self) -> set[str]:
        return self.here

    async def adaptive_target(self, target_duration=None) -> int:
        return self.wanted

    def workers_to_close(self, **asked) -> list[str]:
        self.asked = asked
        return self.idle


def workers(job: int) -> list[str]:
    return [f"SLURMCluster-{job}-{i}" for i in range(PER_JOB)]


def scaling(cluster: Cluster) -> WholeJobs:
    return WholeJobs(cluster, PER_JOB, minimum=0, maximum=60, interval=0)


def recommended(found: WholeJobs) -> dict:
    async def look() -> dict:
        return await found.recommendations(await found.safe_target())

    return asyncio.run(look())


def test_targets_are_whole_jobs():
    cluster = Cluster(0)
    found = scaling(cluster)
    assert (found.minimum, found.maximum) == (0, 64)
    for wanted, jobs in ((0, 0), (1, 1), (8, 1), (9, 2), (60, 8), (1000, 8)):
        cluster.wanted = wanted
        assert asyncio.run(found.safe_target()) == jobs * PER_JOB


def test_a_job_that_waits_in_the_queue_is_not_cancelled():
    """Dask wanted 15 workers of the 16 in two waiting jobs, and dask-jobqueue cancelled one of the jobs."""
    cluster = Cluster(2)
    found = scaling(cluster)
    for wanted in (15, 3, 0):
        cluster.wanted = wanted
        assert [recommended(found)["status"] for _ in range(6)] == ["same"] * 6
    cluster.wanted = 17
    assert recommended(found) == {"status": "up", "n": 24}


def test_a_job_ends_when_all_of_its_workers_have_been_idle_for_some_looks():
    cluster = Cluster(2)
    found = scaling(cluster)
    cluster.connect([*workers(0), *workers(1)])
    cluster.wanted = 8
    cluster.idle = workers(1)
    assert [recommended(found)["status"] for _ in range(2)] == ["same"] * 2
    assert recommended(found) == {"status": "down", "workers": workers(1)}
    assert cluster.asked["minimum"] == 8 and "target" not in cluster.asked  # a target ends busy workers, too
    group = cluster.asked["key"]
    assert {group(SimpleNamespace(name=name)) for name in workers(1)} == {"SLURMCluster-1"}
    cluster.idle = []  # it has work again, so that the looks count anew
    assert recommended(found)["status"] == "same"
    cluster.idle = workers(1)
    assert [recommended(found)["status"] for _ in range(3)] == ["same", "same", "down"]


def test_a_job_that_ended_is_replaced_after_a_while(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(whole_jobs.time, "monotonic", lambda: now[0])
    cluster = Cluster(2)
    found = scaling(cluster)
    cluster.connect(workers(0))  # between two looks
    cluster.here = set()  # its time limit; the other job has waited in the queue all the time
    asyncio.run(found._forget_ended())
    now[0] += whole_jobs.LOST_S / 2
    asyncio.run(found._forget_ended())
    assert len(cluster.plan) == 2 * PER_JOB
    now[0] += whole_jobs.LOST_S
    asyncio.run(found._forget_ended())
    assert cluster.cancelled == ["SLURMCluster-0"]  # its error does not count
    assert list(cluster.worker_spec) == list(cluster.workers) == ["SLURMCluster-1"]
    cluster.wanted = 16
    assert recommended(found) == {"status": "up", "n": 16}
    cluster.worker_spec["SLURMCluster-0"] = cluster.worker_spec["SLURMCluster-1"]  # Dask gives the name again
    for _ in range(3):
        asyncio.run(found._forget_ended())
        now[0] += whole_jobs.LOST_S
    assert len(cluster.worker_spec) == 2  # the new job waits in the queue


def test_the_end_of_a_job_that_computed_is_noted(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(whole_jobs.time, "monotonic", lambda: now[0])
    cluster = Cluster(2)
    asked_of: list[list] = []

    async def answer(jobs) -> list[str]:
        asked_of.append(list(jobs.values()))
        return ["TIMEOUT: TimeLimit"]

    monkeypatch.setattr(whole_jobs, "ask_ends", answer)
    found = scaling(cluster)
    first = cluster.workers["SLURMCluster-0"]
    cluster.connect([*workers(0), *workers(1)])
    for here in ([*workers(0), *workers(1)], workers(1), workers(1)):
        cluster.connect(here)
        asyncio.run(found._forget_ended())
        now[0] += whole_jobs.LOST_S
    assert asked_of == [[first]] and cluster.ends == ["TIMEOUT: TimeLimit"]


def test_workers_that_return_in_time_keep_their_job(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(whole_jobs.time, "monotonic", lambda: now[0])
    cluster = Cluster(1)
    found = scaling(cluster)
    for here in (workers(0), [], workers(0)[:1], []):
        cluster.connect(list(here))
        asyncio.run(found._forget_ended())
        now[0] += whole_jobs.LOST_S * 0.9
    assert list(cluster.worker_spec) == ["SLURMCluster-0"]


def test_a_later_job_with_the_name_of_one_that_was_idle_may_wait_in_the_queue(monkeypatch):
    """It counted as started and lost, and was cancelled and submitted again."""
    now = [0.0]
    monkeypatch.setattr(whole_jobs.time, "monotonic", lambda: now[0])
    cluster = Cluster(1)
    found = scaling(cluster)
    cluster.connect(workers(0))
    asyncio.run(found._forget_ended())
    spec, job = cluster.worker_spec.pop("SLURMCluster-0"), cluster.workers.pop("SLURMCluster-0")
    cluster.here = set()  # it was idle, and Dask has ended it
    asyncio.run(found._forget_ended())
    cluster.worker_spec["SLURMCluster-0"], cluster.workers["SLURMCluster-0"] = spec, job
    for _ in range(3):
        asyncio.run(found._forget_ended())
        now[0] += 2 * whole_jobs.LOST_S
    assert cluster.cancelled == [] and list(cluster.worker_spec) == ["SLURMCluster-0"]


def test_refusals_count_looks_without_any_accepted_job():
    """A limit on a user's jobs refuses some of them, and many are refused at once."""
    cluster = Cluster(8)
    found = scaling(cluster)
    names = list(cluster.workers)

    def refuse(refused: list[str]) -> int:
        for name in refused:
            cluster.worker_spec.setdefault(name, {"group": []})
            cluster.workers[name] = SimpleNamespace(status=Status.failed)
        asyncio.run(found._forget_ended())
        return cluster.refusals

    assert refuse(names[1:]) == refuse(names[1:]) == 0  # the first one waits in the queue
    assert [refuse(names) for _ in range(3)] == [1, 2, 3]
    cluster.workers[names[0]] = SimpleNamespace(status=Status.running)
    assert refuse([]) == 0


def asked(
    monkeypatch, cluster: Cluster, ended: list[str], waiting: str = "", unlisted: list[str] | None = None
):
    """Return a function that looks at a cluster when it is time to ask SLURM, which gives these answers."""
    now = [0.0]
    monkeypatch.setattr(whole_jobs.time, "monotonic", lambda: now[0])

    async def answer(jobs) -> QueueState:
        return QueueState(
            [name for name in ended if name in jobs], waiting, [n for n in unlisted or [] if n in jobs]
        )

    monkeypatch.setattr(whole_jobs, "ask_queue", answer)
    found = scaling(cluster)

    def look() -> int:
        now[0] += whole_jobs.ASK_S
        asyncio.run(found._forget_ended())
        return cluster.unstarted

    return look


def test_a_job_that_ended_before_its_workers_connected_is_replaced(monkeypatch):
    cluster = Cluster(3)
    look = asked(monkeypatch, cluster, ["SLURMCluster-0", "SLURMCluster-1"])
    cluster.connect(workers(0)[:1])  # its other workers start
    assert look() == 0
    assert list(cluster.worker_spec) == list(cluster.workers) == ["SLURMCluster-0", "SLURMCluster-2"]
    assert cluster.cancelled == []


def test_a_job_that_slurm_no_longer_lists_is_replaced_at_the_second_answer(monkeypatch):
    """Where SLURM forgets ended jobs within seconds (MinJobAge=2), the command waited for an hour."""
    cluster = Cluster(2)
    unlisted = ["SLURMCluster-1"]
    look = asked(monkeypatch, cluster, [], unlisted=unlisted)
    look()
    unlisted.clear()
    look()  # it was not listed by a controller that had just started
    unlisted.append("SLURMCluster-1")
    look()
    assert len(cluster.workers) == 2
    purged = cluster.workers["SLURMCluster-1"]
    look()
    assert purged.status == Status.closed  # otherwise Dask raised an AssertionError at the end
    assert list(cluster.worker_spec) == list(cluster.workers) == ["SLURMCluster-0"]
    cluster.worker_spec["SLURMCluster-1"] = {"group": []}
    cluster.workers["SLURMCluster-1"] = SimpleNamespace(status=Status.running)  # its name is given again
    look()
    assert len(cluster.workers) == 2


def test_the_queue_says_why_jobs_wait_or_were_refused(monkeypatch):
    cluster = Cluster(1)
    assert (scaling(cluster), cluster.queue)[1] == ""
    asked(monkeypatch, cluster, [], waiting="1 job is PENDING: JobHeldUser")()
    assert cluster.queue == "1 job is PENDING: JobHeldUser"
    cluster.refused = ["sbatch: error: first", "sbatch: error:\n second"]
    asked(monkeypatch, cluster, [])()
    assert cluster.queue == "sbatch: error: second"


def test_slurm_is_first_asked_before_the_first_message(monkeypatch):
    now = [0.0]
    cluster = Cluster(1)
    asked(monkeypatch, cluster, [], waiting="1 job is PENDING: Priority")
    monkeypatch.setattr(whole_jobs.time, "monotonic", lambda: now[0])
    found = scaling(cluster)
    asyncio.run(found._forget_ended())
    assert cluster.queue == ""
    now[0] = stall_watch.LOOK_S / 2
    asyncio.run(found._forget_ended())
    assert cluster.queue == "1 job is PENDING: Priority"


def test_failures_to_start_count_until_a_worker_connects(monkeypatch):
    cluster = Cluster(2)
    specs, jobs = dict(cluster.worker_spec), dict(cluster.workers)
    look = asked(monkeypatch, cluster, list(jobs))
    for times in (1, 2):
        assert look() == times and not cluster.worker_spec
        cluster.worker_spec.update(specs)
        cluster.workers.update(jobs)
    cluster.connect(workers(1))
    assert look() == 0 and list(cluster.workers) == ["SLURMCluster-1"]


@pytest.mark.parametrize(
    ("name", "per_job", "job"),
    [("SLURMCluster-12-7", 8, "SLURMCluster-12"), ("SLURMCluster-3", 1, "SLURMCluster-3"), (4, 1, "4")],
)
def test_names_of_jobs(name, per_job, job):
    assert job_of(name, per_job) == job_of(SimpleNamespace(name=name), per_job) == job


def test_a_job_that_was_refused_leaves_the_plan_and_its_reason_is_kept():
    class Job:
        status = Status.created
        accepted = False

        async def start(self) -> None:
            if not self.accepted:
                raise RuntimeError(
                    "Command exited with non-zero exit code.\nExit code: 1\nCommand:\nsbatch /tmp/a.sh\n"
                    f"stdout:\n\nstderr:\n{SAID}\n\n"
                )
            self.status = Status.running

    noting, refused = noting_refusals(Job)
    cluster = Cluster(2)
    job = cluster.workers["SLURMCluster-1"] = noting()
    for times in (1, 2):
        with pytest.raises(RuntimeError):
            asyncio.run(job.start())
        assert len(refused) == times and "invalid partition" in refused[-1]
    asyncio.run(scaling(cluster)._forget_ended())
    assert list(cluster.worker_spec) == list(cluster.workers) == ["SLURMCluster-0"]
    assert refused == [SAID] * 2  # without the words of dask-jobqueue
    job.accepted = True
    asyncio.run(job.start())
    assert refused == []
