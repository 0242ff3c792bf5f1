"""What every injected fault is made of: a record, a laboratory to do it in, and a verdict.

A fault is a function on a `Lab`. It injects its trouble into the real programs, checks what must
hold, and returns what was seen in a few words. `Lost` says that finished work is gone, any other
exception that something is wrong; `NotHere` that this machine cannot do it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
import pytest
from clips import sound_corpus, tree_bytes

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180  # s for anything that must end; the machine may be busy


class Lost(AssertionError):
    """Finished work is gone or changed."""


class NotHere(Exception):
    """The fault cannot be injected on this machine; says why."""


@dataclass(frozen=True)
class Fault:
    """One injected fault.

    Attributes:
        group: number and name of its kind, e.g. ``1 kills``.
        name: what is done.
        expect: what must come of it.
        inject: does it; returns what was seen.
        short: whether it is part of the short form (`make test`).
    """

    group: str
    name: str
    expect: str
    inject: Callable[[Lab], str | None]
    short: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: ``ok``, ``LOST``, ``WRONG`` or ``skipped``."""

    fault: Fault
    result: str
    seen: str
    seconds: float
    trace: str = ""


FAULTS: list[Fault] = []


def faults(group: str):
    """A decorator that files a group's faults.

    >>> kills = faults("1 kills")
    >>> @kills("SIGKILL of the run", "resumes", short=True)      # doctest: +SKIP
    ... def killed(lab): ...

    With ``cases``, the function gets a case as its second argument and its name is formatted with it;
    ``short`` may then be a set of cases.
    """

    def file(name: str, expect: str, *, short=False, cases: Iterable | None = None):
        def decorate(inject):
            if cases is None:
                FAULTS.append(Fault(group, name, expect, inject, bool(short)))
                return inject
            for case in cases:
                quick = case in short if isinstance(short, (set, list, tuple)) else bool(short)
                one = lambda lab, case=case: inject(lab, case)
                FAULTS.append(Fault(group, name.format(case=case), expect, one, quick))
            return inject

        return decorate

    return file


def judge(fault: Fault, lab: Lab) -> Verdict:
    """Inject a fault and say what became of it."""
    begun = time.monotonic()
    trace = ""
    try:
        result, seen = "ok", fault.inject(lab) or ""
    except NotHere as why:
        result, seen = "skipped", str(why)
    except (Exception, pytest.fail.Exception) as error:  # what pytest.raises raises is no Exception
        result = "LOST" if isinstance(error, Lost) else "WRONG"
        seen = str(error).strip().split("\n")[0] or type(error).__name__
        trace = traceback.format_exc()
    finally:
        lab.clear()
    return Verdict(fault, result, " ".join(seen.split()), time.monotonic() - begun, trace)


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


