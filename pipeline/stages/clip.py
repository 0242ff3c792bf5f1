"""One clip of one stage, with the models of this process; trouble becomes the clip's outcome."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deiii.data.cache.outcomes import MACHINE_TROUBLE, ClipError, Outcome, StageResult, Status
from deiii.data.cache.stages import Stage, get_stage, import_function
from deiii.data.config.load import parse_config
from deiii.data.config.schema import Config
from deiii.data.tools.malloc import keep_freed_memory


def run_clip(stage: str, path: str, config: Config) -> StageResult:
    """What a stage that reads media files stores of one. Trouble with the clip becomes its outcome.

    Args:
        stage: name of the stage; one without a stage upstream.
        path: the media file.
        config: settings.
    """
    spec = get_stage(stage)
    work = import_function(spec.work)
    try:
        return work(path, spec.section(config), *loaded_models(spec, config))
    except ClipError as error:
        return StageResult(error.outcome)
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            return StageResult(_unexpected(error))
        reason = (
            f"decoding it asked for more than {config.clip_memory_gb:g} GiB (clip_memory_gb) or than there "
            "is; re-encode it at a smaller size, or raise the limit and run with retry=true"
        )
        return StageResult(Outcome(Status.OUT_OF_MEMORY, reason, 0.0))
    except OSError as error:
        if error.errno in MACHINE_TROUBLE:
            raise
        return StageResult(Outcome(Status.UNREADABLE, f"{type(error).__name__}: {error}", 0.0))
    except Exception as error:  # one strange file must not end the run; its trouble is recorded
        return StageResult(_unexpected(error))


def _unexpected(error: Exception) -> Outcome:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    reason = f"unexpected {type(error).__name__} at {place}: {error}; please report it with the file"
    return Outcome(Status.UNREADABLE, reason, 0.0)


def run_downstream(
    stage: str, clips: Iterable[Mapping[str, np.ndarray]], config: Config
) -> Iterator[StageResult]:
    """What a stage that reads another stage's arrays stores of clips, in their order.

    Args:
        stage: name of the stage; one with a stage upstream.
        clips: arrays by field that the stage upstream stored of each clip; they may be memory maps.
        config: settings.
    """
    spec = get_stage(stage)
    return iter(import_function(spec.work)(clips, spec.section(config), *loaded_models(spec, config)))


def inherited(stage: str, outcome: Outcome) -> StageResult:
    """The result of a clip that the stage upstream has no arrays of: that stage's outcome and reason."""
    upstream = get_stage(stage).upstream
    lacking = get_stage(upstream).product if upstream else "arrays"
    return StageResult(Outcome(outcome.status, f"no {lacking}: {outcome.reason}", 0.0))


def load_models(stage: str, config: Config) -> None:
    """Load what a stage needs into this process, so that missing or wrong weights end a run at its start."""
    loaded_models(get_stage(stage), config)


@lru_cache(maxsize=2)
def load_settings(settings: str) -> Config:
    """The configuration from its YAML text."""
    return parse_config(settings)


_loaded: dict[str, tuple[str, Any]] = {}  # by stage: settings and the models loaded for them
_loading = threading.Lock()


def loaded_models(stage: Stage, config: Config) -> tuple[Any, ...]:
    """A stage's models under these settings, loaded once a process; nothing where it has none."""
    if stage.models is None:
        return ()
    section = stage.section(config)
    with _loading:
        held = _loaded.get(stage.name)
        if held is None or held[0] != repr(section):
            _loaded.pop(stage.name, None)  # the old models' memory is free before new ones are loaded
            held = _loaded[stage.name] = repr(section), import_function(stage.models)(section)
    return (held[1],)


def settle_process() -> None:
    """One thread a worker process: workers share the cores, and one order of sums gives one result.

    Freed memory stays with it, which makes flow on a CPU half as fast again.
    """
    cv2.setNumThreads(1)
    keep_freed_memory()
