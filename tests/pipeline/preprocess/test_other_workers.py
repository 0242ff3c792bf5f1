"""Workers that would compute something else, or that run in another folder, are refused by name."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deiii.data.cache.stages import get_stage
from deiii.data.cluster import on_workers, worker_checks
from deiii.data.cluster.on_workers import WorkerCheck
from deiii.data.cluster.worker_checks import check_workers
from deiii.data.config.load import load_config
from deiii.data.tools.processes import dask_workers, stall_watch
from deiii.data.tools.processes.dask_workers import ClusterError, connect
from deiii.model.evaluation import many_runs
from deiii.model.evaluation.many_runs import run_all
from deiii.pipeline.preprocess.graph import preprocess
from tests.helpers.clips import audio_corpus
from tests.helpers.dask_processes import own_scheduler, own_worker
from tests.helpers.waiting import PATIENCE_S

EARLIER = """
from deiii.data.cache.stages import get_stage

object.__setattr__(get_stage("logmel"), "version", 1)
"""


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with own_scheduler(tmp_path_factory.mktemp("scheduler")) as (address, _):
        yield address


def settings(cache: Path | str, scheduler: str, *more: str):
    words = ["stages=[logmel]", f"cache={cache}", "corpus.clips_per_shard=2", f"scheduler={scheduler}"]
    return load_config(overrides=[*words, *more])


@pytest.mark.parametrize("late", [False, True])
def test_a_worker_with_another_version_of_a_stage(scheduler, tmp_path, monkeypatch, late):
    """It would store the results of its own code under the key of this one."""
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    (tmp_path / "earlier.py").write_text(EARLIER)
    if late:  # a worker that connects after the check
        monkeypatch.setattr(worker_checks, "check_workers", lambda client, shared: None)
    version = get_stage("logmel").version
    says = rf"worker \S+ on \S+ \(tcp://.*\) has version 1 of the stage logmel, not {version}: start workers"
    with own_worker(scheduler, tmp_path, "--preload", str(tmp_path / "earlier.py")):
        with pytest.raises(ClusterError, match=says):
            preprocess(settings(tmp_path / "cache", scheduler), corpus, lambda line: None)
    left = [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".h5", ".tmp")]
    assert left == []


def test_a_worker_without_the_package_of_a_stage(tmp_path):
    found = WorkerCheck(str(tmp_path / "probe"), "", "", {"from_a_package": 1}).defect()
    assert found is not None and found.text.startswith("cannot compute the stage from_a_package (")
    assert found.remedy == on_workers.SAME_VERSION


WITHOUT = 'raise ModuleNotFoundError("No module named deiii", name="deiii")'
WITHOUT_CHECK = "from deiii.data.cluster import on_workers; vars(on_workers).pop('worker_defect', None)"


def without_deiii(folder: Path) -> Path:
    """A folder in which Python finds a deiii that cannot be imported."""
    package = folder / "without" / "deiii"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(WITHOUT)
    return package.parent


@pytest.mark.parametrize("lacks", ["deiii", "check"])
def test_a_worker_without_deiii_or_with_one_that_lacks_the_check(scheduler, tmp_path, lacks):
    options, cwd, environment = [], None, {}
    if lacks == "deiii":
        cwd = without_deiii(tmp_path)  # the folder in which Python runs is searched first
        environment["PYTHONPATH"] = str(cwd)
    else:
        (tmp_path / "earlier.py").write_text(WITHOUT_CHECK)
        options = ["--preload", str(tmp_path / "earlier.py")]
    says = "the worker at tcp://.* cannot import deiii .*: start workers in an environment with the same"
    with own_worker(scheduler, tmp_path, *options, cwd=cwd, **environment), connect(scheduler) as client:
        with pytest.raises(ClusterError, match=says):
            check_workers(client, WorkerCheck("", "", ""))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("what", ["clips", "runs"])
def test_a_worker_without_deiii_that_connects_later(scheduler, tmp_path, monkeypatch, named, what):
    """It ended when it unpacked its first task, and the command waited for another worker."""
    real, checks = worker_checks.check_workers, []

    def check(client, shared):
        checks.append(shared)
        if len(checks) > 1 and named:  # otherwise it is gone when the workers are checked again
            real(client, shared)

    monkeypatch.setattr(worker_checks, "check_workers", check)
    cwd = without_deiii(tmp_path)
    who = r"the worker at tcp://\S+" if named else "a worker that connected later"
    says = f"{who} cannot import deiii .*: start workers in an environment with the same version"
    with own_worker(scheduler, tmp_path, cwd=cwd, PYTHONPATH=str(cwd)):
        with pytest.raises(ClusterError, match=says):
            if what == "clips":
                corpus = audio_corpus(tmp_path / "raw", speakers=1)
                preprocess(settings(tmp_path / "cache", scheduler), corpus, lambda line: None)
            else:
                configs = runs(tmp_path / "cache", scheduler, tmp_path / "runs")
                list(run_all(configs, work=sleep_briefly, is_finished=lambda *_: False))
    assert len(checks) == 2


def test_a_scheduler_without_deiii(tmp_path):
    """It unpacks every task. Before, this was reported as a defect of deiii."""
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    says = "the scheduler cannot import deiii .*: start it in an environment with the same version"
    own = own_scheduler(tmp_path, PYTHONPATH=str(without_deiii(tmp_path)))
    with own as (address, _), own_worker(address, tmp_path), pytest.raises(ClusterError, match=says):
        preprocess(settings(tmp_path / "cache", address), corpus, lambda line: None)


def sleep_briefly(*_, **__):
    time.sleep(0.1)


def runs(cache: Path | str, scheduler: str, run: Path | str):
    return {n: settings(cache, scheduler, f"train.run={run}/{n}") for n in "ab"}


def test_runs_on_a_scheduler_without_workers(scheduler, tmp_path, monkeypatch):
    """Before, the command waited without a word."""
    monkeypatch.setattr("deiii.data.tools.processes.dask_workers.FIRST_WORKER_S", 0.5)
    configs = runs(tmp_path / "cache", scheduler, tmp_path / "runs")
    with pytest.raises(ClusterError, match="has no workers; start some first"):
        list(run_all(configs, work=sleep_briefly, is_finished=lambda *_: False))


@pytest.mark.parametrize("relative", ["cache", "folder of the runs"])
def test_runs_on_a_worker_that_runs_in_another_folder(scheduler, tmp_path, monkeypatch, relative):
    """It would search the cache there, or leave the runs there."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in here / "cache", here / "runs", there / "runs":
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    cache, run = ("cache", here / "runs") if relative == "cache" else (here / "cache", "runs")
    says = f"does not see the {relative}.*, because it runs in {there}: start workers in the folder of the"
    with own_worker(scheduler, tmp_path, cwd=there), pytest.raises(ClusterError, match=says):
        list(run_all(runs(cache, scheduler, run), work=sleep_briefly, is_finished=lambda *_: False))
    assert [*here.rglob("*.tmp"), *there.rglob("*.tmp")] == []


