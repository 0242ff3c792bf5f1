"""A thread that a library holds neither crashes Python at its end nor delays a command that was stopped."""

from __future__ import annotations

import subprocess
import sys
import time

PROGRAM = """
import atexit, sys, threading, time
from deiii.data.command_line.entry import Command, run
from deiii.data.tools.processes.left_threads import watch

def wait():
    time.sleep({wait_s})
    print("the thread ended", flush=True)

thread = threading.Thread(target=wait, daemon=True)
thread.start()
watch(thread)
atexit.register(print, "cleaned up", flush=True)

def action():
    {action}

{end}
"""


def executed(wait_s: float, action: str, end: str) -> tuple[int, str, float]:
    began = time.monotonic()
    text = PROGRAM.format(wait_s=wait_s, action=action, end=end)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, time.monotonic() - began


def test_a_stopped_command_does_not_wait_for_the_thread():
    status, said, took_s = executed(30, "raise KeyboardInterrupt", "sys.exit(run(lambda: Command(action)))")
    assert status == 130 and said == "cleaned up\n" and took_s < 20


def test_a_finished_command_keeps_its_status():
    status, said, took_s = executed(30, "print('done'); return 3", "sys.exit(run(lambda: Command(action)))")
    assert status == 3 and said == "done\ncleaned up\n" and took_s < 20


def test_another_program_waits_for_the_thread():
    status, said, _ = executed(1, "pass", "")
    assert status == 0 and "the thread ended\n" in said


def test_a_python_without_the_private_function_waits_for_the_thread():
    """A later Python may not have it: the command must not crash there."""
    action = "del atexit._run_exitfuncs; print('done', flush=True); return 3"
    status, said, _ = executed(1, action, "sys.exit(run(lambda: Command(action)))")
    assert status == 3 and said == "done\ncleaned up\nthe thread ended\n"