class Lab:
    """Folders, corpora and programs for the faults; one for a whole session.

    The corpora and the caches that undisturbed runs made of them are made once, and copied by
    who wants to break them.
    """

    def __init__(self, base: Path, strict: bool = False):
        self.base = base
        self.strict = strict  # hold the programs to their promised times, which a busy machine may miss
        self.random = random.Random(7)
        self._running: list[Running] = []
        self._mounts: list[Path] = []
        self._made: dict[str, object] = {}
        self._count = 0

    def folder(self) -> Path:
        """A new empty folder."""
        self._count += 1
        path = self.base / f"{self._count:03d}"
        path.mkdir(parents=True)
        return path

    def clear(self) -> None:
        """End what a fault left running, unmount and remove what it left behind."""
        for running in self._running:
            running.end()
        self._running = []
        for mount in reversed(self._mounts):
            subprocess.run(["umount", "-l", str(mount)], capture_output=True)
        self._mounts = []
        for path in self.base.glob("[0-9]*"):
            shutil.rmtree(path, ignore_errors=True)

    # programs

    def start(self, *words: str, room: str = "pipeline", env: dict | None = None, files: int = 0) -> Running:
        """A command of ours, e.g. ``start("preprocess", "workers=2")``; ``files`` bounds its open files."""
        self._count += 1
        output = self.base / f"output-{self._count:03d}.txt"
        command = [sys.executable, "-m", room, *map(str, words)]
        if files:
            command = ["sh", "-c", f'ulimit -n {files}; exec "$0" "$@"', *command]
        with open(output, "w") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT,
                start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            )  # fmt: skip
        running = Running(process, output)
        self._running.append(running)
        return running

    def run(self, *words: str, **more) -> Ended:
        return self.start(*words, **more).wait()

    def once(self, name: str, make: Callable[[Path], object]):
        """What ``make`` gave in a folder that lasts for the session, made at the first call."""
        if name not in self._made:
            folder = self.home / name
            folder.mkdir()
            try:
                self._made[name] = make(folder)
            except Exception as error:
                self._made[name] = error
        if isinstance(made := self._made[name], Exception):
            raise made
        return made

    # corpora and undisturbed caches

    @cached_property
    def home(self) -> Path:
        """What lasts for the session."""
        path = self.base / "home"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def drawn(self) -> Path:
        """A drawn corpus: 3 speakers, 24 clips of 10 frames of 96 px with sound, and its table."""
        from data.corpora.synthetic import make
        from data.schema import SyntheticConfig

        size = SyntheticConfig(speakers=3, clips_per_class=1, seconds=0.8, fps=12.5, size=96)
        make(self.home / "drawn", size, workers=1, progress=False)
        return self.home / "drawn"

    def words(self, cache: Path, *more: str) -> list[str]:
        """Settings for the drawn corpus, all three stages, 6 shards a stage."""
        return [
            "corpus.name=table", f"corpus.root={self.drawn}", f"cache={cache}", "corpus.clips_per_shard=4",
            "faces.size=32", "faces.every=4", "workers=2", *more,
        ]  # fmt: skip

    @cached_property
    def whole(self) -> Path:
        """The cache that an undisturbed run made of the drawn corpus."""
        done = self.run("preprocess", *self.words(self.home / "whole"))
        assert done.code == 0, done.text
        return self.home / "whole"

    def copy(self) -> Path:
        """The undisturbed cache, to be broken."""
        path = self.folder() / "cache"
        shutil.copytree(self.whole, path)
        return path

    @cached_property
    def tones(self) -> Path:
        """A corpus of 6 speakers' tones, sound alone, two classes."""
        root = self.home / "tones"
        corpus = sound_corpus(root, speakers=6)
        rows = [f"{c.path},{c.speaker},{c.label}" for c in corpus.clips]
        (root / "clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")
        return root

    def tone_words(self, cache: Path, *more: str) -> list[str]:
        """Settings for the tones: log-mel alone, 12 shards."""
        return [
            "corpus.name=table", f"corpus.root={self.tones}", f"cache={cache}", "stages=[logmel]",
            "corpus.clips_per_shard=2", "workers=1", *more,
        ]  # fmt: skip

    @cached_property
    def heard(self) -> Path:
        """The cache of the tones."""
        done = self.run("preprocess", *self.tone_words(self.home / "heard"))
        assert done.code == 0, done.text
        return self.home / "heard"

    def injected(self, code: str, **more: str) -> dict[str, str]:
        """An environment in which every Python process first runs this code (``sitecustomize``)."""
        folder = self.folder()
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), **more}

    def mount(self, megabytes: float) -> Path:
        """A small file system in memory."""
        path = self.folder()
        size = f"size={int(megabytes * 1024)}k"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "deiii-faults", str(path)], capture_output=True, text=True
        )
        if done.returncode:
            raise NotHere("mounting a small file system needs root")
        self._mounts.append(path)
        return path

    def cover_read_only(self, path: Path) -> None:
        """Make a mounted folder read-only for whatever is opened from now on, open files notwithstanding."""
        subprocess.run(["mount", "--bind", str(path), str(path)], check=True, capture_output=True)
        self._mounts.append(path)
        for _ in range(500):  # refused while a file that was opened in between is being written
            try:
                return self.remount(path, "bind,ro")
            except subprocess.CalledProcessError:
                time.sleep(0.002)
        raise NotHere("a file was always open")

    def uncover(self, path: Path) -> None:
        subprocess.run(["umount", str(path)], check=True, capture_output=True)

    def remount(self, path: Path, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True, capture_output=True)


