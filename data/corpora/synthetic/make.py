"""Draw the corpus into a folder, many clips at a time.

The folder holds ``<speaker>/<clip>.mp4``, ``clips.csv`` (path, speaker and labels) and, written
last, ``corpus.json`` with the settings. While it is being drawn, ``drawing.json`` holds the settings
instead, so that a run which was killed goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import check, clip_count, plan_clip
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE, render_voice
from deiii.data.corpora.synthetic.write import write_clip
from deiii.data.tools.atomic_files import remove_temporary, write_json, write_text
from deiii.data.tools.progress import progress_bar
from deiii.data.tools.signals import block_sigint

FORMAT = 1  # raise it when the same settings draw something else
CSV_FIELDS = ("id", "path", "speaker", "label", "valence", "arousal")
DONE, DRAWING, TABLE = "corpus.json", "drawing.json", "clips.csv"


def make(root: str | Path, config: SyntheticConfig, workers: int = 0, progress: bool = True) -> None:
    """Draw the corpus, or what is missing of it.

    Args:
        root: folder; made where it is missing.
        config: what to draw.
        workers: processes; 0 is one for each core. Clips do not depend on it.
        progress: show a progress bar on stderr.

    Raises:
        CorpusError: where the folder holds a corpus drawn with other settings. Nothing is removed.
        ValueError: for settings that cannot be drawn.

    >>> make("raw/synthetic", SyntheticConfig(speakers=4))  # doctest: +SKIP
    """
    root = Path(root)
    check(config)
    settings = describe(config)
    _refuse_other(root, settings)
    plans = [plan_clip(config, n) for n in range(clip_count(config))]
    paths = {plan.index: root / f"{plan.id}.mp4" for plan in plans}
    missing = [n for n, path in paths.items() if not path.is_file()]
    if not missing and (root / DONE).is_file() and (root / TABLE).is_file():
        return

    for folder in {path.parent for path in paths.values()}:
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary(folder)
    write_json(root / DRAWING, settings)
    (root / DONE).unlink(missing_ok=True)
    draw = partial(draw_clip, str(root), config)
    workers = min(workers or len(os.sched_getaffinity(0)), len(missing))
    with progress_bar(desc="drawing", unit="clip", total=len(missing), shown=progress) as bar:
        if workers <= 1:
            for n in missing:
                draw(n)
                bar.update()
        else:
            # Spawned, not forked: the caller may hold threads (PyTorch, Dask).
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(
                workers, mp_context=spawn, initializer=cv2.setNumThreads, initargs=(1,)
            ) as pool:
                with block_sigint():
                    drawn = pool.map(draw, missing)
                for _ in drawn:
                    bar.update()

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_FIELDS)
    for p in plans:
        table.writerow([p.id, f"{p.id}.mp4", p.speaker.name, p.label, f"{p.valence:.6f}", f"{p.arousal:.6f}"])
    write_text(root / TABLE, text.getvalue())
    write_json(root / DONE, settings)
    (root / DRAWING).unlink(missing_ok=True)


def draw_clip(root: str, config: SyntheticConfig, index: int) -> None:
    """Draw one clip's file; runs in a worker process."""
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
    """What ``corpus.json`` says of a corpus drawn with these settings."""
    return {"corpus": "synthetic", "format": FORMAT, "settings": asdict(config), "clips": clip_count(config)}


def differences(found: Any, wanted: dict[str, Any]) -> str:
    """In words, how a ``corpus.json`` differs from the wanted one; empty where it does not."""
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        return "it is not a description of a drawn corpus"
    if found.get("format") != wanted["format"]:
        return f"format={found.get('format')}, not {wanted['format']}: another version of the project drew it"
    have = found["settings"]
    return ", ".join(f"{k}={have.get(k)}, not {v}" for k, v in wanted["settings"].items() if have.get(k) != v)


def read_description(path: Path) -> Any:
    """A ``corpus.json``.

    Raises:
        CorpusError: where it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{path} is not valid JSON ({error}); remove the folder and draw it again"
        ) from None


def _refuse_other(root: Path, settings: dict[str, Any]) -> None:
    for name in (DONE, DRAWING):
        if (root / name).is_file():
            other = differences(read_description(root / name), settings)
            if other:
                raise CorpusError(
                    f"{root} holds a drawn corpus with other settings ({other}); "
                    "remove that folder or choose another corpus.root"
                )
