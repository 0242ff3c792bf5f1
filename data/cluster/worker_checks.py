"""Check that workers on other machines see the files of this process and have the same stages.

They are checked at the start, and before every task.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Client, get_worker

from deiii.data.cache.stages import get_stage, with_upstream
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.machine import source_digest
from deiii.data.tools.processes.dask_workers import ClusterError, while_connected
from deiii.data.tools.processes.made_folders import make_folder

REMEDY = "put it on a file system that all workers share, under the same path, or stop that worker"
SAME_FOLDER = "start workers in the folder of the command, or give the path from the root, beginning with /"
SAME_VERSION = (
    "start workers in an environment with the same version of deiii and of its packages, with the command "
    "`dask worker` of that environment"
)
SAME_SCHEDULER = (
    "start it in an environment with the same version of deiii and of its packages, with the command "
    "`dask scheduler` of that environment"
)
MAX_NAMED = 3  # workers that an error message names
IMPORT_ERRORS = ("ModuleNotFoundError", "ImportError", "AttributeError")


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
        code: `source_digest` of the main process; empty if only the versions of the stages have to agree.
            Runs that other code trained could not be compared with those of this process.
    """

    path: str
    token: str
    root: str
    versions: Mapping[str, int] = field(default_factory=dict)
    run: str = ""
    code: str = ""

    def defect(self) -> Defect | None:
        """Return what this process does not see or would compute differently, if anything."""
        for stage, version in self.versions.items():
            try:
                own = get_stage(stage).version
            except ConfigError as error:
                return Defect(f"cannot compute the stage {stage} ({error})", SAME_VERSION)
            if own != version:
                return Defect(f"has version {own} of the stage {stage}, not {version}", SAME_VERSION)
        if self.code and source_digest() != self.code:
            return Defect("has other source code of deiii than this process", SAME_VERSION)
        for probe, what in ((self.path, "cache folder"), (self.run, "folder of the runs")):
            if probe and not self._holds_token(probe):
                return _unseen(what, Path(probe).parent)
        return _unseen("corpus in", Path(self.root)) if self.root and not Path(self.root).is_dir() else None

    def _holds_token(self, probe: str) -> bool:
        try:
            return Path(probe).read_text() == self.token
        except OSError:
            return False


def _unseen(what: str, folder: Path) -> Defect:
    """Return the defect of a worker that does not see a folder; a relative one depends on where it runs."""
    if folder.is_absolute():
        return Defect(f"does not see the {what} {folder}", REMEDY)
    return Defect(f"does not see the {what} {folder}, because it runs in {Path.cwd()}", SAME_FOLDER)


@contextmanager
def checked_workers(client: Client, config: Config, root: str) -> Iterator[WorkerCheck | None]:
    """Check the workers of other machines; in the block there is a file that they can check again.

    A worker that does not see the cache would write shards that are not found, one without the corpus
    would record every clip as missing, and one with another version of a stage would store its results as
    those of this version. Workers that are connected are checked at once, later ones with their first task.

    Yields:
        what a worker checks before every task; ``None`` where all workers are on this machine.

    Raises:
        ClusterError: names the worker, its machine, the defect, and what to do.
    """
    if not config.scheduler and config.cluster.kind == "local":
        yield None
        return
    with _checked(client, config, Path(config.cache).resolve(), root) as check:
        yield check


@contextmanager
def checked_trainers(client: Client, config: Config) -> Iterator[WorkerCheck]:
    """Check workers that train runs, as `checked_workers` does.

    They need the same source code, read the cache and write beside ``train.run``. The paths are checked as
    they are given: what a run stores of its settings must not depend on who trains it.

    Raises:
        ClusterError: see `checked_workers`.
    """
    with _checked(client, config, Path(config.cache), "", Path(config.train.run).parent) as check:
        yield check


