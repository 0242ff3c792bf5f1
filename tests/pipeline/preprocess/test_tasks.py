"""Shard tasks whose workers die: the run ends with every shard, and does not wait for ever."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from distributed import Client, KilledWorker, LocalCluster

from deiii.data.cache.index import ShardRecord
from deiii.data.tools.processes import dask_workers, stall_watch
from deiii.data.tools.progress import progress_bar
from deiii.pipeline.preprocess import tasks
from deiii.pipeline.preprocess.tasks import TaskRunner
from tests.helpers.dask_fetch import fail_first_fetch
from tests.helpers.waiting import PATIENCE_S

SHARDS = ("a", "b", "c")


def shard_task(name: str) -> SimpleNamespace:
    recipe = SimpleNamespace(stage="logmel", key="0" * 12, upstream=None)
    plan = SimpleNamespace(name=name, clips=[name])
    return SimpleNamespace(recipe=recipe, plan=plan, upstream=None, absent=None)


def record(name: str) -> ShardRecord:
    return ShardRecord(name, structure="", bytes=1, digest="", fields={}, clips=())


def compute(task: SimpleNamespace) -> ShardRecord:
    return record(task.plan.name)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


def run_all(client: Client, monkeypatch, report=print) -> dict[str, ShardRecord]:
    """Run a task for each shard; returns the records of those that are finished within `PATIENCE_S`."""
    monkeypatch.setattr(tasks, "run_shard", compute)
    done: dict = {"logmel": {}}
    runner = TaskRunner(client, lambda stage: None, None, 2, [shard_task(n) for n in SHARDS], done, report)
    bar = progress_bar(desc="", unit="", shown=False)
    running = threading.Thread(target=runner.run, args=(bar,), daemon=True)
    running.start()
    running.join(PATIENCE_S)
    return done["logmel"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_result_that_cannot_be_fetched_is_asked_for_again(waits, client, monkeypatch):
    """If all workers die at once, fetching a result may raise or wait for ever."""
    failed = fail_first_fetch(client, waits, monkeypatch)
    monkeypatch.setattr(tasks, "ASK_AGAIN_S", 0.2)
    assert run_all(client, monkeypatch) == {name: record(name) for name in SHARDS}
    assert failed


def test_a_fetched_result_counts_although_its_worker_died_since(client, monkeypatch):
    next_batch = tasks.as_completed.next_batch

    def lost_since(completed, block):
        batch = next_batch(completed, block=block)
        for future, _ in batch:
            future._state.lose()  # as the scheduler's message about a dead worker does
        return batch

    monkeypatch.setattr(tasks.as_completed, "next_batch", lost_since)
    assert run_all(client, monkeypatch) == {name: record(name) for name in SHARDS}


def test_a_run_whose_shards_do_not_end_reports_the_cause(client, monkeypatch):
    monkeypatch.setattr(stall_watch, "LOOK_S", 0.0)
    monkeypatch.setattr(dask_workers, "workers_of", lambda client: {})
    lines: list[str] = []
    assert run_all(client, monkeypatch, lines.append) == {name: record(name) for name in SHARDS}
    assert lines and "no worker is connected" in lines[0]


def test_the_last_lost_worker_of_a_shard_names_what_ended_its_job():
    """The message blamed the memory where each job had reached its time limit."""
    last = tasks.Attempt(shard_task("a"), tasks.MAX_ATTEMPTS)  # type: ignore[arg-type]
    killed = KilledWorker("a", SimpleNamespace(address="tcp://10.0.0.1:8786"), 3)
    with pytest.raises(tasks.PreprocessError, match="killed its worker 3 times, most likely because memory"):
        tasks.next_attempt(last, killed)
    ends = ["TIMEOUT: TimeLimit"] * 12
    with pytest.raises(tasks.PreprocessError, match=r"\(TIMEOUT: TimeLimit\).* with a longer cluster.wallt"):
        tasks.next_attempt(last, killed, ends)
