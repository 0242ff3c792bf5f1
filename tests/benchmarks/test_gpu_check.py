"""The check on a real GPU: a part that fails costs that part alone, and no earlier file is overwritten."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_parts.common import FOUND, HERE
from benchmarks.gpu_parts.whole import GPU_TESTS
from tests.helpers.waiting import PATIENCE_S


def test_results_are_all_kept_and_other_lines_end_with_the_last_ones():
    lines = [f'{FOUND}{{"first": 1}}', *(f"line {n}" for n in range(500)), f'{FOUND}{{"last": 2}}']
    text = "\n".join([*lines, " 50%|#####     | 5/10", "", 'FIND {"cut": '])
    assert gpu_check.results(text) == [{"first": 1}, {"last": 2}]
    kept = gpu_check.kept_lines(text)
    assert kept[0] == lines[0] and lines[-1] in kept
    assert [line for line in kept if line.startswith("line")] == lines[-1 - gpu_check.LAST : -1]


def test_the_check_runs_every_file_with_tests_for_a_gpu():
    marked = [file for file in (HERE / "tests").rglob("test_*.py") if "mark." + "gpu" in file.read_text()]
    assert sorted(GPU_TESTS) == sorted(file.relative_to(HERE).as_posix() for file in marked)


def test_no_file_of_an_earlier_run_is_overwritten(tmp_path):
    names = []
    for _ in range(3):
        file = gpu_check.new_file(tmp_path)
        file.write_text("figures")
        names.append(file.name)
    assert len(set(names)) == 3 and names[1].endswith("-2.txt")


def test_without_a_gpu_nothing_is_written(tmp_path):
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=HERE, env=hidden, capture_output=True, text=True)
    assert done.returncode == 1 and "deiii doctor" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def parts(monkeypatch, tmp_path):
    """The parts are small programs: sound, broken, endless, ended within a line."""
    programs = {
        "machine": 'print(\'FIND {"gpu": "none"}\')',
        "kernels": "raise RuntimeError('broken')",
        "flow": "import time; print('FIND {\"a\": 1}', flush=True); time.sleep(60)",
        "stage": "import os, sys; sys.stdout.write('FIND {'); sys.stdout.flush(); os._exit(3)",
        "profile": "print('FIND {\"b\": 2}')",
    }
    started, waited_for = [], threading.Event()

    class Program(subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__([sys.executable, "-u", "-c", programs[command[-1]]], **options)
            self.log = tmp_path / "work" / f"{command[-1]}.log"
            started.append(self.pid)

        def wait(self, timeout=None):
            """The time of a part counts from what it prints, also where Python starts slowly."""
            until = time.monotonic() + PATIENCE_S
            while self.poll() is None and not self.log.read_text() and time.monotonic() < until:
                time.sleep(0.01)
            waited_for.set()
            return super().wait(timeout)

    monkeypatch.setattr(gpu_check.subprocess, "Popen", Program)
    monkeypatch.setattr(gpu_check, "WORK", tmp_path / "work")
    monkeypatch.setattr(gpu_check, "require_gpu", lambda: None)
    monkeypatch.setattr(gpu_check, "LEAST", 0)
    monkeypatch.setitem(gpu_check.PARTS, "flow", 3)
    return started, waited_for


def gone(process):
    """Whether a process has ended and was reaped."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_part_that_fails_costs_that_part_alone(monkeypatch, tmp_path, parts):
    started, _ = parts
    names = ["machine", "kernels", "flow", "stage", "profile"]
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--out", str(tmp_path), "--only", *names])
    gpu_check.main()
    text = next(tmp_path.glob("gpu_check-*.txt")).read_text()
    found = json.loads(text.splitlines()[-1].removeprefix("RESULT "))["parts"]
    statuses = {name: part["status"] for name, part in found.items()}
    assert statuses == {
        "machine": "ok", "kernels": "exit 1", "flow": "cut at 3 s", "stage": "exit 3", "profile": "ok"
    }  # fmt: skip
    assert [found[name]["found"] for name in names] == [[{"gpu": "none"}], [], [{"a": 1}], [], [{"b": 2}]]
    assert "RuntimeError: broken" in text
    assert all(gone(process) for process in started)


def test_ctrl_c_ends_the_part_that_runs(parts):
    # A process of a shell's background job ignores Ctrl-C, and CI may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    started, waited_for = parts

    def interrupt():
        waited_for.wait(PATIENCE_S)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            gpu_check.run("flow", 60)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert gone(started[0])