@contextmanager
def _checked(
    client: Client, config: Config, cache: Path, root: str, runs: Path | None = None
) -> Iterator[WorkerCheck]:
    token = uuid.uuid4().hex
    versions = {stage: get_stage(stage).version for stage in with_upstream(config.stages)}
    probes = [folder / f".probe-{token}.tmp" for folder in (cache, runs) if folder is not None]
    run, code = (str(probes[1]), source_digest()) if runs is not None else ("", "")
    check = WorkerCheck(str(probes[0]), token, root, versions, run, code)
    try:
        for probe in probes:
            make_folder(probe.parent)
            probe.write_text(token)
        check_workers(client, check)
        yield check
    finally:
        for probe in probes:
            probe.unlink(missing_ok=True)


def check_workers(client: Client, check: WorkerCheck) -> None:
    """Check the scheduler, which unpacks every task, and every connected worker.

    Raises:
        ClusterError: see `checked_workers`.
    """
    try:
        while_connected(client, lambda: client.run_on_scheduler(imports))
    except Exception as error:
        if not _is_of_import(error):
            raise
        raise ClusterError(f"the scheduler cannot import deiii ({error}): {SAME_SCHEDULER}") from None
    defects = []
    answers = while_connected(client, lambda: client.run(worker_defect, check, on_error="return"))
    for address, answer in answers.items():
        if isinstance(answer, BaseException) and _is_of_import(answer):
            raise ClusterError(f"the worker at {address} cannot import deiii ({answer}): {SAME_VERSION}")
        if isinstance(answer, BaseException):
            silent = f"the worker at {address} does not answer ({type(answer).__name__}: {answer})"
            defects.append(Defect(silent, REMEDY))
        elif answer:
            defects.append(answer)
    if defects:
        raise ClusterError(_message(defects))


def imports() -> None:
    """Do nothing: a process that can be asked for this imports deiii, of a version that has this function."""


def _is_of_import(error: BaseException) -> bool:
    """Return whether a process lacks deiii, or has a version without the function that was asked for.

    A worker returns this error as the text in an ``Exception``.
    """
    return type(error).__name__ in IMPORT_ERRORS or str(error).startswith(
        tuple(f"{n}(" for n in IMPORT_ERRORS)
    )


def _message(defects: list[Defect]) -> str:
    """Return the defects of some workers, with the remedies of these."""
    named = sorted(defects)[:MAX_NAMED]
    more = f" (and {len(defects) - MAX_NAMED} more)" if len(defects) > MAX_NAMED else ""
    remedies = "; ".join(dict.fromkeys(defect.remedy for defect in named))
    return f"{'; '.join(defect.text for defect in named)}{more}: {remedies}"


def worker_defect(check: WorkerCheck, dask_worker: Any = None) -> Defect | None:
    """Return what keeps this worker from computing for the main process, with its name and machine."""
    found = check.defect()
    if found is None:
        return None
    worker = dask_worker or get_worker()
    where = f"worker {worker.name} on {socket.gethostname()} ({worker.address})"
    return Defect(f"{where} {found.text}", found.remedy)


def run_checked(check: WorkerCheck | None, run: Callable[[Any], Any], task: Any) -> Any:
    """Run a task after a check that this worker shares the files of the main process.

    Raises:
        ClusterError: the worker does not; it may have connected after `check_workers`.
    """
    if check is not None:
        defect = worker_defect(check)
        if defect is not None:
            raise ClusterError(_message([defect]))
    return run(task)


def dashboard_words(client: Client) -> str:
    """Return where the dashboard of the scheduler is, or that it has none.

    Dask gives an address for a scheduler without a dashboard, too: its server has other pages.

    >>> dashboard_words(client)  # doctest: +SKIP
    'dashboard at http://127.0.0.1:8787/status'
    """
    if while_connected(client, lambda: client.run_on_scheduler(has_dashboard)):
        return f"dashboard at {client.dashboard_link}"
    return "no dashboard (the scheduler was started without one, or bokeh is not installed where it runs)"


def has_dashboard(dask_scheduler: Any = None) -> bool:
    """Return whether this process, a scheduler's, has Dask's dashboard, an application of Bokeh."""
    return any("bokeh" in str(part).lower() for part in dask_scheduler.http_application.applications)
