"""Whether workers on other machines see the files of this process: asked at once, and before every task."""

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
from deiii.pipeline.preprocess.cluster import ClusterError


@dataclass(frozen=True)
class Shared:
    """How a worker sees whether it shares this process's files.

    Attributes:
        path, token: a file in the cache folder, and what it holds.
        root: the corpus's folder.
    """

    path: str
    token: str
    root: str

    def trouble(self) -> str:
        """What this process does not see, in words; empty where all is well."""
        try:
            seen = Path(self.path).read_text() == self.token
        except OSError:
            seen = False
        if not seen:
            return f"does not see the cache folder {Path(self.path).parent}"
        return "" if Path(self.root).is_dir() else f"does not see the corpus in {self.root}"


CURE = "put it on a file system that all workers share, under the same path, or stop that worker"


@contextmanager
def shared_files(client: Client, config: Config, root: str) -> Iterator[Shared | None]:
    """What workers on other machines look at before every task; ``None`` where there are no others.

    A worker that does not see the cache would write shards that nobody finds, and one without the corpus
    would record every clip as missing. Those that are there are asked at once, later ones with their tasks.

    Raises:
        ClusterError: names the worker, its machine, the folder, and what to do.
    """
    if not config.scheduler and config.cluster.kind == "local":
        yield None
        return
    cache = Path(config.cache).resolve()
    cache.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    shared = Shared(str(cache / f".probe-{token}.tmp"), token, root)
    Path(shared.path).write_text(token)
    try:
        check_workers(client, shared)
        yield shared
    finally:
        Path(shared.path).unlink(missing_ok=True)


def check_workers(client: Client, shared: Shared) -> None:
    """Ask every worker that is there whether it can work with our files.

    Raises:
        ClusterError: see `shared_files`.
    """
    troubles = []
    for address, found in client.run(_look, shared, on_error="return").items():
        if isinstance(found, ImportError):
            raise ClusterError(
                f"the worker at {address} cannot import this project ({found}); start workers in an "
                "environment that has it, of the same version, e.g. from its folder with its .venv/bin/dask"
            )
        if isinstance(found, BaseException):
            troubles.append(f"the worker at {address} does not answer ({type(found).__name__}: {found})")
        elif found:
            troubles.append(found)
    if troubles:
        raise ClusterError(_told(troubles))


def _told(troubles: list[str]) -> str:
    more = f" (and {len(troubles) - 3} more)" if len(troubles) > 3 else ""
    return f"{'; '.join(sorted(troubles)[:3])}{more}: {CURE}"


def _look(shared: Shared, dask_worker: Any = None) -> str:
    """This worker's trouble with the files, with its name and machine; empty for none."""
    trouble = shared.trouble()
    if not trouble:
        return ""
    worker = dask_worker or get_worker()
    return f"worker {worker.name} on {socket.gethostname()} ({worker.address}) {trouble}"


def run_shared(shared: Shared | None, run: Callable[[Any], Any], task: Any) -> Any:
    """Run a task on a worker, if the worker shares our files.

    Raises:
        ClusterError: it does not; it may have come after `check_workers`.
    """
    if shared is not None and (trouble := _look(shared)):
        raise ClusterError(_told([trouble]))
    return run(task)
