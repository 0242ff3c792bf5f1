"""Ctrl-C ends a run on a cluster as soon as any other, also while the cluster closes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.processes.signals import STOPS_WITHIN, keep_stop_handlers
from deiii.pipeline.preprocess.cluster_kinds import slurm_cluster

INTERRUPTED = """
import os, signal, threading
from deiii.data.config.load import load_config
from deiii.pipeline.preprocess import cluster
if __name__ == "__main__":
    config = load_config(overrides=["workers=1", "stages=[logmel]", "dashboard=127.0.0.1:0"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without
    close = cluster._close
    def interrupted(*words):
        threading.Timer(%s, os.kill, (os.getpid(), signal.SIGINT)).start()
        print("closing", flush=True)
        return close(*words)
    cluster._close = interrupted
    try:
        with cluster.open_cluster(config, 1):
            pass
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""

UNCLOSED = """
import distributed.nanny, os, psutil
from deiii.data.config.load import load_config
from deiii.pipeline.preprocess import cluster
if __name__ == "__main__":
    config = load_config(overrides=["workers=2", "stages=[logmel]", "dashboard=127.0.0.1:0"])
    async def kill(*words, **more):
        raise AssertionError("can only join a started process")
    distributed.nanny.WorkerProcess.kill = kill
    before = set(psutil.Process().children())
    with cluster.open_cluster(config, 2) as client:
        assert client.submit(abs, -3).result() == 3
        workers = set(psutil.Process().children()) - before
    gone, alive = psutil.wait_procs(workers, timeout=5)
    names = [p.name() for p in alive if "spawn_main" in " ".join(p.cmdline())]
    print("closed", names, flush=True)
"""


def test_workers_that_dask_cannot_close_end_with_the_cluster(tmp_path):
    """It cannot where a worker died just before; the command then ended with an error of Dask."""
    script = tmp_path / "script.py"
    script.write_text(UNCLOSED)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout.readline() == "closed []\n", program.communicate()[1]
        begun = time.monotonic()
        assert "Error" not in program.communicate(timeout=60)[1]
    assert program.returncode == 0
    assert time.monotonic() - begun < STOPS_WITHIN  # Python's end does not wait for the cluster


@pytest.mark.parametrize("after_s", [0.002, 0.05])
def test_an_interrupted_closing_is_completed_at_once(after_s, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED % after_s)
    program = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with program:
        assert program.stdout.readline() == "closing\n"
        begun = time.monotonic()
        rest = program.communicate(timeout=60)[0]
    assert "interrupted" in rest
    assert time.monotonic() - begun < STOPS_WITHIN


def test_slurm_leaves_the_reaction_to_ctrl_c_as_it_is(tmp_path, monkeypatch):
    """An import of dask-jobqueue made Ctrl-C end the command with status 0 and without a message."""
    with keep_stop_handlers():
        pytest.importorskip("dask_jobqueue")
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)  # as in a process that imports it for the first time
    monkeypatch.setenv("PATH", str(tmp_path))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ConfigError, match="no sbatch here"):
        slurm_cluster(load_config(overrides=["cluster.kind=slurm"]))
    assert "dask_jobqueue.runner" in sys.modules and signal.getsignal(signal.SIGINT) is before
