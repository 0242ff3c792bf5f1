"""Run one stage on one clip with the models of this process; errors become the outcome of the clip."""

from __future__ import annotations

import errno
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import av.error
import cv2
import numpy as np

from deiii.data.cache.outcomes import (
    MAY_BE_TEMPORARY,
    MAYBE_MACHINE,
    ClipError,
    Outcome,
    StageResult,
    Status,
    is_machine_trouble,
)
from deiii.data.cache.stage import Together
from deiii.data.cache.stages import Stage, get_stage, import_function
from deiii.data.config.load import parse_config
from deiii.data.config.schema import Config
from deiii.data.tools.compilation.librosa_loading import load_parts
from deiii.data.tools.os_errors import library_words
from deiii.data.tools.processes.malloc import keep_freed_memory
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.data.tools.weights import resolve
from deiii.pipeline.stages.first_clips import MachineFault
from deiii.pipeline.stages.limits import little_is_left, memory_of_worker, memory_ran_out


def run_clip(stage: str, path: str, config: Config, corruption: str = "") -> StageResult:
    """Run a stage that reads media files on one file.

    Args:
        stage: name of the stage; it has no stage upstream.
        path: the media file.
        config: settings.
        corruption: what is done to the file first (`deiii.pipeline.corrupt.kinds`); empty for nothing.

    Returns:
        the outcome and the arrays to store; errors of the clip become its outcome.

    Raises:
        OSError: errors of the machine, such as a full disk (`deiii.data.cache.outcomes.MACHINE_TROUBLE`).

    >>> run_clip("logmel", "a.mp4", Config()).outcome.status  # doctest: +SKIP
    <Status.OK: 'ok'>
    """
    spec = get_stage(stage)
    work = import_function(spec.work)
    try:
        models = loaded_models(spec, config)
        with _changed(path, corruption) as file:
            if spec.together is None:
                return work(file, spec.section(config), *models)
            read = work(file, spec.section(config))
        return compute_alone(stage, read.arrays, config) if read.outcome.usable else read
    except Exception as error:  # one unusual file must not end the run; the error is recorded
        return failure(error, config)


def read_clip(stage: str, path: str, config: Config, corruption: str = "") -> StageResult:
    """Read one file for a stage that computes clips together (`Stage.together`); the models are not needed.

    Args:
        stage, path, config, corruption: as for `run_clip`.

    Returns:
        the arrays that the stage computes with; an outcome that is not usable is that of the clip.

    Raises:
        OSError: errors of the machine, as in `run_clip`.
    """
    spec = get_stage(stage)
    work = import_function(spec.work)
    try:
        with _changed(path, corruption) as file:
            return work(file, spec.section(config))
    except Exception as error:
        return failure(error, config)


def start_together(stage: str, config: Config) -> Together:
    """Return a new object that computes clips of a stage together, with the models of this process.

    Raises:
        ValueError: the stage does not compute clips together.
    """
    spec = get_stage(stage)
    if spec.together is None:
        raise ValueError(f"stage {stage} does not compute clips together")
    return import_function(spec.together)(spec.section(config), *loaded_models(spec, config))


def compute_alone(stage: str, arrays: Mapping[str, np.ndarray], config: Config) -> StageResult:
    """Return the result of one clip of a stage that computes clips together; errors become its outcome.

    Args:
        stage: name of the stage.
        arrays: what `read_clip` returned.
        config: settings.

    Raises:
        OSError: errors of the machine, as in `run_clip`.
    """
    try:
        clips = start_together(stage, config)
        (result,) = [*clips.add(arrays), *clips.rest()]
    except Exception as error:
        return failure(error, config)
    return result


def failure(error: Exception, config: Config) -> StageResult:
    """Return the result of a clip on which its stage raised an error; call it where the error is handled.

    Raises:
        OSError: it is an error of the machine.
    """
    if isinstance(error, ClipError):
        return StageResult(error.outcome)
    if isinstance(error, MemoryError):
        return StageResult(_out_of_memory(config))
    if isinstance(error, OSError):
        if is_machine_trouble(error):
            raise error
        of_ffmpeg = isinstance(error, av.error.FFmpegError)
        if error.errno == errno.ENOMEM and not of_ffmpeg and little_is_left(config.clip_memory_gb):
            return StageResult(_out_of_memory(config, error))
        text = f"{type(error).__name__}: {error}"
        # FFmpeg reports damaged files with some of the same numbers, so its own errors are left out.
        if error.errno in MAYBE_MACHINE and not of_ffmpeg:
            named = f"{type(error).__name__} {error.errno}"
            return StageResult(Outcome(Status.FAILED, f"{text}; {MAY_BE_TEMPORARY}", 0.0, named))
        return StageResult(Outcome(Status.UNREADABLE, text, 0.0))
    no_memory = isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem
    if no_memory or memory_ran_out(error, config.clip_memory_gb):
        return StageResult(_out_of_memory(config, error))
    return StageResult(_unexpected(error))


def _changed(path: str, corruption: str) -> AbstractContextManager[str]:
    """Return a context with the path of the file that a stage is to read."""
    if not corruption:
        return nullcontext(path)
    from deiii.pipeline.corrupt.write import corrupted_copy  # predictions do not need it

    return corrupted_copy(path, corruption)


