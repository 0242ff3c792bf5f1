"""Ctrl-C, SIGTERM and SIGHUP: the first one interrupts, further ones wait, workers ignore Ctrl-C."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deiii.data.tools.processes import signals

PROGRAM = """
import os, sys, time
from deiii.data.command_line.entry import Command, run
from deiii.data.tools.processes import signals
{before}
def main():
    try:
        os.write(1, b"started\\n")  # a signal in print's flush would write it twice
        time.sleep(600)
    finally:
        print("cleaning", flush=True)
        {clean_up}
sys.exit(run(lambda: Command(main)))
"""
WAITING = PROGRAM.format(
    before="signals.STOPS_WITHIN = float(sys.argv[1])",
    clean_up="sys.stdin.readline(); print('cleaned up', flush=True)",
)
WRITING = PROGRAM.format(
    before="", clean_up="print('cleaning', file=sys.stderr, flush=True); open(sys.argv[1], 'w').close()"
)


def start(*words: str, **more) -> subprocess.Popen:
    """Python in a process that reacts to signals, even if the tests run as a background job or with nohup."""

    def react() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen([sys.executable, "-c", *words], preexec_fn=react, **more)


IN_A_CALLBACK = """
import os, signal, sys, time, weakref
from deiii.data.command_line.entry import Command, run
class Thing: pass
def main():
    thing = Thing()
    watched = weakref.ref(thing, lambda _: os.kill(os.getpid(), int(sys.argv[1])))
    del thing  # the callback runs here, and Python drops the exception of the signal
    try:
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
    return 0
sys.exit(run(lambda: Command(main)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_a_callback_of_a_weak_reference_stops_the_command(number):
    began = time.monotonic()
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with start(IN_A_CALLBACK, str(int(number)), **pipes, text=True) as program:
        out, errors = program.communicate(timeout=120)
    assert program.returncode == signals.INTERRUPTED and out == "cleaned up\n"
    assert "Traceback" not in errors and "ignored" not in errors and time.monotonic() - began < 50


def test_other_exceptions_that_python_drops_reach_the_hook_of_before():
    seen, hook = [], sys.unraisablehook
    sys.unraisablehook = seen.append
    handler = signals.StopHandler()
    try:
        handler.install()
        thing = type("Thing", (), {"__del__": lambda self: 1 / 0})()
        del thing
        handler.restore()
        assert [d.exc_type for d in seen] == [ZeroDivisionError] and sys.unraisablehook == seen.append
    finally:
        sys.unraisablehook = hook


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("within, cleaned", [(600, True), (0, False)])
def test_further_signals_have_no_effect_before_the_promised_time(number, within, cleaned):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with start(WAITING, str(within), **pipes, text=True) as program:
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


def test_a_command_whose_terminal_is_closed_cleans_up_and_ends(tmp_path: Path):
    process, terminal = pty.fork()
    if not process:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, "-c", WRITING, str(tmp_path / "cleaned")])
    seen = b""
    while b"started" not in seen:
        seen += os.read(terminal, 1024)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == signals.INTERRUPTED
    assert (tmp_path / "cleaned").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("ignored, stops", [(True, False), (False, True)])
def test_signals_that_nohup_or_the_shell_ignores_request_no_stop(number, ignored, stops):
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with signals.stop_requests() as stop:
            signal.raise_signal(number)
            assert stop.is_set() is stops
        assert (signal.getsignal(number) is signal.SIG_IGN) is ignored
    finally:
        signal.signal(number, before)
