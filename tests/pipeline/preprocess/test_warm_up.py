"""Workers with a GPU load their models at once; here the GPU is a resource of a worker that has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from deiii.data.cache.stages import get_stage
from deiii.data.config.load import load_config, to_yaml
from deiii.data.corpora.scan import scan_corpus
from deiii.pipeline.preprocess import graph
from deiii.pipeline.preprocess.graph import preprocess
from deiii.pipeline.preprocess.warm_up import start_models, warm_up
from deiii.pipeline.stages import clip as worker_process
from deiii.pipeline.stages.clip import loaded_models
from tests.helpers.clips import tree_bytes


@pytest.fixture
def gpu_of_dis(monkeypatch):
    """DIS stands for a method that runs on a GPU; nothing is loaded before the test and after it."""
    monkeypatch.setattr("deiii.pipeline.preprocess.cluster._stages_on_gpu", lambda config: {"flow"})
    monkeypatch.setattr("deiii.pipeline.preprocess.cluster._gpu_name", lambda: "a GPU")
    monkeypatch.setattr(worker_process, "_loaded", {})


@pytest.fixture
def client():
    """A worker in this process that offers two GPUs."""
    more = {"dashboard_address": ":0", "processes": False, "resources": {"GPU": 1}}
    with LocalCluster(n_workers=2, threads_per_worker=1, **more) as cluster, Client(cluster) as client:
        yield client


def test_the_engine_is_loaded_and_has_computed_and_the_shards_use_it(gpu_of_dis, monkeypatch):
    config = load_config(overrides=["flow.method=dis", "faces.size=64"])
    submitted = []
    engine = "deiii.pipeline.flow.engines.PairEngine.submit"
    real = worker_process.import_function("deiii.pipeline.flow.engines:PairEngine").submit

    def recorded(self, frames, *more):
        submitted.append((self, frames.shape))
        return real(self, frames, *more)

    monkeypatch.setattr(engine, recorded)
    warm_up("flow", to_yaml(config))
    assert [shape for _, shape in submitted] == [(2, 64, 64, 3)] * 2  # DIS takes one pair after the other
    assert loaded_models(get_stage("flow"), config) == (submitted[0][0],)  # what `run_shard` asks for


def test_every_worker_with_a_gpu_starts_once_the_shards_wait(gpu_of_dis, client, root, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "open_cluster", lambda config, startable, report: _Open(client))
    started, results = [], []

    def record(client, config, tasks, done):
        futures = start_models(client, config, tasks, done)
        started.append([future.key for future in futures])
        results.append([future.result() for future in futures])  # raises what the task raised
        return futures

    monkeypatch.setattr(graph, "start_models", record)
    config = settings(root, tmp_path / "warm")
    preprocess(config, scan_corpus(config), lambda line: None)
    assert len(started[0]) == 2 and {key[:2] for key in started[0]} == {("warm-up", "flow")}
    assert len({key[2] for key in started[0]}) == 2 and results == [[None, None]]

    cold = settings(root, tmp_path / "cold")
    monkeypatch.setattr(graph, "start_models", lambda *words: [])
    preprocess(cold, scan_corpus(cold), lambda line: None)
    assert tree_bytes(tmp_path / "warm") == tree_bytes(tmp_path / "cold")  # the same results

    for shard in (tmp_path / "cold").rglob("flow-*/*.h5"):
        shard.unlink()
    monkeypatch.setattr(graph, "start_models", record)
    preprocess(cold, scan_corpus(cold), lambda line: None)
    assert started[1] == []  # the faces are there, so the shards themselves start at once


def test_a_failure_is_left_to_the_shards(gpu_of_dis, client, root, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "open_cluster", lambda config, startable, report: _Open(client))

    def broken(stage: str, settings: str) -> None:
        raise RuntimeError("no GPU")

    monkeypatch.setattr("deiii.pipeline.preprocess.warm_up.warm_up", broken)
    config = settings(root, tmp_path / "cache")
    summary = preprocess(config, scan_corpus(config), lambda line: None)
    assert summary.computed and not summary.failed


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A corpus of talking faces."""
    folder = tmp_path_factory.mktemp("raw")
    scan_corpus(settings(folder, folder / "cache"))
    return folder


def settings(root: Path, cache: Path):
    words = ["speakers=1", "clips_per_class=1", "seconds=1", "size=96", "fps=12"]
    words = [f"corpus.root={root}", *(f"corpus.synthetic.{word}" for word in words), f"cache={cache}"]
    words += ["stages=[faces,flow]", "faces.detector=haar", "faces.size=64", "flow.method=dis", "workers=1"]
    return load_config(overrides=words)


class _Open:
    """A cluster that stays open after the run."""

    def __init__(self, client: Client):
        self.client = client

    def __enter__(self) -> Client:
        return self.client

    def __exit__(self, *error: object) -> None:
        pass
