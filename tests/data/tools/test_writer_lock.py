"""One writer at a time, between processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deiii.data.tools.writer_lock import Locked, writer_lock

HOLD = """
import sys
from deiii.data.tools.writer_lock import writer_lock
with writer_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """A folder whose lock another process holds, and that process."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield tmp_path, process
        process.kill()


def test_a_second_writer_is_refused_or_waits_and_names_the_first(held):
    folder, process = held
    with pytest.raises(Locked, match=f"process {process.pid}"), writer_lock(folder, wait=False):
        pass
    lines = []

    def release(line):
        lines.append(line)
        process.stdin.close()  # the other process releases the lock

    with writer_lock(folder, release):
        assert f"process {process.pid}" in lines[0]
        assert (folder / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert (folder / ".lock").read_text() == ""


def test_the_lock_of_a_dead_process_is_free(held):
    folder, process = held
    process.kill()
    process.wait()
    with writer_lock(folder, pytest.fail):
        pass


def test_the_text_in_the_lock_file_has_no_effect(tmp_path):
    (tmp_path / ".lock").write_bytes(b"process 1 on another host \xff\x00")
    with writer_lock(tmp_path, wait=False):
        pass
