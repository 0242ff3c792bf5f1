"""Check that workers on other machines find the files of this process and have the same stages.

They are checked at the start, and before every task.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Client

from deiii.data.cache.stages import get_stage, with_upstream
from deiii.data.cluster.on_workers import (
    REMEDY,
    SAME_VERSION,
    Defect,
    WorkerCheck,
    decoder_version,
    has_dashboard,
    imports,
    message_of,
    worker_defect,
)
from deiii.data.config.schema import Config
from deiii.data.tools.machine import source_digest
from deiii.data.tools.processes.dask_workers import ClusterError, while_connected
from deiii.data.tools.processes.made_folders import make_folder

SAME_SCHEDULER = (
    "start it in an environment with the same version of deiii and of its packages, with the command "
    "`dask scheduler` of that environment"
)
IMPORT_ERRORS = ("ModuleNotFoundError", "ImportError", "AttributeError")
PROBE = ".probe-{}.tmp"  # a name that `remove_temporary` removes
SAMPLE = 8  # media files that a worker must find when it is checked first


@contextmanager
def checked_workers(
    client: Client,
    config: Config,
    root: str,
    paths: Sequence[str] = (),
    folder: Path | None = None,
    modules: Sequence[str] = (),
) -> Iterator[WorkerCheck | None]:
    """Check the workers of other machines; in the block there is a file that they can check again.

    A worker that does not find the cache would write shards that are not found, one without the corpus
    would record every clip as missing, and one with another version of a stage would store its results as
    those of this version. Workers that are connected are checked at once, later ones with their first task.

    Args:
        client: client of the cluster.
        config: settings.
        root: the folder of the corpus, as workers find it.
        paths: the media files that will be read, relative to ``root``. Workers must find some of those that
            this process finds; without any, no file is compared.
        folder: where the file is written, a folder of the cache that no other command writes at this time;
            the cache folder itself if it is ``None``.
        modules: modules of the tasks, which workers must be able to import as well as those of the stages.

    Yields:
        what a worker checks before every task; ``None`` where all workers are on this machine.

    Raises:
        ClusterError: names the worker, its machine, the defect, and what to do.
    """
    if not config.scheduler and config.cluster.kind == "local":
        yield None
        return
    cache = Path(config.cache).resolve()
    name = PROBE.format(uuid.uuid4().hex)
    check = WorkerCheck(
        path=str((folder.resolve() if folder else cache) / name),
        token=uuid.uuid4().hex,
        root=root,
        versions=_versions(config),
        decoder=decoder_version(),
        modules=(*modules, *_modules(config)),
        files=sample_of(root, paths),
        cache=str(cache),
    )
    with _checked(client, check):
        yield check


@contextmanager
def checked_trainers(client: Client, config: Config) -> Iterator[WorkerCheck]:
    """Check workers that train runs, as `checked_workers` does.

    They need the same source code, read the cache and write beside ``train.run``. The paths are checked as
    they are given: what a run stores of its settings must not depend on who trains it.

    Raises:
        ClusterError: see `checked_workers`.
    """
    runs = Path(config.train.run).parent
    name = PROBE.format(uuid.uuid4().hex)
    check = WorkerCheck(
        path=str(Path(config.cache) / name),
        token=uuid.uuid4().hex,
        root="",
        versions=_versions(config),
        run=str(runs / name),
        code=source_digest(),
    )
    with _checked(client, check):
        yield check


def sample_of(root: str, paths: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Return path and size in bytes of up to `SAMPLE` evenly spaced media files that this process finds.

    >>> sample_of("/nothing/here", ["a.mp4", "b.mp4"])
    ()
    """
    number = min(SAMPLE, len(paths))
    found = []
    for path in (paths[n * len(paths) // number] for n in range(number)):
        with suppress(OSError, ValueError):  # it is missing here, too
            found.append((path, (Path(root) / path).stat().st_size))
    return tuple(found)


def _versions(config: Config) -> dict[str, int]:
    """Return the versions of the stages that the settings name, and of those upstream."""
    return {stage: get_stage(stage).version for stage in with_upstream(config.stages)}


def _modules(config: Config) -> tuple[str, ...]:
    """Return the modules that compute the stages on any worker.

    Those of a stage that can use a GPU are left out, because some workers may have none.
    """
    stages = [get_stage(name) for name in with_upstream(config.stages)]
    own = [stage for stage in stages if not stage.on_gpu(stage.section(config))]
    functions = [text for stage in own for text in (stage.work, stage.models) if text]
    return tuple(dict.fromkeys(text.partition(":")[0] for text in functions))


@contextmanager
def _checked(client: Client, check: WorkerCheck) -> Iterator[None]:
    """Write the files that workers must find, check the workers, and remove the files after the block."""
    probes = [Path(probe) for probe in (check.path, check.run) if probe]
    try:
        for probe in probes:
            make_folder(probe.parent)
            probe.write_text(check.token)
        check_workers(client, check)
        yield
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
        raise ClusterError(message_of(defects))


def explained(client: Client, check: WorkerCheck | None, error: BaseException) -> BaseException:
    """Return the error of a task (`checked_task`), in words where its worker lacks deiii.

    Such a worker connected after `check_workers`.

    Args:
        client: client of the cluster.
        check: the check of the task.
        error: what the task raised.

    Raises:
        ClusterError: names the worker, which is still connected.
    """
    if check is None or not _lacks_deiii(error):
        return error
    check_workers(client, check)
    return ClusterError(f"a worker that connected later cannot import deiii ({error}): {SAME_VERSION}")


def _lacks_deiii(error: BaseException) -> bool:
    """Return whether the call of a task could not be unpacked; `run_checked` itself raises ClusterError."""
    absent = isinstance(error, AttributeError) and "get attribute 'run_checked'" in str(error)
    return absent or isinstance(error, ImportError)


def _is_of_import(error: BaseException) -> bool:
    """Return whether a process lacks deiii, or has a version without the function that was asked for.

    A worker returns this error as the text in an ``Exception``.
    """
    return type(error).__name__ in IMPORT_ERRORS or str(error).startswith(
        tuple(f"{n}(" for n in IMPORT_ERRORS)
    )


def dashboard_words(client: Client) -> str:
    """Return where the dashboard of the scheduler is, or that it has none.

    Dask gives an address for a scheduler without a dashboard, too: its server has other pages.

    >>> dashboard_words(client)  # doctest: +SKIP
    'dashboard at http://127.0.0.1:8787/status'
    """
    if while_connected(client, lambda: client.run_on_scheduler(has_dashboard)):
        return f"dashboard at {client.dashboard_link}"
    return "no dashboard (the scheduler was started without one, or bokeh is not installed where it runs)"
