"""Compare face tracking with detection on every frame: speed, agreement and jitter.

    python -m benchmarks.faces CLIP [CLIP ...] [--detector yunet] [--runs 5]

All ways decode the same clips and cut crops of 128 px; one thread.

- ours: `deiii.pipeline.faces.stage.extract_faces`;
- plain: a usual script: PyAV's RGB frames, OpenCV's detector on every one at the same size as ours,
  a similarity from that frame's own landmarks, `cv2.warpAffine`;
- own parts: detection on every frame, but with our decoder, detector and cropping, which shows the gain of
  tracking alone.

Runs alternate and medians of the ratios are compared. Errors are in px of the crop: `landmark_rmse_px` is
the RMS distance between ours and every-frame landmarks; jitter is the RMS second difference of the
landmarks over time, divided by sqrt(6) (for white noise, its standard deviation per landmark);
`still_flow_px` is DIS flow's mean length between neighbouring crops of a still face under camera noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np

from benchmarks.machine import describe
from deiii.data.config.schema import FacesConfig
from deiii.data.tools.weights import YUNET, resolve
from deiii.pipeline.faces import align
from deiii.pipeline.faces.face import Detector, shrink
from deiii.pipeline.faces.stage import extract_faces, load_detector
from deiii.pipeline.media.video import read_video


def plain(path: str, config: FacesConfig, weights: str | None) -> np.ndarray:
    """Return the crops of the usual script, [n,S,S,3], black where no face is found."""
    crops = []
    net = cascade = None
    if weights:
        net = cv2.FaceDetectorYN.create(weights, "", (320, 320), config.min_score, 0.3, 500)
    else:
        cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    goal = (align.TEMPLATE + config.margin) / (1 + 2 * config.margin) * config.size
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count, stream.thread_type = 1, "NONE"
        for frame in container.decode(stream):
            rgb = frame.to_ndarray(format="rgb24")
            small = cv2.resize(rgb, None, fx=(f := config.detect_size / max(rgb.shape)), fy=f)
            if net is not None:
                net.setInputSize(small.shape[1::-1])
                _, rows = net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
                points = None if rows is None else rows[0, 4:14].reshape(5, 2)
            else:
                boxes = cascade.detectMultiScale(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), 1.1, 5)
                points = boxes[0][:2] + align.TEMPLATE * boxes[0][2:] if len(boxes) else None
            if points is None:
                crops.append(np.zeros((config.size, config.size, 3), np.uint8))
                continue
            matrix, _ = cv2.estimateAffinePartial2D(points / f, goal, method=cv2.LMEDS)
            crops.append(cv2.warpAffine(rgb, matrix, (config.size, config.size)))
    return np.stack(crops)


def every_frame(path: str, config: FacesConfig, detector: Detector) -> np.ndarray:
    """Return landmarks [n,5,2] of our parts without tracking, NaN without a face; crops are cut, too."""
    crops, points = [], []
    for rgb, _ in read_video(path):
        small, _ = shrink(rgb, config.detect_size)
        ratio = np.array([rgb.shape[1] / small.shape[1], rgb.shape[0] / small.shape[0]])
        faces = detector(small)
        if not faces:
            crops.append(np.zeros((config.size, config.size, 3), np.uint8))
            points.append(np.full((5, 2), np.nan))
            continue
        found = (faces[0].landmarks + 0.5) * ratio - 0.5
        flat = (found[:, 0] + 1j * found[:, 1])[None]
        transform = align.crop_transforms(flat, config.size, config.margin, config.align)[0]
        crops.append(align.crop(rgb, transform, config.size))
        points.append(found)
    return np.stack(points)


def jitter(points: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return squared second differences of landmarks [n,5,2] in crop px, divided by 6."""
    return (np.diff(points, 2, axis=0) ** 2).sum(axis=-1) * scale[1:-1, None] ** 2 / 6


