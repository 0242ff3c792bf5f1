"""Queues of SLURM that let jobs wait, end them at their time limit, or refuse them; with dask-jobqueue."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import dask
import pytest
from distributed import Client
from distributed.core import Status

from deiii.data.cluster import first_worker, whole_jobs
from deiii.data.cluster.whole_jobs import WholeJobs, job_of
from deiii.data.config.load import load_config
from deiii.data.tools.processes.dask_workers import workers_of
from deiii.pipeline.preprocess.cluster import ClusterError, open_cluster
from deiii.pipeline.preprocess.cluster_kinds import slurm_cluster
from deiii.pipeline.preprocess.graph import preprocess
from tests.helpers.clips import audio_corpus
from tests.pipeline.preprocess.test_cluster_kinds import CONFIGS, skip_without_jobqueue

SBATCH = """#!{python}
import subprocess, sys
log = open({folder!r} + "/jobs.txt", "a")
script = open(sys.argv[-1]).read()
{refuse}
job = subprocess.Popen(
    ["bash", "-c", "sleep {wait}\\n" + script], stdout=log, stderr=log, start_new_session=True
)
with open({folder!r} + "/sbatch.txt", "a") as file:
    file.write(f"{{job.pid}}\\n")
print(f"Submitted batch job {{job.pid}}")
"""
SCANCEL = """#!{python}
import os, signal, sys
for job in sys.argv[1:]:
    os.killpg(int(job), signal.SIGTERM)
"""
SQUEUE = """#!{python}
import psutil, time
for job in open({folder!r} + "/sbatch.txt").read().split():
    try:
        process = psutil.Process(int(job))
        ended = process.status() == psutil.STATUS_ZOMBIE
        waits = time.time() - process.create_time() < {wait}
    except psutil.NoSuchProcess:
        ended = True
    print(job, "FAILED NonZeroExitCode" if ended else "PENDING Priority" if waits else "RUNNING None")
