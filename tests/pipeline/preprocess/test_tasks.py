"""Shard tasks whose workers die: the run ends with every shard, and does not wait for ever."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from distributed import Client, KilledWorker, LocalCluster

from deiii.data.cache.index import ShardRecord
from deiii.data.tools.progress import ProgressBar, progress_bar
from deiii.pipeline.preprocess import tasks
from deiii.pipeline.preprocess.tasks import TaskRunner

SHARDS = ("a", "b", "c")


def shard_task(name: str) -> SimpleNamespace:
    recipe = SimpleNamespace(stage="logmel", key="0" * 12, upstream=None)
    return SimpleNamespace(recipe=recipe, plan=SimpleNamespace(name=name, clips=[name]), upstream=None)


def record(name: str) -> ShardRecord:
    return ShardRecord(name, sha256="", bytes=1, digest="", fields={}, clips=())


def compute(task: SimpleNamespace) -> ShardRecord:
    return record(task.plan.name)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


class Lost:
    """A future whose worker died after its result was fetched."""

    status = "lost"

    def exception(self):
        raise AssertionError("it is computed again")


def hidden_bar() -> ProgressBar:
    return progress_bar(desc="", unit="", shown=False)


def runner(client: Client, monkeypatch) -> tuple[TaskRunner, dict]:
    monkeypatch.setattr(tasks, "run_shared", lambda shared, run, task: run(task))
    monkeypatch.setattr(tasks, "run_shard", compute)
    done: dict = {"logmel": {}}
    return TaskRunner(client, lambda stage: None, None, 2, [shard_task(n) for n in SHARDS], done), done


def test_a_result_that_cannot_be_fetched_is_asked_for_again(client, monkeypatch):
    """As when all workers die at once: the fetch raises what ended the second computation."""
    gather, failed = client._gather, []

    async def fails_at_first(futures, **how):
        if not failed:
            failed.append(futures)
            raise KilledWorker("a", None, 0, 0)
        return await gather(futures, **how)

    monkeypatch.setattr(client, "_gather", fails_at_first)
    monkeypatch.setattr(tasks, "ASK_AGAIN_S", 0.2)
    mine, done = runner(client, monkeypatch)
    running = threading.Thread(target=mine.run, args=(hidden_bar(),), daemon=True)
    running.start()
    running.join(30)
    assert failed and not running.is_alive()
    assert done["logmel"] == {name: record(name) for name in SHARDS}


def test_a_fetched_result_counts_although_its_worker_died_since(client, monkeypatch):
    mine, done = runner(client, monkeypatch)
    lost = [Lost() for _ in SHARDS]

    def submit() -> None:
        for future in lost[len(done["logmel"]) :][:1]:
            mine._running[future] = mine._ready.popleft()

    def ended():
        while mine._running:
            future, attempt = next(iter(mine._running.items()))
            yield future, record(attempt.shard)

    monkeypatch.setattr(mine, "_submit", submit)
    monkeypatch.setattr(mine, "_ended", ended)
    mine.run(hidden_bar())
    assert list(done["logmel"]) == list(SHARDS)
