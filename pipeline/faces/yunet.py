"""YuNet, a face detector with five landmarks, through onnxruntime.

Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023.
The outputs have strides of 8, 16 and 32 px: for every cell the probability of a face, its box and its
landmarks. OpenCV's reader of the same file (`cv2.FaceDetectorYN`) finds the same faces in more than twice
the time (`make bench-detectors`); the tests compare both.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from deiii.data.encoders.onnx_session import open_session, refused
from deiii.data.tools.weights import YUNET
from deiii.pipeline.faces.face import Face, largest_first

STRIDES = (8, 16, 32)
SAME_FACE = 0.3  # overlap above which the detection with the lower score is dropped
# The file fixes its input to 640x640, although the network needs no fixed size. In ONNX's encoding the two
# dimensions are twice the number 640; they are replaced by the names h and w, which stand for any size.
FIXED_SIZE = b"\n\x03\x08\x80\x05" * 2
FREE_SIZE = b"\n\x03\x12\x01h\n\x03\x12\x01w"


class YuNet:
    """Finds faces in images of any size; load it once per process.

    Args:
        path: path of ``face_detection_yunet_2023mar.onnx``.
        min_score: lowest score of a detection, 0 to 1.
        threads: threads of the network; the detections do not depend on their number.

    Raises:
        WeightsError: the file does not hold this network.
    """

    oriented = True
    settle_s = 0.5
    second_look = True

    def __init__(self, path: str | Path, min_score: float, threads: int = 1):
        model = Path(path).read_bytes().replace(FIXED_SIZE, FREE_SIZE)
        self._names = [f"{kind}_{s}" for s in STRIDES for kind in ("cls", "obj", "bbox", "kps")]
        remedy = f"faces.weights must be empty or the path of {YUNET}"
        with refused(path, "the face detector YuNet", remedy):
            self._net = open_session(model, threads)
            if missing := set(self._names) - {output.name for output in self._net.get_outputs()}:
                raise ValueError(f"it has no output {min(missing)}")
        self._min_score = float(min_score)

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        height, width = rgb.shape[:2]
        whole = [-(-side // STRIDES[-1]) * STRIDES[-1] for side in (height, width)]
        image = np.zeros((1, 3, *whole), np.float32)
        for i, channel in enumerate(cv2.split(rgb)):  # the network takes BGR, 0 to 255
            image[0, 2 - i, :height, :width] = channel
        maps = self._net.run(self._names, {"input": image})
        rows = [self._decode(maps[4 * i : 4 * i + 4], s, whole[1]) for i, s in enumerate(STRIDES)]
        box, points, score = (np.concatenate(part) for part in zip(*rows, strict=True))
        if len(score) > 1:
            kept = np.asarray(cv2.dnn.NMSBoxes(box.tolist(), score.tolist(), self._min_score, SAME_FACE), int)
            box, points, score = box[kept], points[kept], score[kept]
        return largest_first([Face(b, p, float(s)) for b, p, s in zip(box, points, score, strict=True)])

    def _decode(self, maps: list[np.ndarray], stride: int, width: int) -> tuple[np.ndarray, ...]:
        """Return boxes [k,4], landmarks [k,5,2] and scores [k] of one stride's cells that reach min_score."""
        cls, obj, box, points = (m[0] for m in maps)
        score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
        found = np.flatnonzero(score >= self._min_score)
        cell = np.stack([found % (width // stride), found // (width // stride)], axis=1).astype(np.float64)
        size = np.exp(box[found, 2:].astype(np.float64))
        corner = cell + box[found, :2] - size / 2
        place = cell[:, None] + points[found].reshape(-1, 5, 2)
        return np.concatenate([corner, size], axis=1) * stride, place * stride, score[found]