def test_runs_on_a_worker_with_other_source_code(scheduler, tmp_path):
    """Its stages have the same versions, and its network would be another one."""
    other = "from deiii.data.cluster import on_workers\non_workers.source_digest = lambda: 'other'\n"
    (tmp_path / "changed.py").write_text(other)
    configs = runs(tmp_path / "cache", scheduler, tmp_path / "runs")
    says = "worker .* on .* has other source code of deiii than this process: start workers in an environment"
    with own_worker(scheduler, tmp_path, "--preload", str(tmp_path / "changed.py")):
        with pytest.raises(ClusterError, match=says):
            list(run_all(configs, work=sleep_briefly, is_finished=lambda *_: False))


def test_runs_whose_worker_is_gone_say_so(scheduler, tmp_path, monkeypatch):
    """Before, the command waited without a word; now a worker that connects continues the runs."""
    started, told = tmp_path / "started", []
    monkeypatch.setattr(stall_watch, "LOOK_S", 0.0)
    monkeypatch.setattr(many_runs, "say", told.append)

    def work(*_, **__):
        if not started.exists():
            started.touch()
            time.sleep(600)

    with own_worker(scheduler, tmp_path) as first:

        def look(client, kept):
            if started.exists() and first.poll() is None:
                first.kill()  # its worker ends too, and is not started again
            return dask_workers.no_worker(client, kept)

        monkeypatch.setattr(stall_watch, "no_worker", look)
        configs = runs(tmp_path / "cache", scheduler, tmp_path / "runs")
        pool = ThreadPoolExecutor(1)
        ended = pool.submit(lambda: list(run_all(configs, work=work, is_finished=lambda *_: False)))
        while not told:
            time.sleep(0.05)
    assert len(told) == 1 and "the run continues when one connects" in told[0]
    assert "finished runs are kept" in told[0]
    (tmp_path / "second").mkdir()
    with own_worker(scheduler, tmp_path / "second"):
        assert sorted(name for name, _ in ended.result(PATIENCE_S)) == ["a", "b"]
    pool.shutdown()
