"""Scenarios on several machines: preprocessing while machines fail, and one training on two machines."""

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

from tests.cluster.machines import Loopback
from tests.helpers.clips import tree_bytes
from tests.helpers.ports import free_port

TIMEOUT_S = 300  # for everything that must end; the machine may be busy
WORKER_TTL_S = 3  # without contact, the scheduler gives a worker's shards to others


class ScenarioFailed(AssertionError):
    """A requirement of a scenario did not hold; the message says which."""


def require(condition: object, message: str) -> None:
    if not condition:
        raise ScenarioFailed(message)


def wait_for(condition: Callable[[], object], message: str, seconds: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < deadline, f"waited {seconds:g} s for: {message}")
        time.sleep(0.1)


@dataclass
class Scenarios:
    """The scenarios, with their files and machines.

    Attributes:
        base: folder that all machines share, unless it is hidden from one.
        machines: the simulated machines.
        copies: how many times each of the 24 synthetic clips is used, as clips of other speakers.
        disconnected: number of workers that were disconnected or killed so far.
        runs: number of preprocessing runs started so far.
    """

    base: Path
    machines: Loopback
    copies: int
    disconnected: int = 0
    runs: int = field(default=0)

    @cached_property
    def corpus(self) -> Path:
        """Synthetic clips with audio, and their table."""
        from deiii.data.config.schema import SyntheticConfig
        from deiii.data.corpora.synthetic import make

        synthetic, root = self.base / "synthetic", self.base / "corpus"
        config = SyntheticConfig(speakers=3, clips_per_class=1, seconds=0.8, size=96)
        make(synthetic, config, workers=2, progress=False)
        root.mkdir()
        rows = ["path,speaker,label"]
        for n, video in enumerate(sorted(synthetic.rglob("*.mp4"))):
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
        """Start preprocessing at the hub; returns the name of the run."""
        self.runs += 1
        name = f"preprocess-{self.runs}"
        command = [sys.executable, "-m", "deiii", "preprocess", *self.words(cache, *more)]
        Loopback.start(_HubProcesses(self.machines), name, *command)
        return name

    def wait_for_end(self, name: str, code: int = 0) -> str:
        """Wait for the end of a run; returns its output."""
        process = self.machines.running.pop(name)
        wait_for(lambda: process.poll() is not None, f"the end of {name}")
        output = self.machines.output(name)
        require(process.returncode == code, f"{name} ended with {process.returncode}: {output[-600:]}")
        return output

    @cached_property
    def undisturbed(self) -> Path:
        """The cache of an undisturbed run with two local workers."""
        self.wait_for_end(self.preprocess("undisturbed", "workers=2"))
        return self.base / "undisturbed"

    def finished(self, cache: str) -> int:
        return len(list((self.base / cache).glob("*/*-*/*.h5")))

    @property
    def scratch(self) -> str:
        """Folder for Dask's own files, visible on every machine."""
        return str(self.base.parent / "dask")

    # scheduler and workers

    @cached_property
    def scheduler(self) -> str:
        """The address of a scheduler at the hub."""
        address = f"tcp://{self.machines.hub}:{free_port(self.machines.hub)}"
        command = ["-m", "dask", "scheduler", "--host", address, "--no-dashboard"]
        env = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{WORKER_TTL_S}s"}
        Loopback.start(_HubProcesses(self.machines), "scheduler", sys.executable, *command, **env)
        wait_for(lambda: "Scheduler at" in self.machines.output("scheduler"), "the scheduler")
        return address

    def worker(self, machine: str, hide: Path | None = None) -> None:
        """Start a worker on a machine and wait until the scheduler knows it.

        A worker that loses its scheduler ends; a service manager must start it again, here a loop.
        """
        command = ["-m", "dask", "worker", self.scheduler, "--name", machine]
        command += ["--host", self.machines.address(machine), "--nthreads", "1"]
        command += ["--no-nanny", "--no-dashboard", "--local-directory", self.scratch]
        again = ["sh", "-c", 'while :; do "$@"; sleep 1; done', "sh", sys.executable]
        self.machines.start(machine, *again, *command, hide=hide)
        wait_for(lambda: machine in self.known_workers(), f"worker {machine}")

    def known_workers(self) -> set[str]:
        """Names of the workers that the scheduler knows."""
        return {str(w["name"]) for w in self._client.scheduler_info(n_workers=-1)["workers"].values()}

    @cached_property
    def _client(self) -> Client:
        return Client(self.scheduler, timeout=TIMEOUT_S)

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close(timeout=5)
        self.machines.close()

    # scenarios

    def first_run(self) -> str:
        """An undisturbed local run, with which the others are compared."""
        return f"{len(tree_bytes(self.undisturbed))} files of {self.clips} clips"

    def reconnected_worker(self) -> str:
        """One worker is disconnected until the scheduler removes it; meanwhile others join and leave."""
        expected = self.undisturbed
        self.worker("ada")
        self.worker("ben")
        run = self.preprocess("cluster", f"scheduler={self.scheduler}")
        wait_for(lambda: self.finished("cluster") >= 4, "the first shards")
        self.machines.disconnect("ada")
        self.disconnected += 1
        self.worker("cleo")  # joins
        wait_for(lambda: "ada" not in self.known_workers(), "removal of ada")
        done_when_removed = self.finished("cluster")
        self.machines.reconnect("ada")
        wait_for(lambda: "ada" in self.known_workers(), "return of ada")
        done_when_back = self.finished("cluster")
        self.machines.stop("ben")  # leaves, like a job at its time limit
        output = self.wait_for_end(run)
        total = self.finished("undisturbed")
        require(done_when_back < total, "ada was back after everything was done; use more --copies")
        self.same("cluster", expected)
        require(f"{self.clips} clips" in output, "not every clip has an outcome")
        times = f"removed at {done_when_removed} and back at {done_when_back} of {total} shards"
        return f"{times}; cleo joined, ben left"

    def same(self, cache: str, expected: Path) -> None:
        here, there = tree_bytes(self.base / cache), tree_bytes(expected)
        require(here.keys() == there.keys(), f"other files: {sorted(here.keys() ^ there.keys())[:4]}")
        require(here == there, f"other bytes: {[n for n in here if here[n] != there[n]][:4]}")

    def worker_without_files(self) -> str:
        """A worker that does not see the shared folder ends the run, with a message that names the worker."""
        if not self.machines.can_hide:
            return "skipped: folders cannot be hidden from a process without a namespace of its own"
        self.worker("dora", hide=self.base)
        run = self.preprocess("refused", f"scheduler={self.scheduler}")
        output = self.wait_for_end(run, code=1)
        line = next((x for x in output.splitlines() if x.startswith("error: ")), output[-300:])
        for part in (
            "worker dora on dora",
            f"does not see the cache folder {self.base / 'refused'}",
            "put it on",
        ):
            require(part in line, f"{part!r} is not in: {line}")
        require("Traceback" not in output, f"a trace: {output[-600:]}")
        require(not self.finished("refused"), "shards were computed")
        self.machines.stop("dora")
        return line.removeprefix("error: ").replace(str(self.base), "…")

    def killed_worker(self) -> str:
        """A worker is killed in the middle of the run; no clip is lost."""
        run = self.preprocess("refused", f"scheduler={self.scheduler}")
        wait_for(lambda: self.finished("refused") >= 4, "the first shards")
        self.machines.stop("cleo", signal.SIGKILL)
        self.disconnected += 1
        self.worker("eve")
        self.wait_for_end(run)
        self.same("refused", self.undisturbed)
        return "another worker computed its shard"

    def training(self, epochs: int) -> tuple[float, float, str]:
        """One network in one process, and in two on two machines: difference of losses, gain in speed.

        The learning rate is small, because with a large one AdamW amplifies rounding differences, as much in
        one process with another number of threads as here (docs/scaling.md).
        """
        for machine in [m for m in self.machines.running if m != "scheduler"]:
            self.machines.stop(machine)
        more = [f"train.epochs={epochs}", "train.patience=99", "train.device=cpu", "train.lr=1e-5"]
        words = self.words("undisturbed", *more, "loader.batch=32")
        command = [sys.executable, "-m", "deiii", "train", *words, "--quiet"]
        here = _HubProcesses(self.machines)
        rows = {}
        for name in ("one", "two"):
            run = f"train.run={self.base / name}"
            if name == "one":
                started = ["alone"]
                Loopback.start(here, "alone", *command, run)
            else:
                started = ["finn", "gina"]
                first = self.machines.address("finn")
                port = free_port()
                for rank, machine in enumerate(started):
                    env = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
                    env |= {"MASTER_ADDR": first, "MASTER_PORT": str(port)}
                    env |= {"GLOO_SOCKET_IFNAME": self.machines.card()}
                    if not self.machines.can_hide:
                        env |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
                    self.machines.start(machine, *command, run, **env)
            for machine in started:
                self.wait_for_end(machine)
            with open(self.base / name / "metrics.csv", newline="") as file:
                rows[name] = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        losses = ("train_loss", "train_fused", "train_video", "train_audio", "val_loss")
        difference = max(abs(a[k] - b[k]) for a, b in zip(*rows.values(), strict=True) for k in losses)
        seconds = {name: median(row["train_seconds"] for row in found[1:]) for name, found in rows.items()}
        one, two = seconds["one"], seconds["two"]
        message = f"{one:.2f} s per epoch in one process of one thread, {two:.2f} s in two"
        return difference, one / two, message


class _HubProcesses(Loopback):
    """Starts commands at the hub instead of on a machine; shares logs and processes with the machines."""

    def __init__(self, machines: Loopback):
        self.logs, self.running = machines.logs, machines.running
