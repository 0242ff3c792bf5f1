"""Time the preprocessing of a corpus with 2 workers, with 1 worker and with a serial script.

    python -m benchmarks.preprocess [--runs 1] [--speakers 8] [--flow raft|dis] [--timings FILE]

A synthetic corpus (8 clips per speaker, 1.6 s, 25 frames/s) is made first. Each run then times three
complete commands in turn, from the start of the process to its end, each into an empty folder:

- serial: `benchmarks.serial`, with the libraries' default numbers of threads;
- 1 worker and 2 workers: ``deiii preprocess``.

All three use RAFT and YuNet if DEIII_TEST_DATA contains their weights, else DIS and Haar.
`parallel_efficiency` is the time with 1 worker over twice the time with 2. Medians of the ratios over the
runs are reported; with ``--timings`` they include the runs already in the file, so a long measurement can be
made in parts. The cost of scheduling is measured by `benchmarks.overhead`.
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
from pathlib import Path

from benchmarks.machine import describe
from deiii.data.config.schema import CorpusConfig, SyntheticConfig
from deiii.data.corpora import synthetic
from deiii.data.corpora.synthetic.make import make

SECONDS, FRAME = 1.6, 360
OVERHEAD = "from benchmarks.overhead import measure; measure({clips})"


def timed(command: list[str]) -> float:
    """Return the seconds that a command takes; ends this program with the command's output if it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def run_once(root: Path, settings: list[str], yunet: str | None, raft: str | None) -> dict[str, float]:
    """Return the seconds of the three commands, run in turn."""
    ours = [f"corpus.root={root}", *settings, "corpus.clips_per_shard=4"]
    ours += ["faces.detector=yunet", f"faces.weights={yunet}"] if yunet else ["faces.detector=haar"]
    ours += ["flow.method=raft", f"flow.weights={raft}"] if raft else ["flow.method=dis"]
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        script = [sys.executable, "-m", "benchmarks.serial", str(root), f"{folder}/serial"]
        seconds["serial"] = timed([*script, yunet or "-", raft or "-"])
        for workers in (1, 2):
            words = [*ours, f"workers={workers}", f"cache={folder}/{workers}"]
            seconds[f"workers_{workers}"] = timed([sys.executable, "-m", "deiii", "preprocess", *words])
    return seconds


def overhead(clips: int) -> dict[str, float]:
    """Return the result of `benchmarks.overhead`, which runs in a process of its own."""
    command = [sys.executable, "-c", OVERHEAD.format(clips=clips)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--speakers", type=int, default=8, help="number of speakers with 8 clips each")
    parser.add_argument("--flow", choices=("raft", "dis"), help="default: raft where its weights are found")
    parser.add_argument(
        "--clips", type=int, default=100_000, help="size of the simulated table; 0 leaves it out"
    )
    parser.add_argument("--timings", type=Path, help="JSON lines of earlier runs, to which this one is added")
    options = parser.parse_args()
    weights = Path(os.environ.get("DEIII_TEST_DATA", "/nowhere")) / "weights"
    yunet, raft = weights / "face_detection_yunet_2023mar.onnx", weights / "raft_small_princeton.pth"
    if options.flow == "raft" and not raft.exists():
        parser.error("RAFT's weights are not there: set DEIII_TEST_DATA or leave out --flow")
    with_raft = raft.exists() and options.flow != "dis"
    config = SyntheticConfig(speakers=options.speakers, clips_per_class=1, seconds=SECONDS, size=FRAME)
    settings = [
        f"corpus.synthetic.{k}={getattr(config, k)}"
        for k in ("speakers", "clips_per_class", "seconds", "size")
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, config, progress=False)
        clips = len(synthetic.scan(CorpusConfig(root=folder, synthetic=config)).clips)
        setting = {"clips": clips, "flow": "raft_small" if with_raft else "dis", "frame_px": FRAME}
        setting["detector"] = "yunet" if yunet.exists() else "haar"
        runs = [
            setting
            | run_once(
                root, settings, str(yunet) if yunet.exists() else None, str(raft) if with_raft else None
            )
            for _ in range(options.runs)
        ]
    if options.timings:
        with open(options.timings, "a") as file:
            file.writelines(json.dumps(run) + "\n" for run in runs)
        kept = [json.loads(line) for line in options.timings.read_text().splitlines()]
        runs = [run for run in kept if {k: run[k] for k in setting} == setting]
    for run in runs:
        print("run " + json.dumps({k: round(v, 2) for k, v in run.items() if k not in setting}))

    def median(of):
        return statistics.median(of(run) for run in runs)

    result = {
        "bench": "preprocess",
        "ratio_serial": round(median(lambda r: r["serial"] / r["workers_2"]), 2),
        "parallel_efficiency": round(median(lambda r: r["workers_1"] / r["workers_2"] / 2), 3),
        "realtime_factor": round(clips * SECONDS / median(lambda r: r["workers_2"]), 2),
        "runs": len(runs),
        **setting,
    }
    if options.clips:
        found = overhead(options.clips)
        print("overhead " + json.dumps(found))
        result |= {"overhead_ms_per_clip": found["ms_per_clip"], "main_process_mb": found["main_process_mb"]}
    result |= describe("av", "opencv-contrib-python", "torch", "onnxruntime", "distributed")
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
