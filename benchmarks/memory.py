"""Measure the peak memory of the faces stage on long 4K videos, which must not grow with their length.

    python -m benchmarks.memory [--frames 2000 8000]

Each length is measured in a process of its own, which extracts the faces of a 3840x2160 H.264 video and
writes them as a shard, as a worker does. The video is one second of an enlarged synthetic clip, repeated.
`peak_mb` is the largest resident memory (VmHWM), including pages of mapped files, which the system can
reclaim; `peak_anonymous_mb`, sampled every 20 ms, excludes them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.machine import describe
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.config.schema import FacesConfig, SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.pipeline.faces.stage import extract_faces, load_detector

WIDTH, HEIGHT, FPS = 3840, 2160, 25


def write_video(path: Path, frames: int) -> None:
    """Write a video of one encoded second whose packets are repeated to the requested length."""
    config = SyntheticConfig(speakers=1, clips_per_class=1, seconds=1.0, fps=FPS, size=270)
    images = [
        np.hstack([f, np.full((270, 210, 3), 90, np.uint8)]) for f in render_frames(plan_clip(config, 0))
    ]
    with av.open(str(path), "w") as out:
        options = {"preset": "ultrafast", "crf": "28", "x264-params": f"keyint={FPS}:scenecut=0:bframes=0"}
        stream = out.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        packets = []
        for rgb in images:
            large = cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
            packets += stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24"))
        packets += stream.encode()
        packet_bytes = [bytes(p) for p in packets]
        for n in range(frames):
            packet = av.Packet(packet_bytes[n % len(packet_bytes)])
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts = packet.dts = n
            packet.is_keyframe = n % len(packet_bytes) == 0
            out.mux(packet)


def measure(path: str, folder: str) -> None:
    """Extract the faces of one video into a shard; prints one line of JSON."""
    config = FacesConfig()
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], _status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = extract_faces(path, config, load_detector(config))
    with ShardWriter(Path(folder) / "faces.h5", "faces", "0", {}) as shard:
        shard.add("clip", result.outcome, result.arrays, "")
    ended.set()
    watcher.join()
    valid = float(result.arrays["valid"].mean())
    found = {
        "frames": len(result.arrays["time"]),
        "valid": valid,
        "crops_mb": result.arrays["frames"].nbytes >> 20,
    }
    print(json.dumps(found | {"peak_mb": _status("VmHWM"), "peak_anonymous_mb": peak[0]}))


def _status(name: str) -> int:
    """Return an entry of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[2000, 8000])
    options = parser.parse_args()
    found = []
    for frames in options.frames:
        with tempfile.TemporaryDirectory() as folder:
            write_video(Path(folder) / "4k.mp4", frames)
            code = f"from benchmarks.memory import measure; measure({folder + '/4k.mp4'!r}, {folder!r})"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
        print("run " + json.dumps(found[-1]), flush=True)
    result = {
        "bench": "memory",
        "video": f"{WIDTH}x{HEIGHT}",
        "lengths": found,
        **describe("av", "opencv-contrib-python"),
    }
    result["growth_anonymous_mb"] = found[-1]["peak_anonymous_mb"] - found[0]["peak_anonymous_mb"]
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
