"""What workers on other machines do for a main process: they examine what they share with it, then compute.

A worker imports this module before it is checked, so the module imports only Dask and modules of deiii that
need nothing but the standard library. A worker that cannot unpack what it receives ends without an answer,
and the command would wait for it.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Client, Future, get_worker
from distributed.protocol.pickle import dumps, loads

from deiii.data.tools.machine import source_digest
from deiii.data.tools.os_errors import import_remedy, imported_package
from deiii.data.tools.processes.dask_workers import ClusterError

REMEDY = "put it on a file system that all workers share, under the same path, or stop that worker"
SAME_FOLDER = "start workers in the folder of the command, or give the path from the root, beginning with /"
SAME_VERSION = (
    "start workers in an environment with the same version of deiii and of its packages, with the command "
    "`dask worker` of that environment"
)
MOUNT = (
    "most likely a file system is not mounted there, or a copy is incomplete: mount or complete it, or stop "
    "that worker"
)
MAX_NAMED = 3  # workers that an error message names


class Defect(NamedTuple):
    """What keeps a worker from computing for this process.

    Attributes:
        text: the defect, as the end of a sentence about the worker.
        remedy: what to do.
    """

    text: str
    remedy: str


@dataclass(frozen=True)
class WorkerCheck:
    """What a worker examines to find out whether it can compute for the main process.

    Attributes:
        path: a file in the cache folder.
        token: the text that the file holds.
        root: the folder of the corpus; empty if the tasks do not read it.
        versions: the version of each stage in the main process. A worker with another version would store
            other results under the same key.
        run: a file with the same text in the folder of the runs; empty if the tasks write no runs.
        decoder: version of FFmpeg's libavcodec in the main process; 0 if the tasks read no media. Another
            one may return more or fewer samples of a file.
        code: `source_digest` of the main process; empty if only the versions of the stages have to agree.
            Runs that other code trained could not be compared with those of this process.
        modules: modules that the worker must be able to import.
        files: path below ``root`` and size in bytes of some media files that the main process sees.
        cache: the cache folder, for messages; that of ``path`` if it is empty.
    """

    path: str
    token: str
    root: str
    versions: Mapping[str, int] = field(default_factory=dict)
    run: str = ""
    decoder: int = 0
    code: str = ""
    modules: Sequence[str] = ()
    files: Sequence[tuple[str, int]] = ()
    cache: str = ""

    def defect(self) -> Defect | None:
        """Return what this process does not see or would compute differently; ``None`` for nothing."""
        return self._code_defect() or self._folder_defect() or self._file_defect()

    def _code_defect(self) -> Defect | None:
        """Return which module cannot be imported, or which code differs."""
        try:
            for module in self.modules:
                import_module(module)
            # Here, because these modules need other packages.
            from deiii.data.cache.stages import get_stage
            from deiii.data.config.plugins import PluginError
            from deiii.data.config.strict_yaml import ConfigError

            decoder = decoder_version() if self.decoder else 0
        except ImportError as error:
            return _not_imported(error)
        for stage, version in self.versions.items():
            try:
                own = get_stage(stage).version
            except (ConfigError, PluginError) as error:
                return Defect(f"cannot compute the stage {stage} ({error})", SAME_VERSION)
            if own != version:
                return Defect(f"has version {own} of the stage {stage}, not {version}", SAME_VERSION)
        if decoder != self.decoder:
            return Defect(
                f"decodes media with version {decoder} of libavcodec (PyAV), not {self.decoder}", SAME_VERSION
            )
        if self.code and source_digest() != self.code:
            return Defect("has other source code of deiii than this process", SAME_VERSION)
        return None

    def _folder_defect(self) -> Defect | None:
        """Return which folder is not the one of the main process."""
        folder = Path(self.cache) if self.cache else Path(self.path).parent
        for probe, what, place in (
            (self.path, "cache folder", folder),
            (self.run, "folder of the runs", Path(self.run).parent),
        ):
            if probe and not self._holds_token(probe):
                return _unseen(what, place)
        return _unseen("corpus in", Path(self.root)) if self.root and not Path(self.root).is_dir() else None

    def _holds_token(self, probe: str) -> bool:
        try:
            return Path(probe).read_text() == self.token
        except OSError:
            return False

    def _file_defect(self) -> Defect | None:
        """Return which media file this process does not see as the main process does.

        This is examined once in a process: what vanishes later is found when it is read.
        """
        if self.token in _seen:
            return None
        for path, size in self.files:
            place = Path(self.root) / path
            try:
                own = place.stat().st_size
            except FileNotFoundError:
                return Defect(f"does not see {place}, which this process sees", MOUNT)
            except OSError as error:
                return Defect(f"cannot read {place} ({error.strerror}), which this process sees", MOUNT)
            if own != size:
                return Defect(f"sees {place} with {own} bytes, which has {size} for this process", MOUNT)
        _seen.add(self.token)
        return None


_seen: set[str] = set()  # tokens of the checks whose media files this process has seen


def decoder_version() -> int:
    """Return the major version of FFmpeg's libavcodec, with which this process decodes media.

    >>> decoder_version() >= 60
    True
    """
    import av  # not with this module: a worker without it is reported

    return int(av.library_versions["libavcodec"][0])


def _not_imported(error: ImportError) -> Defect:
    """Return the defect of a worker that cannot import what a task needs."""
    where = "where that worker runs"
    return Defect(f"cannot import {imported_package(error)} ({error})", f"{where}, {import_remedy(error)}")


def _unseen(what: str, folder: Path) -> Defect:
    """Return the defect of a worker that does not see a folder; a relative one depends on where it runs."""
    if folder.is_absolute():
        return Defect(f"does not see the {what} {folder}", REMEDY)
    return Defect(f"does not see the {what} {folder}, because it runs in {Path.cwd()}", SAME_FOLDER)


def message_of(defects: list[Defect]) -> str:
    """Return the defects of some workers, with the remedies of these."""
    named = sorted(defects)[:MAX_NAMED]
    more = f" (and {len(defects) - MAX_NAMED} more)" if len(defects) > MAX_NAMED else ""
    remedies = "; ".join(dict.fromkeys(defect.remedy for defect in named))
    return f"{'; '.join(defect.text for defect in named)}{more}: {remedies}"


async def worker_defect(check: WorkerCheck, dask_worker: Any = None) -> Defect | None:
    """Return what keeps this worker from computing for the main process, with its name; ``None`` for nothing.

    Dask calls this in the loop that answers the scheduler. The check runs in a thread, because imports and a
    file system that does not answer may take long.
    """
    return await asyncio.to_thread(_defect_of, check, dask_worker)


def _defect_of(check: WorkerCheck, worker: Any) -> Defect | None:
    found = check.defect()
    return None if found is None else Defect(f"{_where(worker)} {found.text}", found.remedy)


def _where(worker: Any) -> str:
    """Return a worker's name, machine and address."""
    return f"worker {worker.name} on {socket.gethostname()} ({worker.address})"


