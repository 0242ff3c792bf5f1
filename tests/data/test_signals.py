"""Stopping: heard once, not heard again too soon, and never by workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from data import signals

ONCE = """
import os, signal, sys, time
from data import cli, signals
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("within, tidied", [(5, True), (0, False)])
def test_who_insists_is_not_heard_before_the_promised_time(number, within, tidied):
    program = subprocess.Popen(
        [sys.executable, "-c", ONCE, str(within)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout.readline() == "begun\n"
    for _ in range(3):
        program.send_signal(number)
        time.sleep(0.1)
    out, errors = program.communicate(timeout=60)
    assert program.returncode == signals.INTERRUPTED and ("tidied up" in out) is tidied
    assert "Traceback" not in errors


def test_children_started_in_the_block_are_deaf_and_later_ones_hear():
    command = [sys.executable, "-c", "import time; time.sleep(0.5)"]
    with signals.deaf_children():
        deaf = subprocess.Popen(command)
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    hears = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(0.2)
    for child in (deaf, hears):
        os.kill(child.pid, signal.SIGINT)
    assert deaf.wait(30) == 0 and hears.wait(30) != 0
