"""Tracked faces against a detector run on every frame: speed, agreement and steadiness.

    python -m benchmarks.faces CLIP [CLIP ...] [--detector yunet] [--runs 5]

Both ways decode the same clips and cut crops of 128 px. The plain way detects in every frame and
aligns each crop to that frame's own landmarks; ours is `pipeline.faces.extract_faces`. Runs
alternate and medians are compared. Errors are in px of the crop: `landmark_rmse_px` is the RMS
distance between the two ways' landmarks; jitter is the RMS second difference of the landmarks over
time, divided by sqrt(6) (for white noise, its standard deviation per landmark);
`still_flow_px` is DIS flow's mean length between neighbouring crops of a still face under camera noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import av
import cv2
import numpy as np

from data.schema import FacesConfig
from pipeline import align
from pipeline.detectors import Detector, shrink
from pipeline.faces import extract_faces, load_detector
from pipeline.media import read_video


def plain(path: str, config: FacesConfig, detector: Detector) -> tuple[np.ndarray, np.ndarray]:
    """Detect and crop every frame: crops [n,S,S,3] and landmarks [n,5,2], NaN where there is no face."""
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
    return np.stack(crops), np.stack(points)


def jitter(points: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Squared second differences of landmarks [n,5,2] in crop px, divided by 6."""
    return (np.diff(points, 2, axis=0) ** 2).sum(axis=-1) * scale[1:-1, None] ** 2 / 6


def still_flow(path: str, folder: Path, config: FacesConfig, detector: Detector) -> float:
    """Mean DIS flow in px between crops of the clip's first frame, repeated under camera noise."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    config = FacesConfig(detector=options.detector, weights=options.weights, size=128)
    detector = load_detector(config)
    ours_s, plain_s = [], []
    for _ in range(options.runs):
        start = time.perf_counter()
        ours = [extract_faces(c, config, detector).arrays for c in clips]
        middle = time.perf_counter()
        others = [plain(c, config, detector)[1] for c in clips]
        ours_s.append(middle - start)
        plain_s.append(time.perf_counter() - middle)
    distances, jitter_ours, jitter_plain = [], [], []
    for mine, theirs in zip(ours, others, strict=True):
        scale = config.size / (1 + 2 * config.margin) / mine["box"][:, 2]
        ok = mine["valid"] & ~np.isnan(theirs[:, 0, 0])
        gap = ((mine["landmarks"] - theirs)[ok] ** 2).sum(axis=-1) * scale[ok, None] ** 2
        distances.append(gap.ravel())
        both = [jitter(mine["landmarks"].astype(np.float64), scale), jitter(theirs, scale)]
        whole = ~np.isnan(both[0][:, 0] + both[1][:, 0])
        jitter_ours.append(both[0][whole].ravel())
        jitter_plain.append(both[1][whole].ravel())
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        still = max(still_flow(c, Path(folder), config, detector) for c in clips)
    rms = lambda parts: float(np.sqrt(np.concatenate(parts).mean()))
    frames = sum(len(a["time"]) for a in ours)
    result = {
        "bench": "faces",
        "detector": options.detector,
        "clips": len(clips),
        "frames": frames,
        "runs": options.runs,
        "frames_per_s": round(frames / statistics.median(ours_s), 1),
        "frames_per_s_every_frame": round(frames / statistics.median(plain_s), 1),
        "ratio_every_frame": round(statistics.median(p / o for p, o in zip(plain_s, ours_s, strict=True)), 2),
        "landmark_rmse_px": round(rms(distances), 3),
        "jitter_px": round(rms(jitter_ours), 4),
        "jitter_px_every_frame": round(rms(jitter_plain), 4),
        "still_flow_px": round(still, 4),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"opencv": cv2.__version__, "av": av.__version__, "python": platform.python_version()},
    }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