# What must hold afterwards


def shards(cache: Path) -> list[Path]:
    """The finished shard files of a cache."""
    return sorted(cache.glob("*/*-*/*.h5"))


def stamps(cache: Path) -> dict[str, tuple[int, int]]:
    """What tells whether a shard file was written again: its inode and its time."""
    return {str(p.relative_to(cache)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in shards(cache)}


def check_whole(cache: Path, whole: Path) -> None:
    """A cache equals another, byte for byte, and holds no temporary files."""
    left = [str(p) for p in cache.rglob("*.tmp")]
    assert not left, f"temporary files left: {left}"
    here, there = tree_bytes(cache), tree_bytes(whole)
    if missing := sorted(set(there) - set(here)):
        raise Lost(f"missing: {missing[:3]}")
    assert not (more := sorted(set(here) - set(there))), f"files too many: {more[:3]}"
    if other := [name for name in here if here[name] != there[name]]:
        raise Lost(f"other bytes than an undisturbed run's: {other[:3]}")


def check_finished(cache: Path, whole: Path) -> int:
    """Every shard with its final name is whole; returns how many there are."""
    found = shards(cache)
    for path in found:
        if path.read_bytes() != (whole / path.relative_to(cache)).read_bytes():
            raise Lost(f"torn: {path.name}")
    return len(found)


def check_resumed(lab: Lab, words: list[str], cache: Path, whole: Path, **more) -> int:
    """The same command again ends well, keeps what is finished, and ends with the same bytes."""
    before = stamps(cache)
    done = lab.run("preprocess", *words, **more)
    assert done.code == 0, done.text[-400:]
    after = stamps(cache)
    twice = [name for name, stamp in before.items() if after.get(name) != stamp]
    assert not twice, f"done twice: {twice[:3]}"
    check_whole(cache, whole)
    return len(before)


def check_told(done: Ended, *words: str) -> str:
    """A clear error: exit status 1, one line with these words, no trace. Returns the line."""
    assert done.code == 1, f"exit status {done.code}: {done.text[-300:]}"
    assert "Traceback" not in done.text, f"a trace: {done.text[-600:]}"
    line = next((t for t in done.text.splitlines() if t.startswith("error: ")), "")
    missing = [w for w in words if w.lower() not in done.text.lower()]
    assert line and not missing, f"the message lacks {missing}: {done.text[-400:]}"
    return line.removeprefix("error: ")[:160]


def wait_until(true: Callable[[], bool], running: Running | None = None, seconds: float = PATIENCE) -> None:
    """Wait for something to become true; stop waiting where the program has ended."""
    deadline = time.monotonic() + seconds
    while not true():
        if running is not None and running.process.poll() is not None:
            return
        assert time.monotonic() < deadline, f"nothing happened within {seconds:g} s"
        time.sleep(0.002)


def main_in(room: str, *words: str) -> Ended:
    """One of our commands in this process, for what ends before any work starts."""
    import contextlib
    import io
    from importlib import import_module

    begun = time.monotonic()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            code = import_module(f"{room}.__main__").main([str(w) for w in words])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Ended(code, text.getvalue(), time.monotonic() - begun)


@contextmanager
def laboratory(strict: bool = False) -> Iterator[Lab]:
    """A lab in a temporary folder, removed with all that is in it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a job in the background; programs inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="deiii-faults-") as folder:
        lab = Lab(Path(folder), strict)
        try:
            yield lab
        finally:
            lab.clear()