def _out_of_memory(config: Config, error: Exception | None = None) -> Outcome:
    """Return the outcome of a clip that needs too much memory; ``error`` is a consequence of that."""
    found = f" (it ended with {type(error).__name__}: {str(error)[:200]})" if error else ""
    limit = setting = "clip_memory_gb"
    if config.clip_memory_gb >= memory_of_worker(config):
        setting = "cluster.memory_gb"
        limit = f"{setting}={config.cluster.memory_gb:g} less what a worker needs itself"
    reason = (
        f"decoding it needs more than {config.clip_memory_gb:g} GiB ({limit}), or more than is free{found}; "
        f"re-encode it at a smaller size, or raise {setting} and run with retry=true"
    )
    return Outcome(Status.OUT_OF_MEMORY, reason, 0.0)


def _unexpected(error: Exception) -> Outcome:
    """Return the outcome of a clip for which deiii raised an unexpected exception."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    reason = (
        f"unexpected {type(error).__name__} at {place}: {error}; the next run tries again; "
        "if it stays, please report it with the file"
    )
    return Outcome(Status.FAILED, reason, 0.0, f"{type(error).__name__} at {where.filename}:{where.lineno}")


def run_downstream(
    stage: str, clips: Iterable[Mapping[str, np.ndarray]], config: Config
) -> Iterator[StageResult]:
    """Run a stage that reads the arrays of another stage; yields the results of the clips in their order.

    Args:
        stage: name of the stage; it has a stage upstream.
        clips: the arrays by field that the stage upstream stored for each clip; they may be memory maps.
        config: settings.
    """
    spec = get_stage(stage)
    return iter(import_function(spec.work)(clips, spec.section(config), *loaded_models(spec, config)))


def inherited(stage: str, outcome: Outcome) -> StageResult:
    """Return the result of a clip for which the stage upstream stored no arrays: its outcome and reason."""
    upstream = get_stage(stage).upstream
    lacking = get_stage(upstream).product if upstream else "arrays"
    return StageResult(Outcome(outcome.status, f"no {lacking}: {outcome.reason}", 0.0))


def load_models(stage: str, config: Config) -> None:
    """Load the models of a stage into this process, so that wrong weights end a run at its start.

    Raises:
        MachineFault: if the stage's code, or a library that it or its models need, cannot be imported.
        WeightsError: if its weights cannot be found or are damaged.
    """
    spec = get_stage(stage)
    _import_stage(spec)
    try:
        loaded_models(spec, config)
    except ImportError as error:
        raise _cannot_start(stage, error) from error


def check_models(stage: str, config: Config) -> None:
    """Check what `load_models` would check, without loading the models: they may be what ends a process.

    Raises:
        MachineFault: if the stage's code, or a library that it needs, cannot be imported.
        WeightsError: if its weights cannot be found.
    """
    spec = get_stage(stage)
    _import_stage(spec)
    try:
        if spec.models is not None:
            import_function(spec.models)
        needed = spec.weights(spec.section(config))
    except ImportError as error:
        raise _cannot_start(stage, error) from error
    if needed is not None:
        resolve(needed.given, needed.default)


def _import_stage(spec: Stage) -> None:
    """Import the code of a stage. Raises MachineFault if that fails."""
    try:
        import_function(spec.work)
        if spec.together is not None:
            import_function(spec.together)
        if spec.modality == "audio":
            load_parts()
    except (ImportError, OSError, RuntimeError) as error:
        raise _cannot_start(spec.name, error) from error


def _cannot_start(stage: str, error: BaseException) -> MachineFault:
    """Return the error for a stage whose code, or a library that it needs, cannot be imported."""
    why = library_words(error) or (
        f"{type(error).__name__}: {error}; this is a fault of the installation or the machine, not of a "
        "clip: `deiii doctor` looks for it; where no folder for compiled code can be written, set "
        "NUMBA_CACHE_DIR to one that can"
    )
    return MachineFault(f"stage {stage} cannot start: {why}")


@lru_cache(maxsize=2)
def load_settings(settings: str) -> Config:
    """Parse the settings from YAML text; the last two results are kept."""
    return parse_config(settings)


_loaded: dict[str, tuple[str, Any]] = {}  # settings and the models loaded for them, keyed by stage
_loading = threading.Lock()


def loaded_models(stage: Stage, config: Config) -> tuple[Any, ...]:
    """Return the models of a stage for these settings, loaded once per process; empty if it has none."""
    if stage.models is None:
        return ()
    section = stage.section(config)
    with _loading:
        held = _loaded.get(stage.name)
        if held is None or held[0] != repr(section):
            _loaded.pop(stage.name, None)  # free the old models before new ones are loaded
            with usual_defaults():
                held = _loaded[stage.name] = repr(section), import_function(stage.models)(section)
    return (held[1],)


def settle_process() -> None:
    """Configure a worker process: OpenCV uses one thread, and freed memory stays in the process.

    Workers share the cores, and with one thread the order of sums, and so the result, is always the same.
    Keeping freed memory makes flow on a CPU faster.
    """
    cv2.setNumThreads(1)
    keep_freed_memory()
