"""Measure prediction: the real-time factor, the time of loading, and memory for 1 to 60 minutes.

    python -m benchmarks.predict [--run runs/demo] [--runs 3] [--seconds 12] [--minutes 1,10,60]

The video is a synthetic face in 640x360 frames at 25 fps with audio; faces with Haar, flow with DIS.
Without ``--run`` the network is an untrained one of `configs/tiny.yaml`, which takes the same time as a
trained one. `realtime_factor` is the length of the video over the time of a prediction with its overlay
(and `realtime_factor_no_overlay` without), with the network already loaded; `startup_s` is the time from
the start of Python until the network is ready, and `runtime_startup_s` the same with onnxruntime and without
PyTorch. `growth_mb_60min` is how much memory an hour of video adds, with overlay and a window every half
second: the larger of two figures, the difference of the peak memory of two processes that predict an hour and
a minute, and the growth of the anonymous memory of the process with the hour from its second to its last
tenth. A peak alone hides a growth that stays below the peak of the beginning. The last tenth belongs to the
drawing of the overlay, which needs memory of its own for any length, so `grown_by_part_mb` also has the
growth from the second to the last tenth of the prediction alone, and of the drawing alone. The video is a
synthetic face of 128x128 px at 8 fps, repeated, so that the hour takes a few minutes; `peak_mb` and
`grown_mb` list all lengths. `delay_ms` is the median time from the arrival of a window's newest frame to its
prediction, in a process that plays the video in real time and does nothing else; `dropped` counts frames. The
alternative is a new process for every file (`fresh_process`): `ratio_fresh_process` is its time over ours for
the same files. The ways run in turn; medians are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import torch

from deiii.data.config.load import load_config
from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.make import make
from deiii.data.tools.machine import machine, package_versions
from deiii.model.network.task import Task
from deiii.model.prediction.export import export
from deiii.model.provenance import provenance
from deiii.model.training import checkpoint
from deiii.model.training.run_folder import RunFolder
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.writing.video_writer import VideoWriter

WIDTH, HEIGHT, FPS = 640, 360, 25
STARTED = "from deiii import load; load({run!r}, 'cpu')"
STARTED_ONNX = "from deiii.runtime import load; load({run!r})"
LIVE = """
import json, sys
from deiii import load
from deiii.model.prediction.live.moments import LiveMoments
with LiveMoments(load(sys.argv[1], "cpu"), sys.argv[2]) as live:
    delays = [moment.delay_s or 0.0 for moment in live]
    print(json.dumps([delays, live.features.reader.dropped]))
"""
SMALL, SMALL_FPS, RATE = 128, 8, 16000  # px, frames a second and Hz of the long videos
HOP_S = 0.5  # of the windows over them
PEAK = """
import resource, sys, threading
from deiii import load
from deiii.model.prediction.files import FileOptions, predict_loaded
run, video, out, overlay, hop = sys.argv[1:]
network = load(run, "cpu")
samples, ended = [], threading.Event()

def watch():  # the anonymous memory in MB: pages of files that are mapped do not count
    while not ended.wait(0.2):
        lines = open("/proc/self/status").read().splitlines()
        samples.append(next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024)

watching = threading.Thread(target=watch)
watching.start()
reported = []  # numbers of samples at the report of the prediction, and at that of the overlay
found = predict_loaded(
    network, [video], out, FileOptions(overlay, hop_s=float(hop)), progress=False,
    report=lambda words: reported.append(len(samples)),
)
ended.set()
watching.join()

