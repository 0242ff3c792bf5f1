"""Preprocessing on an existing Dask cluster whose scheduler and worker are separate processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import dask
import pytest
from distributed import Client
from distributed.comm import CommClosedError

from deiii.data.cluster.on_workers import WorkerCheck
from deiii.data.cluster.worker_checks import checked_workers
from deiii.data.config.load import load_config
from deiii.data.tools.processes.dask_workers import connect, while_connected, workers_of
from deiii.model.evaluation.many_runs import run_all
from deiii.pipeline.preprocess.cluster import ClusterError, gpu_count, open_cluster, stage_resources
from deiii.pipeline.preprocess.graph import preprocess
from tests.helpers.clips import audio_corpus, tree_bytes
from tests.helpers.dask_processes import own_scheduler, own_worker


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Address of a scheduler with one worker that offers a GPU resource."""
    folder = tmp_path_factory.mktemp("cluster")
    with own_scheduler(folder) as (address, _), own_worker(address, folder, "--resources", "GPU=1"):
        yield address


def settings(cache: Path, *more: str):
    words = ["stages=[logmel]", f"cache={cache}", "corpus.clips_per_shard=2", "workers=1"]
    return load_config(overrides=[*words, *more])


def test_no_worker_gets_a_gpu_of_a_driver_that_is_too_old(monkeypatch):
    """PyTorch counts such GPUs, and cannot use them; a number in the settings is what the user asks for."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["stages=[faces,flow]", "flow.method=raft"]
    assert gpu_count(load_config(overrides=words)) == 0
    assert gpu_count(load_config(overrides=[*words, "gpus=1"])) == 1


def test_a_worker_that_dies_repeatedly_is_started_again(tmp_path):
    """Dask gave up a worker that returned after 15 s, or that died at once, and nothing replaced it."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "0.01s"}),
        open_cluster(settings(tmp_path, "dashboard=127.0.0.1:0"), 1) as client,
    ):
        processes = set()
        for _ in range(4):  # each dies at once: also before its nanny knows that it has started
            processes.add(process := client.submit(os.getpid, pure=False).result(timeout=60))
            (before,) = workers_of(client)
            os.kill(process, signal.SIGKILL)
            while before in workers_of(client):
                time.sleep(0.02)
        assert len(processes) == 4


@pytest.mark.parametrize(
    ("far", "remedy"), [(True, "start it again, with its workers"), (False, "run the same command again")]
)
def test_the_end_of_a_scheduler_names_who_starts_it_again(request, tmp_path, far, remedy):
    far_scheduler = [f"scheduler={request.getfixturevalue('scheduler')}"] if far else []
    with (
        pytest.raises(ClusterError, match=f"finished shards are kept: {remedy}"),
        open_cluster(settings(tmp_path, "dashboard=127.0.0.1:0", *far_scheduler), 1),
    ):
        raise CommClosedError("the connection broke")


