"""One writer at a time, between processes."""

from __future__ import annotations

import errno
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


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_told_of_and_used(tmp_path, monkeypatch, number):
    def refuse(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("deiii.data.tools.writer_lock.fcntl.flock", refuse)
    lines = []
    with writer_lock(tmp_path, lines.append):
        (tmp_path / "done").touch()
    assert (tmp_path / "done").exists() and len(lines) == 1
    assert "no file locks" in lines[0] and str(tmp_path) in lines[0] and "no other run" in lines[0]


def test_another_error_of_the_lock_is_raised(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("deiii.data.tools.writer_lock.fcntl.flock", refuse)
    with pytest.raises(OSError, match="Input/output") as error, writer_lock(tmp_path, pytest.fail):
        pass
    assert error.value.filename == str(tmp_path / ".lock")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_both_answers_for_a_lock_that_is_held_are_waited_for(tmp_path, monkeypatch, number):
    """EACCES is what CIFS answers; it says nothing about the rights of the user."""
    answers = [number, number, 0]

    def answer(file, operation):
        found = answers.pop(0)
        if found:
            raise OSError(found, os.strerror(found))

    monkeypatch.setattr("deiii.data.tools.writer_lock.fcntl.flock", answer)
    monkeypatch.setattr("deiii.data.tools.writer_lock.POLL_S", 0)
    lines = []
    with writer_lock(tmp_path, lines.append):
        pass
    assert len(lines) == 1 and "another run is writing" in lines[0] and not answers
    answers.append(number)
    with pytest.raises(Locked, match="wait for it"), writer_lock(tmp_path, wait=False):
        pass


FULL = """
import resource, sys
from deiii.data.tools.writer_lock import writer_lock
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    with writer_lock(sys.argv[1]):
        pass
except OSError as error:
    print(error.filename)
"""


def test_a_full_disk_is_an_error_that_names_the_lock_file(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / '.lock'}\n"), done.stderr[-300:]