def grown(samples):  # from the second to the last tenth
    tenth = max(1, len(samples) // 10)
    return sorted(samples[-tenth:])[tenth // 2] - sorted(samples[tenth : 2 * tenth])[tenth // 2]

parts = samples, samples[: reported[0]], samples[reported[0] :]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(found[0].seconds, peak, *(grown(part) for part in parts))
"""


def untrained(folder: Path) -> Path:
    """Write a run folder like that of a training, with random weights; returns its path."""
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


def long_video(folder: Path, minutes: float) -> Path:
    """Write a small video of a synthetic face with audio, repeated by copying packets; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    once, path = folder / "once.mp4", folder / f"{minutes:g}.mp4"
    if not once.exists():
        config = SyntheticConfig(speakers=1, clips_per_class=1, size=SMALL, seconds=8.0)
        make(folder / "raw", config, workers=1, progress=False)
        encode_small(sorted((folder / "raw").rglob("*.mp4"))[0], once)
    with av.open(str(path), "w") as out:
        copies: dict[int, Any] = {}
        at: dict[int, Fraction] = {}  # where the next packet of each stream begins, s
        while not at or min(at.values()) < 60 * minutes:
            with av.open(str(once)) as copy:
                copies = copies or {s.index: out.add_stream_from_template(s) for s in copy.streams}
                for packet in copy.demux():
                    index, base = packet.stream_index, packet.time_base
                    if not packet.size or at.get(index, 0) >= 60 * minutes:
                        continue
                    packet.pts = packet.dts = int(at.get(index, Fraction()) / base)
                    at[index] = at.get(index, Fraction()) + packet.duration * base
                    packet.stream = copies[index]
                    out.mux(packet)
    return path


def encode_small(source: Path, target: Path) -> None:
    """Encode a video whose packets can be repeated: no frame refers to a later one."""
    frames = [rgb for rgb, _ in read_video(source)]
    samples, _, _ = read_audio(source, RATE)
    with av.open(str(target), "w") as out:
        video: Any = out.add_stream("libx264", rate=SMALL_FPS, options={"bf": "0", "crf": "20"})
        video.width, video.height, video.pix_fmt = SMALL, SMALL, "yuv420p"
        audio: Any = out.add_stream("aac", rate=RATE, layout="mono")
        for i in range(len(frames) * SMALL_FPS // FPS):
            out.mux(video.encode(av.VideoFrame.from_ndarray(frames[i * FPS // SMALL_FPS], format="rgb24")))
        out.mux(video.encode())
        for start in range(0, len(samples), 1024):
            block = np.ascontiguousarray(samples[None, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            out.mux(audio.encode(frame))
        out.mux(audio.encode())


class Memory(NamedTuple):
    """Peak of a process in MB, and growth from the second to the last tenth: in all, and of each part."""

    peak: float
    grown: float
    prediction: float
    drawing: float


def memory(folder: Path, run: Path, minutes: Sequence[float]) -> dict[float, Memory]:
    """Return the memory of a process that predicts a video and draws its overlay, keyed by length."""
    found = {}
    for length in minutes:
        video = long_video(folder, length)
        words = [str(run), str(video), str(folder / "out"), str(folder / "over.mp4"), str(HOP_S)]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *words], check=True, capture_output=True, text=True
        )
        seconds, *mb = map(float, done.stdout.split())
        used = found[length] = Memory(*mb)
        print(
            f"{seconds / 60:.1f} min of video: {time.perf_counter() - started:.0f} s, "
            f"peak {used.peak:.0f} MB, grown by {used.grown:.1f} MB; "
            f"in the prediction {used.prediction:.1f}, in the drawing {used.drawing:.1f}",
            flush=True,
        )
        video.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="a trained run (default: an untrained network)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--minutes", default="1,10,60", help="lengths for the memory, the first is compared")
    parser.add_argument("--files", type=int, default=3, help="files for the comparison with fresh processes")
    options = parser.parse_args()
    from deiii.model.prediction.files import FileOptions, predict_loaded
    from deiii.model.prediction.loading import load

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = Path(options.run) if options.run else untrained(folder / "run")
        video = wide_video(folder, options.seconds)
        short = wide_video(folder / "short", 2.0)
        network = load(run, "cpu")
        quiet = {"progress": False, "report": lambda words: None}
        predict_loaded(network, [str(short)], folder / "out", **quiet)  # loads the detector
        times: dict[str, list[float]] = {
            "overlay": [],
            "plain": [],
            "startup": [],
            "ours": [],
            "fresh": [],
            "runtime": [],
        }

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

        drawn = FileOptions(str(folder / "over.mp4"))
        for _ in range(options.runs):
            timed("overlay", lambda: predict_loaded(network, [str(video)], folder / "out", drawn, **quiet))
            timed("plain", lambda: predict_loaded(network, [str(video)], folder / "out", **quiet))
            timed("startup", lambda: call([sys.executable, "-c", STARTED.format(run=str(run))]))
            timed("ours", lambda: call([*command, *several]))
            timed("fresh", lambda: [call([*command, one]) for one in several])
        exported = export(run, folder / "exported", program=False, onnx=True)
        for _ in range(options.runs):
            timed("runtime", lambda: call([sys.executable, "-c", STARTED_ONNX.format(run=str(exported))]))
        delays, dropped = json.loads(call([sys.executable, "-c", LIVE, str(run), str(video)]).stdout)
        lengths = [float(word) for word in options.minutes.split(",")]
        found = memory(folder / "long", run, lengths)
        last = found[lengths[-1]]
        middle = {kind: statistics.median(values) for kind, values in times.items()}
        for kind, values in times.items():
            print(f"{kind:8s} " + " ".join(f"{v:.2f}" for v in values) + " s")
        result = {
            "bench": "predict",
            "realtime_factor": round(options.seconds / middle["overlay"], 2),
            "realtime_factor_no_overlay": round(options.seconds / middle["plain"], 2),
            "startup_s": round(middle["startup"], 2),
            "runtime_startup_s": round(middle["runtime"], 2),
            "growth_mb_60min": round(max(last.peak - found[lengths[0]].peak, last.grown), 1),
            "delay_ms": round(1000 * statistics.median(delays), 1),
            "delay_worst_ms": round(1000 * max(delays), 1),
            "dropped": dropped,
            "peak_mb": {f"{length:g} min": round(mb.peak) for length, mb in found.items()},
            "grown_mb": {f"{length:g} min": round(mb.grown, 1) for length, mb in found.items()},
            "grown_by_part_mb": {
                f"{length:g} min": {"prediction": round(mb.prediction, 1), "drawing": round(mb.drawing, 1)}
                for length, mb in found.items()
            },
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