def test_existing_cluster_makes_the_same_bytes_as_a_local_one(scheduler, tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    preprocess(settings(tmp_path / "far", f"scheduler={scheduler}"), corpus, lambda line: None)
    preprocess(settings(tmp_path / "near"), corpus, lambda line: None)
    assert tree_bytes(tmp_path / "far") == tree_bytes(tmp_path / "near")


def test_flow_requests_the_gpu_if_workers_offer_one(scheduler, tmp_path):
    config = settings(tmp_path, f"scheduler={scheduler}", "flow.method=raft", "stages=[flow]")
    with open_cluster(config, 1) as client:
        resources = stage_resources(client, config)
        assert resources("flow") == {"GPU": 1} and resources("faces") is None
        for other in ("stages=[flow]", "flow.method=dis"), ("stages=[logmel]", "flow.method=raft"):
            assert stage_resources(client, settings(tmp_path, *other))("flow") is None


@pytest.mark.parametrize(("lost", "what"), [("cache", "cache folder"), ("raw", "corpus in")])
def test_workers_without_the_files_are_refused(scheduler, tmp_path, lost, what, monkeypatch):
    """The error names worker, machine and folder. The worker is on this machine, so its view is falsified."""
    config = settings(tmp_path / "cache", f"scheduler={scheduler}")
    (tmp_path / "raw").mkdir()
    token = "another" if lost == "cache" else None
    if token:
        monkeypatch.setattr(WorkerCheck, "__reduce__", lambda s: (WorkerCheck, (s.path, token, s.root)))
    else:
        (tmp_path / "raw").rmdir()
    with Client(scheduler) as client:
        says = rf"worker \S+ on \S+ \(tcp://.*\) does not see the {what}.*{lost}.*: put it on a file system"
        with pytest.raises(ClusterError, match=says):
            with checked_workers(client, config, str(tmp_path / "raw")):
                pass
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_worker_that_connects_later_is_checked_with_its_first_task(scheduler, tmp_path, monkeypatch):
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    monkeypatch.setattr("deiii.data.cluster.worker_checks.check_workers", lambda client, shared: None)
    monkeypatch.setattr(WorkerCheck, "__reduce__", lambda s: (WorkerCheck, (s.path, "another", s.root)))
    with pytest.raises(ClusterError, match="does not see the cache folder"):
        preprocess(settings(tmp_path / "cache", f"scheduler={scheduler}"), corpus, lambda line: None)
    assert not list((tmp_path / "cache").rglob("*.h5")) and not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_worker_environment_without_deiii_is_an_error(scheduler, tmp_path, monkeypatch):
    def missing(self, *args, **kwargs):
        return {"tcp://far:1": ModuleNotFoundError("No module named 'pipeline'")}

    monkeypatch.setattr(Client, "run", missing)
    with (
        Client(scheduler) as client,
        pytest.raises(ClusterError, match="tcp://far:1 cannot import deiii"),
    ):
        with checked_workers(client, settings(tmp_path, f"scheduler={scheduler}"), str(tmp_path)):
            pass


def test_an_address_without_a_scheduler(tmp_path, monkeypatch):
    monkeypatch.setattr("deiii.data.tools.processes.dask_workers.CONNECT_TIMEOUT", "1s")
    config = settings(tmp_path, "scheduler=tcp://127.0.0.1:9")
    with pytest.raises(ClusterError, match="no Dask scheduler answers"), open_cluster(config, 1):
        pass


def test_a_scheduler_that_ends_while_it_is_asked(tmp_path):
    """Dask's own call would go on until its time limit."""
    with own_scheduler(tmp_path) as (address, process), connect(address) as client:
        started = threading.Event()

        def ask():
            started.set()
            client.wait_for_workers(1, timeout=300)

        threading.Thread(target=lambda: started.wait(60) and process.kill(), daemon=True).start()
        with pytest.raises(CommClosedError, match="the scheduler is gone"):
            while_connected(client, ask)
        with pytest.raises(CommClosedError, match="the scheduler is gone"):
            workers_of(client)


def test_workers_are_asked_for_and_not_remembered(tmp_path, monkeypatch):
    """Dask's client returns what it knew before, until it has noticed that the connection broke."""

    class Broken:
        async def identity(self, **words):
            raise CommClosedError("broken a moment ago")

    with own_scheduler(tmp_path) as (address, _), connect(address) as client:
        assert workers_of(client) == {}
        monkeypatch.setattr(client, "scheduler", Broken())
        with pytest.raises(CommClosedError, match="the scheduler is gone"):
            workers_of(client)


def test_runs_whose_scheduler_ends_say_so(tmp_path, monkeypatch):
    configs = {"a": settings(tmp_path), "b": settings(tmp_path)}
    with own_scheduler(tmp_path, worker=True) as (address, process):
        configs["a"].scheduler = address
        real, submitted = Client.submit, []

        def submit(client, *words, **options):
            future = real(client, *words, **options)
            submitted.append(future)
            if len(submitted) == len(configs):  # without a connection the error would be another one
                process.kill()
            return future

        monkeypatch.setattr(Client, "submit", submit)
        with pytest.raises(ClusterError, match="is gone; finished runs are kept"):
            list(run_all(configs, work=lambda *_, **__: time.sleep(300), is_finished=lambda *_: False))


def test_runs_without_a_scheduler_say_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setattr("deiii.data.tools.processes.dask_workers.CONNECT_TIMEOUT", "1s")
    configs = {"a": settings(tmp_path, "scheduler=tcp://127.0.0.1:9")}
    with pytest.raises(ClusterError, match="start one with `dask scheduler`"):
        list(run_all(configs, is_finished=lambda *_: False))
