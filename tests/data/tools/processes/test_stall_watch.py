"""A run whose tasks do not end says why: no worker is connected, or workers are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from distributed import Client, LocalCluster
from distributed.core import Status

from deiii.data.tools.processes import stall_watch
from deiii.data.tools.processes.dask_workers import workers_of
from deiii.data.tools.processes.stall_watch import StallWatch
from tests.helpers.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(stall_watch, "LOOK_S", 0.0)


def test_a_scheduler_that_lost_its_workers_is_reported_once():
    lines: list[str] = []
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster, Client(cluster) as c:
        watch = StallWatch(c, lines.append, "finished shards")
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


def test_jobs_that_end_while_nothing_is_finished_are_reported(monkeypatch):
    """A shard that takes longer than a job was started again for days without a word."""
    lines: list[str] = []
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster, Client(cluster) as c:
        monkeypatch.setattr(cluster, "ends", ["NODE_FAIL"], raising=False)  # before the first task ended
        watch = StallWatch(c, lines.append, "finished shards")
        watch.look()
        assert lines == []
        for number in (1, 2):
            cluster.ends.append("TIMEOUT: TimeLimit")
            watch.look()
            watch.look()
            assert len(lines) == number
        watch.ended()
        watch.look()
    again = "and nothing was finished since; other jobs compute their work again"
    assert len(lines) == 2 and f"2 jobs ended (TIMEOUT: TimeLimit), {again}" in lines[1]
    assert "a longer cluster.walltime; finished shards are kept" in lines[1]


def test_paused_workers_are_reported_with_their_memory_limit():
    """Before, a run whose workers had too little memory waited without a word."""
    lines: list[str] = []
    local = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit="400MB"
    )
    with local as cluster, Client(cluster) as c:
        watch = StallWatch(c, lines.append, "finished shards")
        watch.look()
        assert lines == []
        for number, worker in enumerate(cluster.workers.values(), 1):
            worker.status = Status.paused
            while sum(w["status"] == "paused" for w in workers_of(c).values()) < number:
                time.sleep(0.02)
            watch.look()
            watch.look()
    assert len(lines) == 2
    assert lines[0].startswith("Dask has paused 1 worker of 2, because the memory limit is nearly reached: ")
    assert "(381.5 MiB); others continue" in lines[0] and "--memory-limit" in lines[0]
    assert lines[1].startswith("Dask has paused 2 workers of 2") and "when one has free memory" in lines[1]


def test_a_stopped_worker_is_reported_with_what_continues_it(monkeypatch):
    monkeypatch.setattr(stall_watch, "no_worker", lambda client, kept: "")
    monkeypatch.setattr(stall_watch, "paused_workers", lambda client, kept: "")
    lines: list[str] = []
    watch = StallWatch(SimpleNamespace(), lines.append, "finished shards")
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with worker:
        watch.look()
        assert lines == []
        worker.send_signal(signal.SIGSTOP)
        while not lines:
            watch.look()
        worker.send_signal(signal.SIGKILL)
    assert f"kill -CONT {worker.pid}" in lines[0] and f"kill -KILL {worker.pid}" in lines[0]


def test_nothing_is_looked_at_while_tasks_end(monkeypatch):
    monkeypatch.setattr(stall_watch, "LOOK_S", 60.0)
    monkeypatch.setattr(stall_watch, "no_worker", lambda client, kept: pytest.fail("the scheduler was asked"))
    StallWatch(SimpleNamespace(), pytest.fail, "finished shards").look()


def test_a_worker_that_waits_for_a_disk_all_the_time_is_reported_once(monkeypatch):
    monkeypatch.setattr(stall_watch, "no_worker", lambda client, kept: "")
    monkeypatch.setattr(stall_watch, "paused_workers", lambda client, kept: "")
    hanging, busy = {171: 170}, {181: 180}
    states = iter([hanging | busy, hanging] * 20 + [busy, {}] * 20)
    monkeypatch.setattr(stall_watch, "blocked_threads", lambda: next(states))
    clock = iter(range(10**6))
    monkeypatch.setattr(stall_watch, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(stall_watch, "LOOK_S", 300.0)
    lines: list[str] = []
    watch = StallWatch(SimpleNamespace(), lines.append, "finished shards")
    while next(clock) < 1000:
        watch.look()
    assert len(lines) == 1
    assert "waited for the disk or network share for 300 s: 170;" in lines[0]


def test_threads_that_wait_now_and_then_are_not_reported():
    always = [{71: 70, 81: 80}] * stall_watch.STATES
    assert "share for 0 s: 70 80;" in stall_watch.waiting_for_disk(always, "finished shards")
    assert "share for 0 s: 80;" in stall_watch.waiting_for_disk([*always, {81: 80}], "finished shards")
    assert stall_watch.waiting_for_disk([*always, {}], "finished shards") == ""
    assert stall_watch.waiting_for_disk(always[:3], "finished shards") == ""  # too few looks for a statement
    assert stall_watch.waiting_for_disk([], "finished shards") == ""


def test_the_states_of_all_threads_of_all_processes_below_are_read(monkeypatch, tmp_path):
    code = "import subprocess, sys, threading; threading.Thread(target=input).start(); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as worker:
        try:
            folder = tmp_path / str(worker.pid) / "task"
            for thread, state in ((worker.pid, "S"), (7, "D"), (8, "R")):
                (folder / str(thread)).mkdir(parents=True)
                (folder / str(thread) / "stat").write_text(f"{thread} (a) D (b) {state} 1 1")
            assert os.path.isdir(f"/proc/{worker.pid}/task") and stall_watch.blocked_threads() == {}
            monkeypatch.setattr(stall_watch, "PROCESSES", tmp_path)
            assert stall_watch.blocked_threads() == {7: worker.pid}
        finally:
            worker.kill()
