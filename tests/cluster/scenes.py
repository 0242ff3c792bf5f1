"""What is done on a few machines: preprocessing with trouble on the way, and one training on two of them."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median

from distributed import Client

from tests.cluster.machines import Loopback, free_port
from tests.helpers.clips import tree_bytes

PATIENCE = 300  # s for anything that must end; the machine may be busy
TTL = 3  # s without a sign of life after which the scheduler gives a worker's shards to others


class Wrong(AssertionError):
    """Something did not hold; the message says what."""


def hold(condition: object, message: str) -> None:
    if not condition:
        raise Wrong(message)


def until(condition: Callable[[], object], message: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        hold(time.monotonic() < deadline, f"waited {seconds:g} s in vain: {message}")
        time.sleep(0.1)


@dataclass
class Stage:
    """Files and machines of the scenes.

    Attributes:
        base: folder that all machines share, but for what is hidden from one.
        copies: how many times each of the 24 drawn clips is taken, as clips of other speakers.
    """

    base: Path
    machines: Loopback
    copies: int
    say: Callable[[str], None]
    cut_off: int = 0
    runs: int = field(default=0)

    @cached_property
    def corpus(self) -> Path:
        """Clips of drawn faces with sound, and their table."""
        from deiii.data.config.schema import SyntheticConfig
        from deiii.data.corpora.synthetic import make

        drawn, root = self.base / "drawn", self.base / "corpus"
        config = SyntheticConfig(speakers=3, clips_per_class=1, seconds=0.8, size=96)
        make(drawn, config, workers=2, progress=False)
        root.mkdir()
        rows = ["path,speaker,label"]
        for n, video in enumerate(sorted(drawn.rglob("*.mp4"))):
            for copy in range(self.copies):
                name = f"{copy}-{video.name}"
                os.link(video, root / name)
                rows.append(f"{name},s{copy}-{n // 8},{'ab'[n % 2]}")
        (root / "clips.csv").write_text("\n".join(rows) + "\n")
        return root

    @property
    def clips(self) -> int:
        return 24 * self.copies

    def words(self, cache: str, *more: str) -> list[str]:
        return [
            "configs/tiny.yaml", "corpus.name=table", f"corpus.root={self.corpus}", "corpus.table=clips.csv",
            "corpus.clips_per_shard=2", f"cache={self.base / cache}", "faces.size=72", *more,
        ]  # fmt: skip

    def preprocess(self, cache: str, *more: str) -> str:
        """Start preprocessing here; returns the name under which it runs."""
        self.runs += 1
        name = f"preprocess-{self.runs}"
        command = [sys.executable, "-m", "deiii", "preprocess", *self.words(cache, *more)]
        Loopback.start(_Here(self.machines), name, *command)
        return name

    def ended(self, name: str, code: int = 0) -> str:
        """Wait for a run; returns what it said."""
        process = self.machines.running.pop(name)
        until(lambda: process.poll() is not None, f"the end of {name}")
        said = self.machines.said(name)
        hold(process.returncode == code, f"{name} ended with {process.returncode}: {said[-600:]}")
        return said

    @cached_property
    def undisturbed(self) -> Path:
        """The cache that two workers of this machine make."""
        self.ended(self.preprocess("undisturbed", "workers=2"))
        return self.base / "undisturbed"

    def finished(self, cache: str) -> int:
        return len(list((self.base / cache).glob("*/*-*/*.h5")))

    @property
    def scratch(self) -> str:
        """For Dask's own files, seen by every machine."""
        return str(self.base.parent / "dask")

    # scheduler and workers

    @cached_property
    def scheduler(self) -> str:
        """The address of a scheduler at the hub."""
        address = f"tcp://{self.machines.hub}:{free_port(self.machines.hub)}"
        command = ["-m", "dask", "scheduler", "--host", address, "--no-dashboard"]
        env = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{TTL}s"}
        Loopback.start(_Here(self.machines), "scheduler", sys.executable, *command, **env)
        until(lambda: "Scheduler at" in self.machines.said("scheduler"), "the scheduler")
        return address

    def worker(self, machine: str, hide: Path | None = None) -> None:
        """Start a worker on a machine and wait until the scheduler knows it.

        A worker that lost its scheduler ends; starting it again is a service manager's task, here a loop's.
        """
        command = ["-m", "dask", "worker", self.scheduler, "--name", machine]
        command += ["--host", self.machines.address(machine), "--nthreads", "1"]
        command += ["--no-nanny", "--no-dashboard", "--local-directory", self.scratch]
        again = ["sh", "-c", 'while :; do "$@"; sleep 1; done', "sh", sys.executable]
        self.machines.start(machine, *again, *command, hide=hide)
        until(lambda: machine in self.known(), f"worker {machine}")

    def known(self) -> set[str]:
        """Names of the workers that the scheduler knows."""
        return {str(w["name"]) for w in self._client.scheduler_info(n_workers=-1)["workers"].values()}

    @cached_property
    def _client(self) -> Client:
        return Client(self.scheduler, timeout=PATIENCE)

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close(timeout=5)
        self.machines.close()

    # scenes

    def first_run(self) -> str:
        """A local run that nothing disturbs: what the others are held against."""
        return f"{len(tree_bytes(self.undisturbed))} files of {self.clips} clips"

    def cut_and_returned(self) -> str:
        """One worker's cable is pulled until the scheduler has given it up; others come and go meanwhile."""
        whole = self.undisturbed
        self.worker("ada")
        self.worker("ben")
        run = self.preprocess("cluster", f"scheduler={self.scheduler}")
        until(lambda: self.finished("cluster") >= 4, "the first shards")
        self.machines.cut("ada")
        self.cut_off += 1
        self.worker("cleo")  # comes
        until(lambda: "ada" not in self.known(), "ada to be given up")
        given_up = self.finished("cluster")
        self.machines.mend("ada")
        until(lambda: "ada" in self.known(), "ada to be back")
        back = self.finished("cluster")
        self.machines.stop("ben")  # goes, as a job whose time is over does
        said = self.ended(run)
        total = self.finished("undisturbed")
        hold(back < total, "ada was back after everything was done; give more --copies")
        self.same("cluster", whole)
        hold(f"{self.clips} clips" in said, "not every clip has an outcome")
        return f"given up at {given_up} and back at {back} of {total} shards; cleo came, ben went"

    def same(self, cache: str, whole: Path) -> None:
        here, there = tree_bytes(self.base / cache), tree_bytes(whole)
        hold(here.keys() == there.keys(), f"other files: {sorted(here.keys() ^ there.keys())[:4]}")
        hold(here == there, f"other bytes: {[n for n in here if here[n] != there[n]][:4]}")

    def blind_worker(self) -> str:
        """A worker that does not see the shared folder is refused by name; without it the run goes on."""
        if not self.machines.hides:
            return "skipped: folders cannot be hidden from a process without a namespace of its own"
        self.worker("dora", hide=self.base)
        run = self.preprocess("refused", f"scheduler={self.scheduler}")
        said = self.ended(run, code=1)
        line = next((x for x in said.splitlines() if x.startswith("error: ")), said[-300:])
        for part in (
            "worker dora on dora",
            f"does not see the cache folder {self.base / 'refused'}",
            "put it on",
        ):
            hold(part in line, f"{part!r} is not in: {line}")
        hold("Traceback" not in said, f"a trace: {said[-600:]}")
        hold(not self.finished("refused"), "shards were made")
        self.machines.stop("dora")
        return line.removeprefix("error: ").replace(str(self.base), "…")

    def killed_worker(self) -> str:
        """A worker that is killed in the middle costs no clip."""
        run = self.preprocess("refused", f"scheduler={self.scheduler}")
        until(lambda: self.finished("refused") >= 4, "the first shards")
        self.machines.stop("cleo", signal.SIGKILL)
        self.cut_off += 1
        self.worker("eve")
        self.ended(run)
        self.same("refused", self.undisturbed)
        return "its shard was made by another"

    def training(self, epochs: int) -> tuple[float, float, str]:
        """One network in one process, and in two on two machines: difference of losses, gain in speed.

        With a small learning rate: with a large one AdamW blows rounding up, in one process with another
        number of threads as much as here (docs/scaling.md).
        """
        for machine in [m for m in self.machines.running if m != "scheduler"]:
            self.machines.stop(machine)
        more = [f"train.epochs={epochs}", "train.patience=99", "train.device=cpu", "train.lr=1e-5"]
        words = self.words("undisturbed", *more, "loader.batch=32")
        command = [sys.executable, "-m", "deiii", "train", *words, "--quiet"]
        here = _Here(self.machines)
        rows = {}
        for name in ("one", "two"):
            run = f"train.run={self.base / name}"
            if name == "one":
                started = ["alone"]
                Loopback.start(here, "alone", *command, run)
            else:
                started = ["finn", "gina"]
                first = self.machines.address("finn")
                port = free_port("127.0.0.1")
                for rank, machine in enumerate(started):
                    env = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
                    env |= {"MASTER_ADDR": first, "MASTER_PORT": str(port)}
                    env |= {"GLOO_SOCKET_IFNAME": self.machines.card()}
                    if not self.machines.hides:
                        env |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
                    self.machines.start(machine, *command, run, **env)
            for machine in started:
                self.ended(machine)
            with open(self.base / name / "metrics.csv", newline="") as file:
                rows[name] = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        losses = ("train_loss", "train_fused", "train_video", "train_audio", "val_loss")
        difference = max(abs(a[k] - b[k]) for a, b in zip(*rows.values(), strict=True) for k in losses)
        seconds = {name: median(row["train_seconds"] for row in found[1:]) for name, found in rows.items()}
        told = f"{seconds['one']:.2f} s an epoch in one process of one thread, {seconds['two']:.2f} s in two"
        return difference, seconds["one"] / seconds["two"], told


class _Here(Loopback):
    """Starts commands at the hub rather than on a machine, among the same running ones."""

    def __init__(self, machines: Loopback):
        self.logs, self.running = machines.logs, machines.running