def packed(run: Callable[..., Any], *words: Any) -> bytes:
    """Return a function and its arguments as bytes, for `run_checked`.

    Dask unpacks what it sends before it calls anything. A worker that lacks a package of the function would
    end there without an answer, so Dask gets bytes, which `run_checked` unpacks after the check.
    """
    content: bytes = dumps((run, words))
    return content


class _Call:
    """An object that pickle stores as a call; the process that unpacks the bytes makes the call."""

    def __init__(self, run: Callable[..., Any], words: tuple[Any, ...]):
        self._run = run
        self._words = words

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._run, self._words


def checked_task(check: WorkerCheck | None, run: Callable[..., Any], *words: Any) -> bytes:
    """Return a call of `run_checked` as bytes; the process that unpacks them makes the call.

    Args:
        check: argument of `run_checked`.
        run, words: the function and its arguments.
    """
    content: bytes = dumps(_Call(run_checked, (check, packed(run, *words))))
    return content


def submit_checked(
    client: Client, check: WorkerCheck | None, run: Callable[..., Any], *words: Any, **options: Any
) -> Future:
    """Submit a task that is checked on its worker (`run_checked`).

    Dask gets Python's own ``pickle.loads`` and the call as bytes. A worker therefore needs nothing of deiii
    before the task has begun, and the lack of deiii is an error of the task. A worker that got `run_checked`
    itself would end without an answer, and the command would wait for another one.

    Args:
        client: client of the cluster.
        check: argument of `run_checked`.
        run, words: the function and its arguments.
        options: options of `distributed.Client.submit`, such as ``resources``.

    >>> submit_checked(client, check, run_shard, task, priority=1)  # doctest: +SKIP
    """
    return client.submit(pickle.loads, checked_task(check, run, *words), pure=False, **options)


def run_checked(check: WorkerCheck | None, task: bytes) -> Any:
    """Run a task after a check that this worker shares the files of the main process.

    Args:
        check: what to check; ``None`` for a worker on the machine of the main process.
        task: the function and its arguments (`packed`).

    Returns:
        what the function returns. Its errors are raised; their messages name the worker and its machine.

    Raises:
        ClusterError: the worker does not share the files, or cannot import what the task needs; it may have
            connected after `check_workers`.
    """
    if check is None:
        run, words = loads(task)
        return run(*words)
    worker = get_worker()
    defect = _defect_of(check, worker)
    if defect is not None:
        raise ClusterError(message_of([defect]))
    try:
        run, words = loads(task)
        return run(*words)
    except ImportError as error:
        lacks = _not_imported(error)
        raise ClusterError(f"{_where(worker)} {lacks.text}: {lacks.remedy}") from None
    except (RuntimeError, ValueError) as error:
        if type(error) not in (RuntimeError, ValueError) and [type(arg) for arg in error.args] == [str]:
            error.args = (f"{_where(worker)}: {error}{_own_variables(error)}",)
        raise


def _own_variables(error: Exception) -> str:
    """Return the end of the message on weights that a worker does not find."""
    from deiii.data.tools.weights import WeightsError

    if not isinstance(error, WeightsError):
        return ""
    own = os.environ.get("DEIII_WEIGHTS_DIR")
    value = f"is {own}" if own else "is not set"
    return (
        f". A worker has an environment of its own, in which DEIII_WEIGHTS_DIR {value}: set it where that "
        "worker is started"
    )


def imports() -> None:
    """Do nothing. A process that can run this can import deiii, in a version that has this function."""


def has_dashboard(dask_scheduler: Any = None) -> bool:
    """Return whether this process, a scheduler's, has Dask's dashboard, an application of Bokeh."""
    return any("bokeh" in str(part).lower() for part in dask_scheduler.http_application.applications)
