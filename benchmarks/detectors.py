"""Compare YuNet in OpenCV's DNN module and in onnxruntime: speed on the CPU, and agreement.

    python -m benchmarks.detectors [--runs 5] [--size 320]

Both process the same images (frames of the GRID and edge clips in DEIII_TEST_DATA, reduced to ``--size``)
on one thread, and onnxruntime also on two. Each run times all images with every way in turn; medians of
the ratios are compared. Differences are the largest over all boxes and landmarks, in px of the image, and
over all scores. The file allows one image per batch, so batches cannot be compared. CUDA is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.machine import describe
from deiii.data.tools.weights import YUNET, resolve
from deiii.pipeline.faces.face import MOST_FACES, shrink
from deiii.pipeline.faces.yunet import YuNet
from deiii.pipeline.media.video import read_video

MIN_SCORE, EVERY = 0.6, 10


def test_images(folder: Path, size: int) -> list[np.ndarray]:
    """Return every tenth frame of the clips, at most ``size`` px long."""
    clips = sorted(p for kind in ("grid", "edge") for p in folder.glob(f"media/{kind}/*.m[pgo][4gv]"))
    return [shrink(rgb, size)[0] for c in clips for i, (rgb, _) in enumerate(read_video(c)) if i % EVERY == 0]


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=320, help="longer side of the images in px")
    options = parser.parse_args()
    shared = os.environ.get("DEIII_TEST_DATA")
    if not shared:
        parser.error("set DEIII_TEST_DATA to the folder of real clips and weights")
    own = Path(shared) / "weights/face_detection_yunet_2023mar.onnx"
    path = str(resolve(str(own), YUNET)[0])
    cv2.setNumThreads(1)
    images = test_images(Path(shared), options.size)
    opencv = cv2.FaceDetectorYN.create(path, "", (320, 320), MIN_SCORE, 0.3, 500)

    def through_opencv(rgb: np.ndarray) -> np.ndarray:
        opencv.setInputSize(rgb.shape[1::-1])
        _, rows = opencv.detect(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        rows = np.zeros((0, 15)) if rows is None else rows
        return rows[np.argsort(-rows[:, 2] * rows[:, 3])][:MOST_FACES]

    ways = {
        "opencv": through_opencv,
        "onnxruntime": YuNet(path, MIN_SCORE),
        "onnxruntime_2_threads": YuNet(path, MIN_SCORE, threads=2),
    }
    found, seconds = {}, {name: [] for name in ways}
    for run in range(options.runs + 1):  # the first one warms up
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = [way(rgb) for rgb in images]
            if run:
                seconds[name].append((time.perf_counter() - start) / len(images) * 1000)
    places, scores, unequal, faces = [0.0], [0.0], 0, 0
    for rows, others in zip(found["opencv"], found["onnxruntime"], strict=True):
        unequal += len(rows) != len(others)
        for row, face in zip(rows, others, strict=False):
            faces += 1
            places.append(np.abs(row[:14] - np.concatenate([face.box, face.landmarks.ravel()])).max())
            scores.append(abs(row[14] - face.score))

    def pairs(name):
        return zip(seconds["opencv"], seconds[name], strict=True)

    result = {
        "bench": "detectors",
        "pictures": len(images),
        "longer_side_px": options.size,
        "faces": faces,
        "runs": options.runs,
        **{f"ms_{name}": round(statistics.median(s), 2) for name, s in seconds.items()},
        "ratio_opencv": round(statistics.median(a / b for a, b in pairs("onnxruntime")), 2),
        "ratio_opencv_2_threads": round(
            statistics.median(a / b for a, b in pairs("onnxruntime_2_threads")), 2
        ),
        "pictures_with_other_faces": unequal,
        "largest_difference_px": float(f"{max(places):.2g}"),
        "largest_difference_score": float(f"{max(scores):.2g}"),
        **describe("opencv-contrib-python", "onnxruntime"),
    }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
