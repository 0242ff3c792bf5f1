"""Prediction on a 640x360 video: real-time factor, and the cost of loading.

    python -m benchmarks.predict [--run runs/demo] [--runs 3] [--seconds 12]

The video is a synthetic face in 640x360 frames at 25 fps with audio; faces with Haar, flow with DIS.
Without ``--run`` the network is an untrained one of `configs/tiny.yaml`, which takes the same time as a
trained one. `realtime_factor` is the length of the video over the time of a prediction with its overlay
(and `realtime_factor_no_overlay` without), with the network already loaded; `startup_s` is the time from
the start of Python until the network is ready. The alternative is a new process for every file
(`fresh_process`): `ratio_fresh_process` is its time over ours for the same files. The ways run in turn;
medians are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

from deiii.data.config.load import load_config
from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.make import make
from deiii.data.tools.machine import machine, package_versions
from deiii.model.network.task import Task
from deiii.model.training import checkpoint
from deiii.model.training.run_folder import RunFolder, provenance
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.video_writer import VideoWriter

WIDTH, HEIGHT, FPS = 640, 360, 25
STARTED = "from deiii import load; load({run!r}, 'cpu')"


def untrained(folder: Path) -> Path:
    """A run folder like that of a training, with random weights."""
    config = load_config(["configs/synthetic.yaml", "configs/tiny.yaml"])
    classes = [f"class {i}" for i in range(8)]
    info = {
        "keys": {}, "split": "", "corpus": "none", "classes": classes, "attributes": [], "ranges": [],
        "clips": {}, "seconds": {"median": 1.6, "longest": 1.6},
    }  # fmt: skip
    run = RunFolder(folder)
    run.create(config, {**info, **provenance()}, resume=False)
    torch.manual_seed(0)
    network = Task(tuple(classes), (), ()).network(config)
    checkpoint.save(run.best, network.state_dict(), {"epoch": 0})
    return run.path


def wide_video(folder: Path, seconds: float) -> Path:
    """Write a video of a synthetic face that moves in 640x360 frames, with audio; returns its path."""
    config = SyntheticConfig(speakers=1, clips_per_class=1, size=288, seconds=seconds)
    make(folder / "raw", config, workers=1, progress=False)
    source = sorted((folder / "raw").rglob("*.mp4"))[0]
    path = folder / "wide.mp4"
    frames = cycle([cv2.resize(rgb, (HEIGHT, HEIGHT)) for rgb, _ in read_video(source)])
    with VideoWriter(path, WIDTH, HEIGHT, audio=source) as video:
        for i in range(round(seconds * FPS)):
            canvas = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            left = round((WIDTH - HEIGHT) / 2 + 60 * np.sin(i / 40))
            canvas[:, left : left + HEIGHT] = next(frames)
            video.add(canvas, i / FPS)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="a trained run (default: an untrained network)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--files", type=int, default=3, help="files for the comparison with fresh processes")
    options = parser.parse_args()
    from deiii.model.prediction.files import predict_loaded
    from deiii.model.prediction.loading import load

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = Path(options.run) if options.run else untrained(folder / "run")
        video = wide_video(folder, options.seconds)
        short = wide_video(folder / "short", 2.0)
        network = load(run, "cpu")
        quiet = {"progress": False, "say": lambda words: None}
        predict_loaded(network, [str(short)], folder / "out", **quiet)  # loads the detector
        times: dict[str, list[float]] = {"overlay": [], "plain": [], "startup": [], "ours": [], "fresh": []}

        def timed(kind: str, action) -> None:
            started = time.perf_counter()
            action()
            times[kind].append(time.perf_counter() - started)

        command = [sys.executable, "-m", "deiii", "predict", str(run), "--quiet", "--out", str(folder / "o")]
        files = [str(short)] * options.files
        several = [str(folder / f"{i}.mp4") for i in range(options.files)]
        for target, source in zip(several, files, strict=True):
            os.link(source, target)

        def call(words):
            return subprocess.run(words, check=True, capture_output=True)

        for _ in range(options.runs):
            timed("overlay", lambda: predict_loaded(
                network, [str(video)], folder / "out", str(folder / "over.mp4"), **quiet))  # fmt: skip
            timed("plain", lambda: predict_loaded(network, [str(video)], folder / "out", **quiet))
            timed("startup", lambda: call([sys.executable, "-c", STARTED.format(run=str(run))]))
            timed("ours", lambda: call([*command, *several]))
            timed("fresh", lambda: [call([*command, one]) for one in several])
        middle = {kind: statistics.median(values) for kind, values in times.items()}
        for kind, values in times.items():
            print(f"{kind:8s} " + " ".join(f"{v:.2f}" for v in values) + " s")
        result = {
            "bench": "predict",
            "realtime_factor": round(options.seconds / middle["overlay"], 2),
            "realtime_factor_no_overlay": round(options.seconds / middle["plain"], 2),
            "startup_s": round(middle["startup"], 2),
            "ratio_fresh_process": round(middle["fresh"] / middle["ours"], 2),
            "video": f"{WIDTH}x{HEIGHT}, {FPS} fps, {options.seconds:g} s",
            "detector": network.config.faces.detector,
            "flow": network.config.flow.method,
            "parameters": sum(p.numel() for p in network.network.parameters()),
            "runs": options.runs,
            "machine": machine(),
            "versions": package_versions("torch", "opencv-contrib-python", "av"),
        }  # fmt: skip
        print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
