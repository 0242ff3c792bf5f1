"""Folders, corpora, caches of undisturbed runs and small file systems for the faults."""

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

import numpy as np

from tests.faults.harness import NotAvailable
from tests.faults.processes import ROOT, Ended, Running, wait_until
from tests.helpers.clips import audio_corpus
from tests.helpers.onnx_maker import image_file, speech_file

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


class Workspace:
    """Folders, corpora and programs for the faults; one instance for all faults of a session.

    The corpora and the caches of undisturbed runs are made once. A fault that damages a cache damages a copy.

    Args:
        base: folder for everything that is made; emptied of each fault's files by ``clear``.
        strict: require the programs to end within their guaranteed times, which a busy machine may exceed.
    """

    def __init__(self, base: Path, strict: bool = False):
        self.base = base
        self.strict = strict
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
        """End the programs that a fault started, unmount its file systems and remove its folders."""
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
        """Start a command, e.g. ``start("preprocess", "workers=2")``; ``files`` limits its open files."""
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
        """Preprocess the synthetic corpus and wait for the end."""
        return self.run("preprocess", *self.words(cache, *more), **how)

    def start_preprocessing(self, cache: Path, made: int, *more: str, **how) -> Running:
        """Start preprocessing the synthetic corpus; returns when ``made`` of its 18 shards are finished."""
        run = self.start("preprocess", *self.words(cache, *more), **how)
        wait_until(lambda: len(shards(cache)) >= made, run)
        return run

    def cached(self, name: str, make: Callable[[Path], object]):
        """The result of ``make(folder)`` in a folder that is kept for the session; made at the first call."""
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

    # corpora and caches of undisturbed runs

    @cached_property
    def home(self) -> Path:
        """The folder that is kept for the session."""
        path = self.base / "home"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def synthetic(self) -> Path:
        """A synthetic corpus: 3 speakers, 24 clips of 10 frames of 96 px with audio, and its table."""
        from deiii.data.config.schema import SyntheticConfig
        from deiii.data.corpora.synthetic import make

        size = SyntheticConfig(speakers=3, clips_per_class=1, seconds=0.8, fps=12.5, size=96)
        make(self.home / "synthetic", size, workers=1, progress=False)
        return self.home / "synthetic"

    def words(self, cache: Path, *more: str) -> list[str]:
        """Settings for the synthetic corpus: all three stages, 6 shards per stage."""
        return [
            "corpus.name=table", f"corpus.root={self.synthetic}", "corpus.clips_per_shard=4",
            f"cache={cache}", "faces.size=32", "faces.every=4", "workers=2", *more,
        ]  # fmt: skip

    @cached_property
    def undisturbed(self) -> Path:
        """The cache of the synthetic corpus, made by an undisturbed run."""
        done = self.run("preprocess", *self.words(self.home / "undisturbed"))
        assert done.code == 0, done.text
        return self.home / "undisturbed"

    def copy(self) -> Path:
        """A copy of the undisturbed cache, which a fault may damage."""
        path = self.folder() / "cache"
        shutil.copytree(self.undisturbed, path)
        return path

    @cached_property
    def tones(self) -> Path:
        """A corpus of tones: audio only, 6 speakers, two classes."""
        root = self.home / "tones"
        corpus = audio_corpus(root, speakers=6)
        rows = [f"{c.path},{c.speaker},{c.label}" for c in corpus.clips]
        (root / "clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")
        return root

    def tone_words(self, cache: Path, *more: str) -> list[str]:
        """Settings for the tones: log-mel only, 12 shards."""
        return [
            "corpus.name=table", f"corpus.root={self.tones}", f"cache={cache}", "stages=[logmel]",
            "corpus.clips_per_shard=2", "workers=1", *more,
        ]  # fmt: skip

    def speech_words(self, cache: Path, *more: str) -> list[str]:
        """Settings for the tones: features of a small random encoder in an ONNX file, 12 shards."""
        encoder = self.home / "encoder.onnx"
        if not encoder.exists():
            filters = np.random.default_rng(0).normal(size=(16, 1, 320)).astype(np.float32)
            speech_file(encoder, filters, length=16_000)  # so that windows of two clips share a call
        words = [
            f"speech.encoder={encoder}",
            "speech.outputs=[rows,louder]",
            "stages=[speech]",
            "speech.batch=4",
        ]
        return self.tone_words(cache, *words, *more)

    @cached_property
    def speech_cache(self) -> Path:
        """The cache of the tones' speech features, made by an undisturbed run."""
        done = self.run("preprocess", *self.speech_words(self.home / "speech_cache"))
        assert done.code == 0, done.text
        return self.home / "speech_cache"

    def appearance_words(self, cache: Path, *more: str) -> list[str]:
        """Settings for the synthetic corpus: faces, and features of them by a small ONNX file."""
        encoder = self.home / "faces.onnx"
        if not encoder.exists():
            image_file(encoder, 16, channels_first=True)
        words = [f"appearance.encoder={encoder}", "stages=[faces,appearance]", "model.video=[appearance]"]
        return self.words(cache, *words, "model.audio=false", *more)

    @cached_property
    def appearance_cache(self) -> Path:
        """The cache of the synthetic corpus's faces and their features, made by an undisturbed run."""
        done = self.run("preprocess", *self.appearance_words(self.home / "appearance_cache"))
        assert done.code == 0, done.text
        return self.home / "appearance_cache"

    @cached_property
    def tone_cache(self) -> Path:
        """The cache of the tones, made by an undisturbed run."""
        done = self.run("preprocess", *self.tone_words(self.home / "tone_cache"))
        assert done.code == 0, done.text
        return self.home / "tone_cache"

    def environment_with(self, code: str, **more: str) -> dict[str, str]:
        """Environment variables with which every Python process runs this code first (``sitecustomize``)."""
        folder = self.folder()
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), **more}

    def mount(self, megabytes: float) -> Path:
        """Mount a small file system in memory; returns its folder."""
        path = self.folder()
        size = f"size={int(megabytes * 1024)}k"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "deiii-faults", str(path)], capture_output=True, text=True
        )
        if done.returncode:
            raise NotAvailable("mounting a small file system needs root")
        self._mounts.append(path)
        return path

    def fill(self, mount: Path, leave: int = 0) -> Path:
        """Fill a small file system except for ``leave`` bytes; returns the file to remove afterwards."""
        filler = mount / "filler"
        with suppress(OSError), open(filler, "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        if leave:
            os.truncate(filler, max(0, filler.stat().st_size - leave))
        return filler

    def make_read_only(self, path: Path) -> None:
        """Make a mounted folder read-only for files opened from now on, although other files are open."""
        subprocess.run(["mount", "--bind", str(path), str(path)], check=True, capture_output=True)
        self._mounts.append(path)
        for _ in range(500):  # refused while a file that was opened in between is being written
            try:
                return self.remount(path, "bind,ro")
            except subprocess.CalledProcessError:
                time.sleep(0.002)
        raise NotAvailable("a file was open for writing at every attempt")

    def undo_read_only(self, path: Path) -> None:
        subprocess.run(["umount", str(path)], check=True, capture_output=True)

    def remount(self, path: Path, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True, capture_output=True)


@contextmanager
def open_workspace(strict: bool = False) -> Iterator[Workspace]:
    """A workspace in a temporary folder, which is removed at the end."""
    # Ignored in a background job and under nohup; programs inherit this.
    for number, reaction in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, reaction)
    with tempfile.TemporaryDirectory(prefix="deiii-faults-") as folder:
        work = Workspace(Path(folder), strict)
        try:
            yield work
        finally:
            work.clear()
