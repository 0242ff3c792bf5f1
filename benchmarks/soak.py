"""Soak: does preprocessing thousands of clips keep its memory flat and leave nothing behind?

Draws a few small clips, links them as a corpus of thousands, preprocesses it with the real command
and looks at every one of its processes once a second: memory of its own, open files. Flat means that
the median over the run's last quarter is hardly above that over its second quarter. Afterwards
nothing of it may be left: no process, no temporary file, no file in the cache that a run did not finish.

    python -m benchmarks.soak                    # 5,000 clips, some ten minutes on two cores
    python -m benchmarks.soak --clips 500
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil
from tqdm import tqdm

from deiii.data.cache.index import read_index
from deiii.data.cache.integrity import verify
from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic import make

UNIQUE = SyntheticConfig(speakers=4, clips_per_class=2, seconds=0.8, fps=12.5, size=96)  # 64 clips
GROWTH = 0.05  # a share of memory that is noise
GROWTH_MB = 15
DASKS_OWN = {"global.lock", "purge.lock"}  # of the folder that all Dask workers of a machine share


@dataclass
class Look:
    """One look at one process."""

    at: float
    megabytes: float
    files: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        root, cache, temporary = (Path(folder) / name for name in ("raw", "cache", "tmp"))
        temporary.mkdir()
        link_corpus(Path(folder) / "drawn", root, args.clips)
        command = preprocess_command(root, cache, args.workers)
        looks, code, output, survivors = watch(command, args.clips, cache, temporary)
        if code:
            print(output[-2000:])
            return 1
        checked, findings = verify(cache)
        left = [p.name for p in cache.rglob("*") if p.name.endswith((".tmp", ".damaged"))]
        left += [p.name for p in temporary.rglob("*") if p.is_file() and p.name not in DASKS_OWN]
        outcomes = sum(len(read_index(p.parent).clips) for p in cache.glob("*/*-*/index.json"))
    return report(args, looks, checked, len(findings), outcomes, survivors, left)


def link_corpus(drawn: Path, root: Path, clips: int) -> None:
    """A corpus of many clips that are hard links to a few."""
    make(drawn, UNIQUE)
    unique = sorted(drawn.rglob("*.mp4"))
    rows = []
    for n in range(clips):
        path = root / f"s{n % 50:02d}/{n:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(unique[n % len(unique)], path)
        rows.append(f"{path.relative_to(root)},s{n % 50:02d},{'ab'[n % 2]}")
    (root / "clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")


def preprocess_command(root: Path, cache: Path, workers: int) -> list[str]:
    settings = ["corpus.name=table", f"corpus.root={root}", f"cache={cache}", "faces.size=64", "max_failed=1"]
    return [sys.executable, "-m", "deiii", "preprocess", *settings, f"workers={workers}"]


def watch(
    command: list[str], clips: int, cache: Path, temporary: Path
) -> tuple[dict[str, list[Look]], int, str, int]:
    """Run the command in a session of its own and look at each of its processes once a second.

    Returns:
        looks by process (``main``, ``worker 1``, ...), exit status, output, processes that outlive it.
    """
    looks: dict[str, list[Look]] = defaultdict(list)
    names: dict[int, str] = {}
    with tempfile.TemporaryFile("w+") as output, tqdm(total=3 * clips, unit="clip", desc="soak") as bar:
        environment = {**os.environ, "TMPDIR": str(temporary)}
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, env=environment
        )
        begun, done = time.monotonic(), 0
        while process.poll() is None:
            for one in _session(process.pid):
                try:
                    words = " ".join(one.cmdline())
                    if one.pid == process.pid:
                        names[one.pid] = "main"
                    elif "spawn_main" in words:
                        names.setdefault(one.pid, f"worker {len(names)}")
                    else:
                        continue
                    look = Look(time.monotonic() - begun, one.memory_full_info().uss / 2**20, one.num_fds())
                    looks[names[one.pid]].append(look)
                except psutil.Error:
                    continue
            now = len(list(cache.glob("*/*-*/*.h5"))) * 16
            bar.update(max(0, min(now, 3 * clips) - done))
            done = max(done, now)
            time.sleep(1)
        time.sleep(2)
        output.seek(0)
        return looks, process.returncode, output.read(), len(_session(process.pid))


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        try:
            if os.getsid(one.pid) == leader and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except (OSError, psutil.Error):
            continue
    return found


def quarters(looks: list[Look]) -> tuple[Look, Look]:
    """Medians over a process's second quarter (all is loaded by then) and over its last."""
    n = len(looks)
    parts = looks[n // 4 : n // 2], looks[-max(1, n // 4) :]
    medians = [
        Look(p[-1].at, statistics.median(x.megabytes for x in p), statistics.median(x.files for x in p))
        for p in parts
    ]
    return medians[0], medians[1]


def report(args, looks, checked: int, findings: int, outcomes: int, survivors: int, left) -> int:
    """The table and the last line; the exit status."""
    print("medians       looks   MB in 2nd quarter   MB in last   files in 2nd   files in last")
    flat, growth, seconds = True, 0.0, 0.0
    for name, series in sorted(looks.items()):
        if len(series) < 8:
            continue
        early, late = quarters(series)
        grown = late.megabytes - early.megabytes
        flat &= grown <= max(GROWTH_MB, GROWTH * early.megabytes) and late.files <= early.files + 2
        growth, seconds = max(growth, grown), max(seconds, series[-1].at)
        print(
            f"{name:12} {len(series):6} {early.megabytes:19.1f} {late.megabytes:12.1f} "
            f"{early.files:14.0f} {late.files:15.0f}"
        )
    print(f"{checked} shards verified, {findings} findings; {outcomes} outcomes recorded")
    print(f"left behind: {survivors} processes, {len(left)} files {left[:5] or ''}")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    good = flat and not (findings or survivors or left) and outcomes == 3 * args.clips
    figures = {
        "bench": "soak", "clips": args.clips, "seconds": round(seconds), "flat": flat,
        "growth_mb": round(growth, 1), "leaked_processes": survivors,
        "leaked_files": len(left), "lost": 3 * args.clips - outcomes,
    }  # fmt: skip
    print("RESULT " + json.dumps(figures, separators=(",", ":")))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
