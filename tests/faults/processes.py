"""The real programs, run in sessions of their own and watched."""

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
PATIENCE = 180  # s for anything that must end; the machine may be busy


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
    begun: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        return self.process.pid

    def family(self) -> list[psutil.Process]:
        """Every living process of its session, itself included."""
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
        return [p for p in self.family() if p.pid != self.pid and "spawn_main" in " ".join(_command(p))]

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def slay(self) -> None:
        """SIGKILL it, and wait until it is gone; what it started may be there still."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = PATIENCE) -> Ended:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(
                f"did not end within {seconds:g} s: {self.output.read_text()[-300:]}"
            ) from None
        return Ended(code, self.output.read_text(errors="replace"), time.monotonic() - self.begun)

    def end(self) -> None:
        for process in self.family():
            with _ignored():
                process.kill()
        self.process.wait(10)

    def survivors(self, seconds: float = 10) -> list[str]:
        """Processes of its session that are still there after a while."""
        deadline = time.monotonic() + seconds
        while (left := self.family()) and time.monotonic() < deadline:
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


def wait_until(true: Callable[[], bool], running: Running | None = None, seconds: float = PATIENCE) -> None:
    """Wait for something to become true; stop waiting where the program has ended."""
    deadline = time.monotonic() + seconds
    while not true():
        if running is not None and running.process.poll() is not None:
            return
        assert time.monotonic() < deadline, f"nothing happened within {seconds:g} s"
        time.sleep(0.002)


def main_in(*words: str) -> Ended:
    """One of our commands in this process, for what ends before any work starts."""
    begun = time.monotonic()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            code = main([str(w) for w in words])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Ended(code, text.getvalue(), time.monotonic() - begun)