def still_flow(path: str, folder: Path, config: FacesConfig, detector: Detector) -> float:
    """Return the mean DIS flow in px between crops of the clip's first frame, repeated under camera noise."""
    rgb, _ = next(iter(read_video(path)))
    rng, target = np.random.default_rng(0), folder / "still.mp4"
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = rgb.shape[1] // 2 * 2, rgb.shape[0] // 2 * 2, "yuv420p"
        for _ in range(40):
            noisy = np.clip(rgb + rng.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(noisy[: stream.height, : stream.width], format="rgb24")
                )
            )
        container.mux(stream.encode())
    frames = extract_faces(target, config, detector).arrays["frames"]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    flows = [dis.calc(a, b, None) for a, b in zip(greys[:-1], greys[1:], strict=True)]
    return float(np.mean([np.hypot(f[..., 0], f[..., 1]).mean() for f in flows]))


def steadiness(ours: list[dict], others: list[np.ndarray], config: FacesConfig) -> dict[str, float]:
    """Return the distance of our landmarks from every-frame landmarks, and the jitter of both."""
    distances, jitter_ours, jitter_every = [], [], []
    for mine, theirs in zip(ours, others, strict=True):
        scale = config.size / (1 + 2 * config.margin) / mine["box"][:, 2]
        ok = mine["valid"] & ~np.isnan(theirs[:, 0, 0])
        gap = ((mine["landmarks"] - theirs)[ok] ** 2).sum(axis=-1) * scale[ok, None] ** 2
        distances.append(gap.ravel())
        both = [jitter(mine["landmarks"].astype(np.float64), scale), jitter(theirs, scale)]
        whole = ~np.isnan(both[0][:, 0] + both[1][:, 0])
        jitter_ours.append(both[0][whole].ravel())
        jitter_every.append(both[1][whole].ravel())

    def rms(parts):
        return float(np.sqrt(np.concatenate(parts).mean()))

    return {
        "landmark_rmse_px": round(rms(distances), 3),
        "jitter_px": round(rms(jitter_ours), 4),
        "jitter_px_every_frame": round(rms(jitter_every), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument(
        "clips", nargs="*", help="media files; DEIII_TEST_DATA's GRID clips where none is given"
    )
    parser.add_argument("--detector", default="yunet", choices=("yunet", "haar"))
    parser.add_argument("--weights", default=None)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    shared = os.environ.get("DEIII_TEST_DATA")
    clips = options.clips or sorted(map(str, Path(shared or ".").glob("media/grid/*.mpg")))
    if not clips:
        parser.error("name clips with one visible speaker, or set DEIII_TEST_DATA")
    cv2.setNumThreads(1)
    weights = None
    if options.detector == "yunet":
        own = Path(shared) / "weights/face_detection_yunet_2023mar.onnx" if shared else None
        weights = str(resolve(options.weights or (str(own) if own else None), YUNET)[0])
    config = FacesConfig(detector=options.detector, weights=weights, size=128)
    detector = load_detector(config)
    ways = {
        "ours": lambda c: extract_faces(c, config, detector).arrays,
        "plain": lambda c: plain(c, config, weights),
        "own_parts": lambda c: every_frame(c, config, detector),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for _ in range(options.runs):
        for name, way in ways.items():
            start = time.perf_counter()
            results[name] = [way(c) for c in clips]
            seconds[name].append(time.perf_counter() - start)
    with TemporaryDirectory() as folder:
        still = max(still_flow(c, Path(folder), config, detector) for c in clips)
    frames = sum(len(a["time"]) for a in results["ours"])

    def ratio(name):
        return statistics.median(a / b for a, b in zip(seconds[name], seconds["ours"], strict=True))

    result = {
        "bench": "faces",
        "detector": options.detector,
        "clips": len(clips),
        "frames": frames,
        "runs": options.runs,
        "frames_per_s": round(frames / statistics.median(seconds["ours"]), 1),
        "frames_per_s_every_frame": round(frames / statistics.median(seconds["plain"]), 1),
        "ratio_every_frame": round(ratio("plain"), 2),
        "ratio_every_frame_own_parts": round(ratio("own_parts"), 2),
        **steadiness(results["ours"], results["own_parts"], config),
        "still_flow_px": round(still, 4),
        **describe("av", "opencv-contrib-python", "onnxruntime"),
    }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