"""


def make_queue(folder: Path, monkeypatch, wait: float = 0, refuse: str = "") -> None:
    """Write replacements of SLURM's commands.

    Args:
        folder: they are below it, with the number of each job's process in ``sbatch.txt``.
        wait: s that a job waits in the queue.
        refuse: Python code that refuses the job.
    """
    skip_without_jobqueue()
    (folder / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL), ("squeue", SQUEUE)):
        words = {"python": sys.executable, "folder": str(folder), "refuse": refuse}
        (folder / "bin" / name).write_text(text.format(**words, wait=wait))
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CONFIGS.parent))


def submitted(folder: Path) -> int:
    jobs = folder / "sbatch.txt"
    return len(jobs.read_text().split()) if jobs.exists() else 0


def far(folder: Path, *words: str):
    own = ["stages=[logmel]", "corpus.clips_per_shard=1", "workers=2", "cluster.per_job=2"]
    own += [f"cache={folder / 'far'}", f"cluster.logs={folder / 'logs'}", "cluster.memory_gb=1"]
    return load_config([CONFIGS / "slurm.yaml"], [*own, *words])


@pytest.mark.slow  # a job waits longer than the time after which Dask gives up workers that are not wanted
@pytest.mark.parametrize("adaptive", ["true", "false"])
def test_a_job_of_several_workers_may_wait_in_the_queue(tmp_path, monkeypatch, adaptive):
    """It was cancelled after three seconds and submitted again, so that no job ever started."""
    make_queue(tmp_path, monkeypatch, wait=8)
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    found = preprocess(far(tmp_path, f"cluster.adaptive={adaptive}"), corpus, lambda line: None)
    assert (found.failed, found.computed) == (0, len(corpus.clips))
    assert submitted(tmp_path) == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_job_that_reaches_its_time_limit_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_jobs, "LOST_S", 2.0)
    make_queue(tmp_path, monkeypatch)
    killed = threading.Event()

    def end_first_job() -> None:
        while "Registered to" not in (tmp_path / "jobs.txt").read_text():
            time.sleep(0.02)
        os.killpg(int((tmp_path / "sbatch.txt").read_text().split()[0]), signal.SIGKILL)
        killed.set()

    (tmp_path / "jobs.txt").touch()
    threading.Thread(target=end_first_job, daemon=True).start()
    corpus = audio_corpus(tmp_path / "raw", speakers=20)  # more than the first job can compute
    found = preprocess(far(tmp_path), corpus, lambda line: None)
    assert killed.is_set() and (found.failed, found.computed) == (0, len(corpus.clips))
    assert submitted(tmp_path) == 2


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_idle_job_ends_while_another_computes(tmp_path, monkeypatch):
    """Closing one idle worker ended all workers of its job, which may have computed."""
    make_queue(tmp_path, monkeypatch)
    with slurm_cluster(far(tmp_path, "dashboard=127.0.0.1:0")) as cluster, Client(cluster) as client:
        scaling = cluster.adapt(Adaptive=WholeJobs, minimum=4, maximum=4, per_job=2)
        client.wait_for_workers(4, timeout=60)
        # Of idle workers, Dask would close the last one first: the other one of its job computes.
        last = list(workers_of(client).values())[-1]["name"]
        job = job_of(last, 2)
        own = {f"{job}-0", f"{job}-1"}
        busy = client.submit(time.sleep, 15, workers=list(own - {last}), pure=False)
        scaling.minimum = 0
        end = time.monotonic() + 12
        while len(workers_of(client)) > 2 and time.monotonic() < end:
            time.sleep(0.1)
        names = {worker["name"] for worker in workers_of(client).values()}
        assert names == own and not busy.done()
        busy.result(timeout=30)
        assert submitted(tmp_path) == 2


@pytest.mark.slow
def test_a_job_whose_worker_starts_again_is_kept(tmp_path, monkeypatch):
    """Dask cancelled the job of a worker that had died again after 15 s, and its next ones in the queue."""
    make_queue(tmp_path, monkeypatch)
    config = far(tmp_path, "dashboard=127.0.0.1:0", "cluster.per_job=1", "workers=1", "cluster.minimum=1")
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "0.01s"}),
        open_cluster(config, 1) as client,
    ):
        first = client.submit(os.getpid, pure=False).result()
        os.kill(first, signal.SIGKILL)
        assert client.submit(os.getpid, pure=False).result(timeout=60) != first
    assert submitted(tmp_path) == 1


def test_a_queue_that_refuses_jobs_is_an_error(tmp_path, monkeypatch):
    said = "invalid partition specified: short"
    refuse = (
        f"sys.exit('sbatch: error: {said}\\\\nsbatch: error: Batch job submission failed: "
        "Invalid partition name specified')"
    )
    make_queue(tmp_path, monkeypatch, refuse=refuse)
    monkeypatch.setattr(first_worker, "FAILURES", 1)
    monkeypatch.setattr(first_worker, "LOOK_S", 0.1)
    with pytest.raises(
        ClusterError, match="slurm does not accept the jobs: sbatch: error: invalid partition"
    ):
        preprocess(far(tmp_path), audio_corpus(tmp_path / "raw", speakers=1), lambda line: None)


@pytest.mark.slow
@pytest.mark.parametrize("adaptive", ["true", "false"])
def test_jobs_that_end_before_a_worker_connects_are_an_error(tmp_path, monkeypatch, adaptive):
    """The command waited for an hour, as for jobs in the queue."""
    make_queue(tmp_path, monkeypatch)
    monkeypatch.setattr(first_worker, "FAILURES", 2)
    monkeypatch.setattr(first_worker, "LOOK_S", 0.1)
    monkeypatch.setattr(whole_jobs, "ASK_S", 0.5)
    config = far(tmp_path, f"cluster.adaptive={adaptive}", "cluster.prologue=[exit 3]")
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    with pytest.raises(
        ClusterError, match="2 times in a row, all jobs of slurm ended before any .*logs says"
    ):
        preprocess(config, corpus, lambda line: None)
    assert submitted(tmp_path) >= 2


def test_a_cluster_closes_although_some_of_its_jobs_were_refused(tmp_path, monkeypatch):
    """Dask kept the record of the accepted job, and raised an AssertionError."""
    refuse = (
        f"import os; os.path.exists({str(tmp_path / 'sbatch.txt')!r}) and sys.exit('sbatch: error: limit')"
    )
    make_queue(tmp_path, monkeypatch, wait=30, refuse=refuse)
    with slurm_cluster(far(tmp_path, "dashboard=127.0.0.1:0")) as cluster:
        cluster.scale(jobs=1)
        end = time.monotonic() + 20
        while not cluster.workers and time.monotonic() < end:
            time.sleep(0.05)
        job = next(iter(cluster.workers.values()))  # kept, as by the traceback of an error
        cluster.scale(jobs=3)
        while not cluster.refused and time.monotonic() < end:
            time.sleep(0.05)
        assert submitted(tmp_path) == 1 and cluster.refused
    assert job.status == Status.closed


def test_an_adaptive_cluster_waits_no_longer_than_its_patience(tmp_path, monkeypatch):
    make_queue(tmp_path, monkeypatch, wait=60)
    with pytest.raises(ClusterError, match=r"no worker connected within cluster\.patience=1 s; `squeue"):
        preprocess(far(tmp_path, "cluster.patience=1"), audio_corpus(tmp_path / "raw"), lambda line: None)
