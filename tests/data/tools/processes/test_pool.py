"""A pool of workers: it computes, and after an error or a signal it ends at once without a word."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from deiii.data.tools.processes.pool import start_tasks, worker_pool

MANY = """
import os, sys, time
from deiii.data.command_line.entry import Command, run
from deiii.data.tools.processes.pool import start_tasks, worker_pool
def work(n):
    time.sleep(0.05)
    return n
def main():
    with worker_pool(3) as pool:
        tasks = start_tasks(pool, work, range(2000))
        for task in tasks:
            task.result()
            print("one", flush=True)
    return 0
if __name__ == "__main__":
    sys.exit(run(lambda: Command(main)))
"""


def test_results_in_the_order_of_the_items():
    with worker_pool(2) as pool:
        assert [task.result() for task in start_tasks(pool, abs, [-3, 2, -1])] == [3, 2, 1]


def test_an_error_ends_the_pool_without_waiting_for_its_tasks():
    began = time.monotonic()
    with pytest.raises(KeyError), worker_pool(2) as pool:
        start_tasks(pool, time.sleep, [60, 60, 60])
        raise KeyError
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whole_group", [True, False])
def test_a_signal_ends_the_command_without_a_trace(number, whole_group, tmp_path):
    script = tmp_path / "many.py"
    script.write_text(MANY)

    def own_group() -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for lines in (1, 4, 9):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen([sys.executable, script], preexec_fn=own_group, env=env, **pipes) as program:
            for _ in range(lines):
                program.stdout.readline()
            (os.killpg if whole_group else os.kill)(program.pid, number)
            _, errors = program.communicate(timeout=60)
        assert program.returncode == 130
        assert errors.startswith("\nstopped; ") and errors.count("\n") == 2, errors


def test_a_full_folder_of_shared_locks_is_named(monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("deiii.data.tools.processes.pool.ProcessPoolExecutor", full)
    with pytest.raises(OSError, match="^/dev/shm has no space left.*--shm-size") as caught, worker_pool(1):
        pass
    assert caught.value.errno is None  # `explain` shows the text as it is
