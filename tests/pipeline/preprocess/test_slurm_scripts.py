"""Scripts of SLURM jobs: paths of any kind, and options of users."""

from __future__ import annotations

import shlex

import pytest

from deiii.data.config.strict_yaml import ConfigError
from deiii.pipeline.preprocess import cluster_kinds
from deiii.pipeline.preprocess.cluster_kinds import slurm_cluster
from tests.pipeline.preprocess.test_cluster_kinds import config_of, skip_without_jobqueue


@pytest.fixture(autouse=True)
def queue(tmp_path, monkeypatch):
    """A machine with ``sbatch``, in a folder of its own."""
    skip_without_jobqueue()
    monkeypatch.setattr(cluster_kinds.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.chdir(tmp_path)


def test_paths_in_a_slurm_job_may_hold_spaces_and_variables(tmp_path, monkeypatch):
    """SLURM refused the job: Invalid directive found in batch script."""
    logs = tmp_path / 'it\'s my "log"'
    words = ["dashboard=127.0.0.1:0", f"cluster.logs={logs}", "cluster.scratch=$TMPDIR/two words"]
    monkeypatch.setattr(cluster_kinds.sys, "executable", "/my venv/bin/python")
    with slurm_cluster(config_of("slurm", *words, "cluster.directives=[--output=mine]")) as cluster:
        lines = cluster.job_script().splitlines()
    assert logs.is_dir()
    # SLURM removes quotes as a shell does; of two directives it takes the later one.
    words = [shlex.split(line)[1] for line in lines if line.startswith("#SBATCH --")]
    assert f"--error={logs}/deiii-%J.err" in words
    assert [word for word in words if word.startswith("--output")][-2:] == [
        f"--output={logs}/deiii-%J.out",
        "--output=mine",
    ]
    assert lines[-1].startswith("'/my venv/bin/python' -m distributed.cli.dask_worker ")
    assert ' --local-directory "$TMPDIR/two words"' in lines[-1]
    words = ["dashboard=127.0.0.1:0", f"cluster.logs={logs}", 'cluster.scratch=~/a"`b']
    with slurm_cluster(config_of("slurm", *words)) as cluster:
        assert '--local-directory "$HOME/a\\"\\`b"' in cluster.job_script()


@pytest.mark.parametrize("name", ["directives", "gpu_directives"])
@pytest.mark.parametrize(
    "word", ["--array=0-1", "-a 0-1", "-a0-1", "--wait", "-W", " -M other", "--clusters=other"]
)
def test_options_that_do_not_fit_jobs_of_workers_are_refused(name, word):
    """Workers of an array had the same names; with --wait the jobs stayed when the command ended."""
    config = config_of("slurm", "cluster.gpu=true", f"cluster.{name}=['{word}']")
    with pytest.raises(ConfigError, match=f"{word.strip()} in cluster.{name}: leave it out"):
        slurm_cluster(config)


@pytest.mark.parametrize(
    "word", ["--wait-all-nodes=1", "-w n1", "--mail-user=a", "-A a", "--account=a", "--mem=1G"]
)
def test_other_options_of_sbatch_are_passed_on(tmp_path, word):
    words = ["dashboard=127.0.0.1:0", f"cluster.logs={tmp_path}", f"cluster.directives=['{word}']"]
    with slurm_cluster(config_of("slurm", *words)) as cluster:
        assert f"#SBATCH {word}" in cluster.job_script().splitlines()
