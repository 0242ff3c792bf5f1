"""A run whose shards do not end says why: no worker is connected, or workers are stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from distributed import Client, LocalCluster

from deiii.pipeline.preprocess import tasks
from deiii.pipeline.preprocess.tasks import StallWatch
from tests.helpers.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(tasks, "LOOK_S", 0.0)


def test_a_scheduler_that_lost_its_workers_is_reported_once():
    lines: list[str] = []
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster, Client(cluster) as c:
        watch = StallWatch(c, lines.append)
        watch.look()
        watch.look()
        assert len(lines) == 1
        assert "no worker is connected" in lines[0] and cluster.scheduler_address in lines[0]
        watch.ended()  # a worker came and went again
        watch.look()
        assert len(lines) == 2
        cluster.scale(1)
        c.wait_for_workers(1, timeout=PATIENCE_S)
        watch.look()
        assert len(lines) == 2


def test_a_stopped_worker_is_reported_with_what_continues_it(monkeypatch):
    monkeypatch.setattr(tasks, "workers_of", lambda client: {"tcp://127.0.0.1:1": {}})
    lines: list[str] = []
    watch = StallWatch(SimpleNamespace(), lines.append)
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with worker:
        watch.look()
        assert lines == []
        worker.send_signal(signal.SIGSTOP)
        while not lines:
            watch.look()
        worker.send_signal(signal.SIGKILL)
    assert f"kill -CONT {worker.pid}" in lines[0] and f"kill -KILL {worker.pid}" in lines[0]


def test_nothing_is_looked_at_while_shards_end(monkeypatch):
    monkeypatch.setattr(tasks, "LOOK_S", 60.0)
    monkeypatch.setattr(tasks, "workers_of", lambda client: pytest.fail("the scheduler was asked"))
    StallWatch(SimpleNamespace(), pytest.fail).look()
