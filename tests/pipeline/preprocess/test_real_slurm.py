"""Jobs of a real SLURM, where this machine has one; elsewhere the tests skip.

On a cluster of several machines, give pytest a folder that all of them share: ``--basetemp=FOLDER``.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from deiii.data.config.load import load_config
from deiii.data.tools.processes.dask_workers import ClusterError
from deiii.pipeline.preprocess.graph import preprocess
from tests.helpers.clips import audio_corpus, tree_bytes
from tests.pipeline.preprocess.test_cluster_kinds import CONFIGS, skip_without_jobqueue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def answer(*words: str) -> str | None:
    """Return the output of a command of SLURM; ``None`` if it fails or is not installed."""
    if shutil.which(words[0]) is None:
        return None
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return None
    return found.stdout if found.returncode == 0 else None


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Return a function that makes the settings of a run on SLURM."""
    skip_without_jobqueue()
    if shutil.which("sbatch") is None:
        pytest.skip("no sbatch here")
    if "idle" not in (answer("sinfo", "--noheader", "--format=%T") or ""):
        pytest.skip("no SLURM answers, or it has no idle node")
    monkeypatch.setenv("PYTHONPATH", str(CONFIGS.parent))

    def made(*words: str):
        own = ["stages=[logmel]", "corpus.clips_per_shard=1", "workers=2", "cluster.per_job=2"]
        own += [
            f"cache={tmp_path / 'far'}",
            f"cluster.logs={tmp_path / 'two words'}",
            "dashboard=127.0.0.1:0",
        ]
        own += ["cluster.memory_gb=1", "cluster.walltime=00:10:00", "cluster.patience=300"]
        return load_config([CONFIGS / "slurm.yaml"], [*own, *words])

    return made


def jobs_left(logs) -> list[str]:
    """Return the jobs that wrote into a folder and have not ended."""
    numbers = {path.stem.rpartition("-")[2] for path in logs.glob("deiii-*")}
    listed = (answer("squeue", "--me", "--noheader", "--format=%A %T") or "").splitlines()
    pairs = [line.split() for line in listed]
    return [number for number, state in pairs if number in numbers and state in ("PENDING", "RUNNING")]


@pytest.mark.parametrize("adaptive", ["true", "false"])
def test_slurm_jobs_compute_the_cache_of_this_machine_and_end(config, tmp_path, adaptive):
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    found = preprocess(config(f"cluster.adaptive={adaptive}"), corpus, lambda line: None)
    assert (found.failed, found.computed) == (0, len(corpus.clips))
    near = ["stages=[logmel]", "corpus.clips_per_shard=1", "workers=1", f"cache={tmp_path / 'near'}"]
    preprocess(load_config(overrides=near), corpus, lambda line: None)
    assert tree_bytes(tmp_path / "far") == tree_bytes(tmp_path / "near")
    assert list((tmp_path / "two words").glob("deiii-*.err")) and not jobs_left(tmp_path / "two words")


def test_slurm_says_why_it_refuses_a_job(config, tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1, clips=1)
    with pytest.raises(ClusterError, match="slurm does not accept the jobs: sbatch: error: .*partition"):
        preprocess(config("cluster.queue=no-such-partition"), corpus, lambda line: None)


def test_slurm_says_why_a_job_waits(config, tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1, clips=1)
    with pytest.raises(ClusterError, match=r"why jobs wait \(1 job is PENDING: JobHeldUser\)"):
        preprocess(config("cluster.directives=[--hold]", "cluster.patience=20"), corpus, lambda line: None)
