"""Soak test: preprocessing thousands of clips must keep its memory constant and leave no files behind.

Makes a few small synthetic clips, links them as a corpus of thousands, preprocesses it with the real
command and examines each of its processes once per second: own memory, open files. Memory is flat if the
median over the last quarter of the run is hardly above that over the second quarter. Afterwards no
process, temporary file or unfinished file in the cache may remain.

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

from benchmarks.machine import describe
from deiii.data.cache.index import read_index
from deiii.data.cache.integrity import verify
from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic import make

UNIQUE = SyntheticConfig(speakers=4, clips_per_class=2, seconds=0.8, fps=12.5, size=96)  # 64 clips
GROWTH = 0.05  # share of memory below which growth is noise
GROWTH_MB = 15
DASKS_OWN = {"global.lock", "purge.lock"}  # in the folder that all Dask workers of a machine share


@dataclass
class Sample:
    """One sample of a process: time in s, own memory in MB, number of open files."""

    at: float
    megabytes: float
    files: int


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        root, cache, temporary = (Path(folder) / name for name in ("raw", "cache", "tmp"))
        temporary.mkdir()
        link_corpus(Path(folder) / "synthetic", root, args.clips)
        command = preprocess_command(root, cache, args.workers)
        samples, code, output, survivors = watch(command, args.clips, cache, temporary)
        if code:
            print(output[-2000:])
            return 1
        checked, findings = verify(cache)
        left = [p.name for p in cache.rglob("*") if p.name.endswith((".tmp", ".damaged"))]
        left += [p.name for p in temporary.rglob("*") if p.is_file() and p.name not in DASKS_OWN]
        outcomes = sum(len(read_index(p.parent).clips) for p in cache.glob("*/*-*/index.json"))
    return report(args, samples, checked, len(findings), outcomes, survivors, left)


def link_corpus(source: Path, root: Path, clips: int) -> None:
    """Make a corpus of many clips that are hard links to a few."""
    make(source, UNIQUE)
    unique = sorted(source.rglob("*.mp4"))
    rows = []
    for n in range(clips):
        path = root / f"s{n % 50:02d}/{n:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(unique[n % len(unique)], path)
        rows.append(f"{path.relative_to(root)},s{n % 50:02d},{'ab'[n % 2]}")
    (root / "clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")


def preprocess_command(root: Path, cache: Path, workers: int) -> list[str]:
    """Return the words of ``deiii preprocess`` for the corpus in ``root``."""
    settings = ["corpus.name=table", f"corpus.root={root}", f"cache={cache}", "faces.size=64", "max_failed=1"]
    return [sys.executable, "-m", "deiii", "preprocess", *settings, f"workers={workers}"]


def watch(
    command: list[str], clips: int, cache: Path, temporary: Path
) -> tuple[dict[str, list[Sample]], int, str, int]:
    """Run the command in a session of its own and sample each of its processes once per second.

    Returns:
        samples by process (``main``, ``worker 1``, ...), exit status, output, number of remaining processes.
    """
    samples: dict[str, list[Sample]] = defaultdict(list)
    names: dict[int, str] = {}
    with tempfile.TemporaryFile("w+") as output, tqdm(total=3 * clips, unit="clip", desc="soak") as bar:
        environment = {**os.environ, "TMPDIR": str(temporary)}
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, env=environment
        )
        started, done = time.monotonic(), 0
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
                    sample = Sample(
                        time.monotonic() - started, one.memory_full_info().uss / 2**20, one.num_fds()
                    )
                    samples[names[one.pid]].append(sample)
                except psutil.Error:
                    continue
            now = len(list(cache.glob("*/*-*/*.h5"))) * 16
            bar.update(max(0, min(now, 3 * clips) - done))
            done = max(done, now)
            time.sleep(1)
        time.sleep(2)
        output.seek(0)
        return samples, process.returncode, output.read(), len(_session(process.pid))


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        try:
            if os.getsid(one.pid) == leader and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except (OSError, psutil.Error):
            continue
    return found


def quarters(samples: list[Sample]) -> tuple[Sample, Sample]:
    """Return medians over the second quarter (when everything is loaded) and over the last quarter."""
    n = len(samples)
    parts = samples[n // 4 : n // 2], samples[-max(1, n // 4) :]
    medians = [
        Sample(p[-1].at, statistics.median(x.megabytes for x in p), statistics.median(x.files for x in p))
        for p in parts
    ]
    return medians[0], medians[1]


def report(args, samples, checked: int, findings: int, outcomes: int, survivors: int, left) -> int:
    """Print the table and the RESULT line; returns the exit status."""
    print("medians     samples   MB in 2nd quarter   MB in last   files in 2nd   files in last")
    flat, growth, seconds = True, 0.0, 0.0
    for name, series in sorted(samples.items()):
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
    good = flat and not (findings or survivors or left) and outcomes == 3 * args.clips
    figures = {
        "bench": "soak", "clips": args.clips, "seconds": round(seconds), "flat": flat,
        "growth_mb": round(growth, 1), "leaked_processes": survivors,
        "leaked_files": len(left), "lost": 3 * args.clips - outcomes,
        **describe("dask", "h5py", "av"),
    }  # fmt: skip
    print("RESULT " + json.dumps(figures, separators=(",", ":")))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
