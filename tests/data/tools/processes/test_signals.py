"""Ctrl-C and SIGTERM: the first one interrupts, further ones wait, workers ignore Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from deiii.data.tools.processes import signals

ONCE = """
import os, signal, sys, time
from deiii.data.command_line.entry import Command, run
from deiii.data.tools.processes import signals
signals.STOPS_WITHIN = float(sys.argv[1])
def main():
    try:
        print("started", flush=True)
        time.sleep(600)
    finally:
        print("cleaning", flush=True)
        sys.stdin.readline()
        print("cleaned up", flush=True)
sys.exit(run(lambda: Command(main)))
"""


def start(*words: str, **more) -> subprocess.Popen:
    """Python in a process that reacts to Ctrl-C, even if the tests run as a background job of a shell."""

    def react_to_ctrl_c() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen([sys.executable, "-c", *words], preexec_fn=react_to_ctrl_c, **more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("within, cleaned", [(600, True), (0, False)])
def test_further_signals_have_no_effect_before_the_promised_time(number, within, cleaned):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with start(ONCE, str(within), **pipes, text=True) as program:
        assert program.stdout.readline() == "started\n"
        program.send_signal(number)
        assert program.stdout.readline() == "cleaning\n"
        for _ in range(2):
            time.sleep(0.1)
            program.send_signal(number)
        if not cleaned:
            program.wait(120)  # the clean-up waits for a line that does not come
        out, errors = program.communicate("go on\n" if cleaned else None, timeout=120)
    assert program.returncode == signals.INTERRUPTED and ("cleaned up" in out) is cleaned
    assert "Traceback" not in errors


def test_processes_started_in_the_block_ignore_ctrl_c_and_later_ones_do_not():
    code = "import sys; print('started', flush=True); sys.stdin.readline()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with signals.block_sigint(), start(code, **pipes) as blocked:
        assert blocked.stdout.readline()
        blocked.send_signal(signal.SIGINT)
        blocked.communicate(b"end\n", timeout=120)
    assert blocked.returncode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with start(code, **pipes) as unblocked:
        assert unblocked.stdout.readline()
        unblocked.send_signal(signal.SIGINT)
        assert unblocked.wait(120) != 0  # the line that it waits for does not come
