"""Ctrl-C while a cluster closes ends the run as soon as at any other time."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from deiii.data.tools.processes.signals import STOPS_WITHIN

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
