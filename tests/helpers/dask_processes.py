"""A Dask scheduler and its workers as separate processes, started as users start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from deiii.data.tools.processes.dask_workers import workers_of
from tests.helpers.waiting import PATIENCE_S

DASK = [sys.executable, "-m", "dask"]


def address_in(file: Path) -> str:
    """The address that a scheduler has written into its file, once it has written all of it."""
    start = time.monotonic()
    while not (file.exists() and file.read_text().rstrip().endswith("}")):
        assert time.monotonic() - start < PATIENCE_S, "the scheduler did not start"
        time.sleep(0.1)
    return json.loads(file.read_text())["address"]


@contextmanager
def own_scheduler(
    folder: Path, worker: bool = False, **environment: str
) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address and the process of a scheduler, without workers or with one.

    Args:
        folder: for its files.
        worker: whether it has a worker.
        environment: variables of its own; it then runs in ``folder``, where no deiii is found beside it.
    """
    file = folder / "scheduler.json"
    command = [*DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with open(folder / "log.txt", "w") as log:
        command += ["--scheduler-file", str(file)]
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            cwd=folder if environment else None,
        )
    try:
        address = address_in(file)
        if worker:
            with own_worker(address, folder):
                yield address, process
        else:
            yield address, process
    finally:
        process.kill()
        process.wait()


@contextmanager
def own_worker(address: str, folder: Path, *options: str, cwd: Path | None = None, **environment: str):
    """A worker of a scheduler that is connected before the block begins, with variables of its own."""
    command = [
        *DASK,
        "worker",
        address,
        "--nthreads",
        "1",
        "--no-dashboard",
        "--local-directory",
        str(folder),
    ]
    name = f"worker-{uuid.uuid4().hex}"
    with open(folder / "worker.txt", "w") as log:
        process = subprocess.Popen(
            [*command, "--name", name, *options],
            stdout=log,
            stderr=log,
            cwd=cwd,
            env={**os.environ, **environment},
        )
    try:
        with Client(address, timeout=PATIENCE_S) as client:
            while name not in {worker["name"] for worker in workers_of(client).values()}:
                assert process.poll() is None, (folder / "worker.txt").read_text()
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
