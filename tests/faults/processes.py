"""The real programs, each started in a session of its own and observed."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deiii.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 180  # for everything that must end; the machine may be busy


@dataclass
class Ended:
    """A program that has ended: its exit status, everything it printed, and how long it took."""

    code: int
    text: str
    seconds: float


@dataclass
class Running:
    """A real program in a session of its own."""

    process: subprocess.Popen
    output: Path
    started: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        return self.process.pid

    def session(self) -> list[psutil.Process]:
        """All running processes of its session, including itself."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        """Its Dask worker processes."""
        return [p for p in self.session() if p.pid != self.pid and "spawn_main" in " ".join(_command(p))]

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def kill_and_wait(self) -> None:
        """SIGKILL it and wait for its end; processes that it started may still run."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = TIMEOUT_S) -> Ended:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(
                f"did not end within {seconds:g} s: {self.output.read_text()[-300:]}"
            ) from None
        return Ended(code, self.output.read_text(errors="replace"), time.monotonic() - self.started)

    def end(self) -> None:
        for process in self.session():
            with _ignored():
                process.kill()
        self.process.wait(10)

    def remaining(self, seconds: float = 10) -> list[str]:
        """Processes of its session that still run after some seconds."""
        deadline = time.monotonic() + seconds
        while (left := self.session()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [" ".join(_command(p))[:80] for p in left]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except (OSError, psutil.Error, subprocess.SubprocessError):
        pass


def wait_until(true: Callable[[], bool], running: Running | None = None, seconds: float = TIMEOUT_S) -> None:
    """Wait until a condition is true or the program has ended."""
    deadline = time.monotonic() + seconds
    while not true():
        if running is not None and running.process.poll() is not None:
            return
        assert time.monotonic() < deadline, f"the condition was not true within {seconds:g} s"
        time.sleep(0.002)


def main_in(*words: str) -> Ended:
    """Run a deiii command in this process, for commands that end before any work starts."""
    started = time.monotonic()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            code = main([str(w) for w in words])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Ended(code, text.getvalue(), time.monotonic() - started)
