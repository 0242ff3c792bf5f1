"""Generate the synthetic corpus in a folder, several clips at a time.

The folder holds ``<speaker>/<clip>.mp4``, ``clips.csv`` (path, speaker and labels) and, written last,
``corpus.json`` with the settings. Until the corpus is complete, ``drawing.json`` holds the settings instead,
so that a run that was killed continues where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import ClipPlan, check, clip_count, plan_clip
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE, render_voice
from deiii.data.corpora.synthetic.write import write_clip
from deiii.data.tools.atomic_files import remove_temporary, write_json, write_text
from deiii.data.tools.machine import usable_cores
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.processes.main_guard import refuse_in_worker
from deiii.data.tools.processes.pool import start_tasks, worker_pool
from deiii.data.tools.progress import progress_bar, say
from deiii.data.tools.text.csv_text import csv_text
from deiii.data.tools.writer_lock import writer_lock

FORMAT = 1  # raised when the same settings give other clips of all tasks
LATER = {"binding": 1}  # changes of one task alone, added to `FORMAT`; 1: a coin decides each cell's colour
CSV_FIELDS = ("id", "path", "speaker", "label", "valence", "arousal")
DONE = "corpus.json"  # settings of a complete corpus
STARTED = "drawing.json"  # settings of a corpus that is not complete yet
TABLE = "clips.csv"


def make(root: str | Path, config: SyntheticConfig, workers: int = 0, progress: bool = True) -> None:
    """Generate the corpus, or the clips that are missing of it.

    A process that finds another one generating into the folder waits for it.

    Args:
        root: folder to write; created if it does not exist.
        config: what to generate.
        workers: number of processes; 0 starts one for each core. Clips do not depend on it.
        progress: show a progress bar on stderr.

    Raises:
        CorpusError: the folder holds a synthetic corpus with other settings, or files but no synthetic
            corpus, or settings are out of range. Nothing is written or removed.

    >>> make("raw/synthetic", SyntheticConfig(speakers=4))  # doctest: +SKIP
    """
    refuse_in_worker()
    root = Path(root)
    check(config)
    settings = describe(config)
    _refuse_other(root, settings)
    plans = [plan_clip(config, n) for n in range(clip_count(config))]
    if _is_complete(root, plans):
        return
    with writer_lock(root, say):
        _refuse_other(root, settings)  # another run may have begun its own corpus before the lock was free
        if _is_complete(root, plans):
            return
        _make(root, config, plans, workers, progress)


def _is_complete(root: Path, plans: Sequence[ClipPlan]) -> bool:
    """Return whether the folder holds the corpus with all its clips."""
    return not _missing(root, plans) and (root / DONE).is_file() and (root / TABLE).is_file()


def _missing(root: Path, plans: Sequence[ClipPlan]) -> list[int]:
    """Return the numbers of the clips that have no file."""
    return [plan.index for plan in plans if not (root / f"{plan.id}.mp4").is_file()]


def _make(
    root: Path, config: SyntheticConfig, plans: Sequence[ClipPlan], workers: int, progress: bool
) -> None:
    """Render what is missing of a corpus; the lock of its folder is held."""
    settings = describe(config)
    missing = _missing(root, plans)
    for folder in {(root / f"{plan.id}.mp4").parent for plan in plans}:
        make_folder(folder)
        remove_temporary(folder)
    write_json(root / STARTED, settings)
    (root / DONE).unlink(missing_ok=True)
    render = partial(render_clip, str(root), config)
    workers = min(workers or usable_cores(), len(missing))
    with progress_bar(desc="synthetic corpus", unit="clip", total=len(missing), shown=progress) as bar:
        if workers <= 1:
            for n in missing:
                render(n)
                bar.update()
        else:
            _render_in_pool(render, missing, workers, bar.update)

    write_text(root / TABLE, _table(plans))
    write_json(root / DONE, settings)
    (root / STARTED).unlink(missing_ok=True)


def _render_in_pool(
    render: Callable[[int], None], numbers: Sequence[int], workers: int, finished: Callable[[], object]
) -> None:
    """Render clips in worker processes, and call ``finished`` after each clip.

    Raises:
        BrokenProcessPool: a worker ended, for example because memory ran out.
    """
    with worker_pool(workers, cv2.setNumThreads, (1,)) as pool:
        for clip in start_tasks(pool, render, numbers):
            clip.result()
            finished()


def _table(plans: Sequence[ClipPlan]) -> str:
    """Return the text of ``clips.csv``."""
    rows = [
        [p.id, f"{p.id}.mp4", p.speaker.name, p.label, f"{p.valence:.6f}", f"{p.arousal:.6f}"] for p in plans
    ]
    return csv_text([CSV_FIELDS, *rows])


def render_clip(root: str, config: SyntheticConfig, index: int) -> None:
    """Render and write the file of one clip; runs in a worker process.

    Args:
        root: folder of the corpus.
        config: settings of the corpus.
        index: the clip's number, counted from 0.
    """
    plan = plan_clip(config, index)
    write_clip(
        Path(root) / f"{plan.id}.mp4",
        render_frames(plan),
        plan.fps,
        render_voice(plan),
        SAMPLE_RATE,
        plan.quantiser,
    )


def describe(config: SyntheticConfig) -> dict[str, Any]:
    """Return the content of ``corpus.json`` for these settings."""
    return {
        "corpus": "synthetic",
        "format": FORMAT + LATER.get(config.task, 0),
        "settings": asdict(config),
        "clips": clip_count(config),
    }


def differences(found: Any, wanted: dict[str, Any]) -> str:
    """Return how a ``corpus.json`` differs from the wanted one, in words; empty if it does not."""
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        return "its corpus.json does not describe a synthetic corpus"
    if found.get("format") != wanted["format"]:
        return f"format={found.get('format')}, not {wanted['format']}: from another version of deiii"
    have = found["settings"]
    return ", ".join(f"{k}={have.get(k)}, not {v}" for k, v in wanted["settings"].items() if have.get(k) != v)


def read_description(path: Path) -> Any:
    """Read a ``corpus.json``. Raises CorpusError if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{path} is not valid JSON ({error}); remove its folder and run `deiii synthesize`"
        ) from None


def _refuse_other(root: Path, settings: dict[str, Any]) -> None:
    """Raise CorpusError if the folder holds a corpus with other settings, or files of somebody else."""
    begun = any((root / name).is_file() for name in (DONE, STARTED))
    files = (path for path in root.rglob("*") if not path.name.startswith(".") and path.is_file())
    if not begun and (foreign := next(files, None)) is not None:
        raise CorpusError(
            f"{root} holds other files, such as {foreign.relative_to(root)}, and corpus.name=synthetic asks "
            "for a synthetic corpus there; nothing was written. For recordings of your own, name their "
            f"config, which `deiii init {shlex.quote(str(root))}` writes; for the synthetic corpus, choose "
            "an empty folder with corpus.root=FOLDER"
        )
    for name in (DONE, STARTED):
        if (root / name).is_file():
            other = differences(read_description(root / name), settings)
            if other:
                raise CorpusError(
                    f"{root} holds a synthetic corpus with other settings ({other}); "
                    "remove that folder or choose another corpus.root"
                )
