"""Measure the time of the evaluation of a run with its page, and that of opening the overview of a corpus.

    python -m benchmarks.evaluation_page [--test 1500] [--overview 10000] [--runs 3]

The goals: ``deiii evaluate RUN``, which scores the test clips and writes ``report.html``, takes less than 3
minutes on two cores, with a test fold of CREMA-D's size (about 1,500 clips). The overview page of 10,000
clips has less than 5 MB, and Chromium opens it in less than 2 s.

Both corpora are caches of synthetic clips without media files (`benchmarks.feature_cache`): 20 speakers, of
whom 15 are tested, clips of 60 frames of 72 px as with `configs/tiny.yaml`, whose network is trained for one
epoch. ``evaluate_s`` is the whole command, from the start of Python to its end. ``overview_write_s`` is
the time of writing the page. ``open_s`` is the time in which headless Chromium starts, opens the page,
runs its script and prints the document, and ``open_empty_s`` that of an empty page. The two take turns.
Medians are reported, and all values are printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.feature_cache import MADE_FROM, open_cache
from benchmarks.machine import made_by
from deiii.data.cache.identity import find_corpus
from deiii.data.cache.recipes import recipes
from deiii.data.config.words import read_settings
from deiii.pipeline.overview.page import write_overview

SPEAKERS, TESTED = 20, 15
SIZE = 72  # px of the crops, as in configs/tiny.yaml
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --dump-dom"
).split()
EMPTY = "<!doctype html><title>empty</title>"


def settings(root: Path) -> list[str]:
    """Return the settings of a cache in a folder; no stage needs weights."""
    more = ["faces.detector=haar", "flow.method=dis", "train.epochs=1", f"train.run={root / 'run'}"]
    split = [f"split.protocol={root / 'protocol.yaml'}", "split.val_share=0.4"]
    return ["tiny", f"cache={root}", f"corpus.root={MADE_FROM}", *more, *split]


def write_protocol(path: Path) -> None:
    """Write a protocol of which the first fold tests 15 of the 20 speakers."""
    names = [f"s{number:02d}" for number in range(SPEAKERS)]
    folds = [names[:TESTED], names[TESTED:]]
    lines = ["name: most", "about: most speakers are tested", "kind: fixed", "validation: speakers", "folds:"]
    path.write_text("\n".join([*lines, *(f"- [{', '.join(fold)}]" for fold in folds), ""]), encoding="utf-8")


def timed(words: Sequence[str], stderr: int | None = None) -> float:
    """Return the seconds that a process takes."""
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=stderr)
    return time.perf_counter() - started


def deiii(command: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "deiii", command, *words, "--quiet"]


def make_cache(root: Path, clips: int, frames: int) -> list[str]:
    """Write a cache that the commands read, and its protocol; returns its settings."""
    root.mkdir()
    write_protocol(root / "protocol.yaml")
    words = settings(root)
    keys = {stage: recipe.key for stage, recipe in recipes(read_settings(words)).items()}
    open_cache(root, clips, frames, SIZE, SPEAKERS, keys)
    return words


def evaluation(root: Path, tested: int, frames: int, runs: int) -> dict[str, Any]:
    """Return the times of ``deiii evaluate`` and the size of its page."""
    words = make_cache(root, tested * SPEAKERS // TESTED, frames)
    subprocess.run(deiii("train", *words), check=True)
    times = [timed(deiii("evaluate", str(root / "run"), "--again")) for _ in range(runs)]
    metrics = json.loads((root / "run/metrics.json").read_text(encoding="utf-8"))
    size = (root / "run/report.html").stat().st_size
    print("evaluate  " + " ".join(f"{t:.1f}" for t in times) + " s", flush=True)
    scored = metrics["clips"]["test"]["scored"]
    return {"evaluate_s": round(statistics.median(times), 1), "evaluate_clips": scored,
            "frames": frames, "report_mb": round(size / 1e6, 2)}  # fmt: skip


def overview(root: Path, clips: int, frames: int, runs: int) -> dict[str, Any]:
    """Return the time of ``deiii overview``, the size of its page, and the time of opening it."""
    words, page, empty = make_cache(root, clips, frames), root / "overview.html", root / "empty.html"
    empty.write_text(EMPTY, encoding="utf-8")
    config = read_settings(words)
    started = time.perf_counter()
    write_overview(config, find_corpus(config), page)  # the command would look for the media files first
    wrote = time.perf_counter() - started
    found = {
        "overview_clips": clips, "overview_write_s": round(wrote, 1),
        "overview_mb": round(page.stat().st_size / 1e6, 2),
    }  # fmt: skip
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"none of {', '.join(BROWSERS)} is installed; the page was not opened")
        return found | {"browser": None}
    times: dict[Path, list[float]] = {page: [], empty: []}
    for _ in range(runs + 1):
        for path, values in times.items():
            profile = f"--user-data-dir={root / 'profile'}"
            words = [browser, *FLAGS, profile, path.as_uri()]
            values.append(timed(words, subprocess.DEVNULL))  # it prints errors where there is no desktop
    for path, values in times.items():
        del values[0]  # the first start makes the profile
        print(f"{path.name:14s} " + " ".join(f"{t:.2f}" for t in values) + " s", flush=True)
    version = subprocess.run([browser, "--version"], check=True, capture_output=True, text=True).stdout
    return found | {
        "open_s": round(statistics.median(times[page]), 2),
        "open_empty_s": round(statistics.median(times[empty]), 2), "browser": version.strip(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m benchmarks.evaluation_page", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--test", type=int, default=1500, help="test clips (default: 1500)")
    parser.add_argument("--overview", type=int, default=10_000, help="clips of the overview (default: 10000)")
    parser.add_argument("--frames", type=int, default=60, help="frames of a test clip (default: 60)")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        result: dict[str, Any] = {"bench": "evaluation_page", "runs": options.runs}
        result |= evaluation(folder / "evaluation", options.test, options.frames, options.runs)
        result |= overview(folder / "overview", options.overview, 10, options.runs)
        print("RESULT " + json.dumps(result | made_by()))


if __name__ == "__main__":
    main()
