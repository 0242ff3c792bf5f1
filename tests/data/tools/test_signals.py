"""Stopping: heard once, not heard again too soon, and never by workers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from deiii.data.tools import signals

ONCE = """
import os, signal, sys, time
from deiii.data.config import words as cli
from deiii.data.tools import signals
signals.STOPS_WITHIN = float(sys.argv[1])
def main():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        for _ in range(50):
            time.sleep(0.02)
        print("tidied up", flush=True)
sys.exit(cli.run(main))
"""


def start(*words: str, **more) -> subprocess.Popen:
    """Python in a process that does not ignore Ctrl-C, even where the tests run in a shell's background."""
    hearing = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, "-c", *words], preexec_fn=hearing, **more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("within, tidied", [(5, True), (0, False)])
def test_who_insists_is_not_heard_before_the_promised_time(number, within, tidied):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with start(ONCE, str(within), **pipes) as program:
        assert program.stdout.readline() == "begun\n"
        for _ in range(3):
            program.send_signal(number)
            time.sleep(0.1)
        out, errors = program.communicate(timeout=60)
    assert program.returncode == signals.INTERRUPTED and ("tidied up" in out) is tidied
    assert "Traceback" not in errors


def test_children_started_in_the_block_are_deaf_and_later_ones_hear():
    code = "import time; print('begun', flush=True); time.sleep(1)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with signals.block_sigint(), start(code, **pipes) as deaf:
        assert deaf.stdout.readline()
        deaf.send_signal(signal.SIGINT)
        assert deaf.wait(30) == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with start(code, **pipes) as hears:
        assert hears.stdout.readline()
        hears.send_signal(signal.SIGINT)
        assert hears.wait(30) != 0
