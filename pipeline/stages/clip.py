"""One clip of one stage, with the models of this process; trouble becomes the clip's outcome."""

from __future__ import annotations

import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2

from deiii.data.cache.outcomes import MACHINE_TROUBLE, ClipError, Outcome, StageResult, Status
from deiii.data.config.load import parse_config, to_yaml
from deiii.data.config.schema import Config
from deiii.data.tools.malloc import keep_freed_memory


def run_clip(stage: str, path: str, config: Config) -> StageResult:
    """The faces or log-mel of one media file. Trouble with the clip becomes its outcome."""
    try:
        if stage == "faces":
            from deiii.pipeline.faces.stage import extract_faces

            return extract_faces(path, config.faces, _detector(to_yaml(config)))
        from deiii.pipeline.logmel.stage import extract_logmel

        return extract_logmel(path, config.logmel)
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


def load_models(stage: str, config: Config) -> None:
    """Load what a stage needs into this process, so that missing or wrong weights end a run at its start."""
    if stage == "faces":
        _detector(to_yaml(config))
    elif stage == "flow":
        flow_engine(config)


@lru_cache(maxsize=2)
def load_settings(settings: str) -> Config:
    """The configuration from its YAML text."""
    return parse_config(settings)


@lru_cache(maxsize=1)
def _detector(settings: str) -> Any:
    from deiii.pipeline.faces.stage import load_detector

    return load_detector(load_settings(settings).faces)


def flow_engine(config: Config) -> Any:
    """The flow engine of these settings, loaded once a process."""
    return _engine(to_yaml(config))


@lru_cache(maxsize=1)
def _engine(settings: str) -> Any:
    from deiii.pipeline.flow.stage import load_engine

    return load_engine(load_settings(settings).flow)


def settle_process() -> None:
    """One thread a worker process: workers share the cores, and one order of sums gives one result.

    Freed memory stays with it, which makes flow on a CPU half as fast again.
    """
    cv2.setNumThreads(1)
    keep_freed_memory()
