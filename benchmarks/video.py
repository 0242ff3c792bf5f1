"""Time ways to read a small RGB image, or RGB of a part, from a large video, as the faces stage does.

    python -m benchmarks.video [--runs 3] [--frames 24]

Times per frame, one thread, on an enlarged synthetic face: ``plain`` converts the whole frame to RGB
(PyAV's ``to_ndarray``) and averages it to 640 px with OpenCV; ``bounded`` is ``read_video(longest=640)``;
``plain_part`` converts the whole frame and cuts out a sixth; ``part`` converts only that sixth;
``decode`` only decodes. The ways run in turn; medians are reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.machine import describe
from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.pipeline.media.video import read_video

LONGEST = 640
KINDS = {
    "h264_1080p": ("libx264", 1920, 1080),
    "h264_4k": ("libx264", 3840, 2160),
    "mjpeg_4k": ("mjpeg", 3840, 2160),
}


def write_video(path: Path, codec: str, width: int, height: int, frames: int) -> None:
    """Write a video of an enlarged synthetic face, with frames of ``width`` x ``height`` px at 25 fps."""
    config = SyntheticConfig(speakers=1, clips_per_class=1, seconds=frames / 25, size=270)
    options = {"preset": "fast"} if codec == "libx264" else {"qscale": "3"}
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
        for face in render_frames(plan_clip(config, 0)):
            wide = np.hstack([face, np.full((270, 210, 3), 90, np.uint8)])
            rgb = cv2.resize(wide, (width, height), interpolation=cv2.INTER_LINEAR)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode())


def window(height: int, width: int) -> tuple[int, int, int, int]:
    """Return a sixth of the frame: left, top, right, bottom."""
    return width // 4 // 2 * 2, height // 4 // 2 * 2, width * 7 // 12 // 2 * 2, height * 3 // 4 // 2 * 2


def plain(path: str, part: bool) -> None:
    """Read a video with PyAV: whole frames in RGB, of which a part is cut out or which are reduced."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count, stream.thread_type = 1, "NONE"
        for frame in container.decode(stream):
            rgb = frame.to_ndarray(format="rgb24")
            if part:
                left, top, right, bottom = window(*rgb.shape[:2])
                rgb[top:bottom, left:right].copy()
            else:
                cv2.resize(
                    rgb, (LONGEST, rgb.shape[0] * LONGEST // rgb.shape[1]), interpolation=cv2.INTER_AREA
                )


def parts(path: str) -> None:
    """Read a video with `read_video`, and convert a sixth of each frame."""
    for frame, _ in read_video(path).frames():
        frame.part(*window(*frame.shape))


def consume(frames) -> None:
    """Read all frames and drop them."""
    for _ in frames:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=24)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    ways = {
        "decode": lambda p: consume(read_video(p).frames()),
        "plain": lambda p: plain(p, part=False),
        "bounded": lambda p: consume(read_video(p, longest=LONGEST)),
        "plain_part": lambda p: plain(p, part=True),
        "part": parts,
    }
    result = {"bench": "video", "frames": options.frames, "runs": options.runs, "unit": "ms per frame"}
    for kind, (codec, width, height) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "v.mkv"
            write_video(path, codec, width, height, options.frames)
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(options.runs):
                for name, way in ways.items():
                    start = time.perf_counter()
                    way(str(path))
                    seconds[name].append((time.perf_counter() - start) / options.frames * 1000)

        def ratio(a, b):
            return round(statistics.median(x / y for x, y in zip(a, b, strict=True)), 2)

        result[kind] = {name: round(statistics.median(s), 1) for name, s in seconds.items()} | {
            "ratio_bounded": ratio(seconds["plain"], seconds["bounded"]),
            "ratio_part": ratio(seconds["plain_part"], seconds["part"]),
        }
        print(kind, result[kind], flush=True)
    print("RESULT " + json.dumps(result | describe("av", "opencv-contrib-python")))


if __name__ == "__main__":
    main()
