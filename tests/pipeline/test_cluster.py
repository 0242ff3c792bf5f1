"""An existing Dask cluster: scheduler and worker as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import sound_corpus, tree_bytes
from distributed import Client

from data.config import load_config
from pipeline.cluster import ClusterError, check_shared_folder, flow_resources, open_cluster
from pipeline.graph import preprocess


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Address of a scheduler with one worker that offers a GPU resource."""
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    base = [sys.executable, "-m", "dask"]
    local = ["--host", "127.0.0.1", "--scheduler-file", str(file)]
    with open(folder / "log.txt", "w") as log:
        commands = [[*base, "scheduler", *local, "--port", "0", "--no-dashboard"]]
        worker = [*base, "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"]
        commands.append([*worker, "--resources", "GPU=1", "--local-directory", str(folder)])
        running = [subprocess.Popen(c, stdout=log, stderr=log) for c in commands]
        begun = time.monotonic()
        while not file.exists() and time.monotonic() - begun < 60:
            time.sleep(0.1)
        try:
            yield json.loads(file.read_text())["address"]
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait(20)


def settings(cache: Path, *more: str):
    words = ["stages=[logmel]", f"cache={cache}", "corpus.clips_per_shard=2", "workers=1"]
    return load_config(overrides=[*words, *more])


def test_existing_cluster_makes_the_same_bytes_as_a_local_one(scheduler, tmp_path):
    corpus = sound_corpus(tmp_path / "raw", speakers=1)
    preprocess(settings(tmp_path / "far", f"scheduler={scheduler}"), corpus, lambda line: None)
    preprocess(settings(tmp_path / "near"), corpus, lambda line: None)
    assert tree_bytes(tmp_path / "far") == tree_bytes(tmp_path / "near")


def test_flow_asks_for_the_gpu_where_workers_offer_one(scheduler, tmp_path):
    config = settings(tmp_path, f"scheduler={scheduler}", "flow.method=raft")
    with open_cluster(config, 1) as client:
        assert flow_resources(client, config) == {"GPU": 1}
        assert flow_resources(client, settings(tmp_path, "flow.method=dis")) == {}


def test_workers_without_the_folder_are_refused(scheduler, tmp_path, monkeypatch):
    """A worker on this machine sees every folder, so its answer is what is replaced."""
    monkeypatch.setattr("pipeline.cluster._sees", lambda probe, token: False)
    with Client(scheduler) as client, pytest.raises(ClusterError, match="do not see the cache folder"):
        check_shared_folder(client, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nobody_at_the_address(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.cluster.PATIENCE", "1s")
    config = settings(tmp_path, "scheduler=tcp://127.0.0.1:9")
    with pytest.raises(ClusterError, match="no Dask scheduler answers"), open_cluster(config, 1):
        pass
