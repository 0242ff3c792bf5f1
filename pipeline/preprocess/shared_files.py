"""Check that workers on other machines see the files of this process, at the start and before every task."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client, get_worker

from deiii.data.config.schema import Config
from deiii.data.tools.processes.dask_workers import while_connected
from deiii.data.tools.processes.made_folders import make_folder
from deiii.pipeline.preprocess.cluster import ClusterError

REMEDY = "put it on a file system that all workers share, under the same path, or stop that worker"
MAX_NAMED = 3  # workers that an error message names


@dataclass(frozen=True)
class SharedFiles:
    """Files that a worker examines to find out whether it shares the files of the main process.

    Attributes:
        path: a file in the cache folder.
        token: the text that the file holds.
        root: the folder of the corpus.
    """

    path: str
    token: str
    root: str

    def defect(self) -> str:
        """Describe what this process does not see; empty if it sees everything."""
        try:
            seen = Path(self.path).read_text() == self.token
        except OSError:
            seen = False
        if not seen:
            return f"does not see the cache folder {Path(self.path).parent}"
        return "" if Path(self.root).is_dir() else f"does not see the corpus in {self.root}"


@contextmanager
def shared_files(client: Client, config: Config, root: str) -> Iterator[SharedFiles | None]:
    """Check the workers of other machines; in the block there is a file that they can check again.

    A worker that does not see the cache would write shards that are not found, and one without the
    corpus would record every clip as missing. Workers that are connected are checked at once, later
    ones with their first task.

    Yields:
        what a worker checks before every task; ``None`` where all workers are on this machine.

    Raises:
        ClusterError: names the worker, its machine, the folder, and what to do.
    """
    if not config.scheduler and config.cluster.kind == "local":
        yield None
        return
    cache = Path(config.cache).resolve()
    make_folder(cache)
    token = uuid.uuid4().hex
    shared = SharedFiles(str(cache / f".probe-{token}.tmp"), token, root)
    Path(shared.path).write_text(token)
    try:
        check_workers(client, shared)
        yield shared
    finally:
        Path(shared.path).unlink(missing_ok=True)


def check_workers(client: Client, shared: SharedFiles) -> None:
    """Check every connected worker.

    Raises:
        ClusterError: see `shared_files`.
    """
    defects = []
    answers = while_connected(client, lambda: client.run(_worker_defect, shared, on_error="return"))
    for address, answer in answers.items():
        if isinstance(answer, ImportError):
            raise ClusterError(
                f"the worker at {address} cannot import deiii ({answer}); start workers in an environment "
                "with the same version of deiii, with the command `dask worker` of that environment"
            )
        if isinstance(answer, BaseException):
            defects.append(f"the worker at {address} does not answer ({type(answer).__name__}: {answer})")
        elif answer:
            defects.append(answer)
    if defects:
        raise ClusterError(_message(defects))


def _message(defects: list[str]) -> str:
    more = f" (and {len(defects) - MAX_NAMED} more)" if len(defects) > MAX_NAMED else ""
    return f"{'; '.join(sorted(defects)[:MAX_NAMED])}{more}: {REMEDY}"


def _worker_defect(shared: SharedFiles, dask_worker: Any = None) -> str:
    """Describe what this worker does not see, with its name and machine; empty if it sees everything."""
    defect = shared.defect()
    if not defect:
        return ""
    worker = dask_worker or get_worker()
    return f"worker {worker.name} on {socket.gethostname()} ({worker.address}) {defect}"


def run_shared(shared: SharedFiles | None, run: Callable[[Any], Any], task: Any) -> Any:
    """Run a task after a check that this worker shares the files of the main process.

    Raises:
        ClusterError: the worker does not; it may have connected after `check_workers`.
    """
    if shared is not None:
        defect = _worker_defect(shared)
        if defect:
            raise ClusterError(_message([defect]))
    return run(task)
