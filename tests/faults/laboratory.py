"""Folders, corpora, undisturbed caches and small file systems for the faults."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from tests.faults.harness import NotHere
from tests.faults.processes import ROOT, Ended, Running, wait_until
from tests.helpers.clips import sound_corpus

SLOW_DISK = """
import os, time
real = os.fsync
def fsync(fd):
    time.sleep({seconds})
    return real(fd)
os.fsync = fsync
"""


def shards(cache: Path) -> list[Path]:
    """The finished shard files of a cache."""
    return sorted(cache.glob("*/*-*/*.h5"))


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

    def start(self, *words: str, env: dict | None = None, files: int = 0) -> Running:
        """A command of ours, e.g. ``start("preprocess", "workers=2")``; ``files`` bounds its open files."""
        self._count += 1
        output = self.base / f"output-{self._count:03d}.txt"
        command = [sys.executable, "-m", "deiii", *map(str, words)]
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

    def preprocess(self, cache: Path, *more: str, **how) -> Ended:
        """Preprocess the drawn corpus, to its end."""
        return self.run("preprocess", *self.words(cache, *more), **how)

    def preprocessing(self, cache: Path, made: int, *more: str, **how) -> Running:
        """Preprocess the drawn corpus; returns as soon as so many of its 18 shards are made."""
        run = self.start("preprocess", *self.words(cache, *more), **how)
        wait_until(lambda: len(shards(cache)) >= made, run)
        return run

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
        from deiii.data.config.schema import SyntheticConfig
        from deiii.data.corpora.synthetic import make

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

    def fill(self, mount: Path, leave: int = 0) -> Path:
        """Use up a small file system's room but for some bytes; returns the file to remove again."""
        filler = mount / "filler"
        with suppress(OSError), open(filler, "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        if leave:
            os.truncate(filler, max(0, filler.stat().st_size - leave))
        return filler

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
