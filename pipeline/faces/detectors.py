"""Face detectors: YuNet (five landmarks, needs weights) and OpenCV's Haar cascade (needs none).

Both get images of bounded size. Where YuNet finds nothing, it searches the same image again at twice that
size, so the second search costs time only while there is no larger face.

YuNet is in `deiii.pipeline.faces.yunet`. Haar: Viola and Jones, CVPR 2001, through `cv2.CascadeClassifier`.
"""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
from cv2.data import haarcascades

from deiii.data.config.schema import FacesConfig
from deiii.data.encoders.onnx_session import refused
from deiii.data.tools import weights
from deiii.pipeline.faces.face import Detector, Face, largest_first
from deiii.pipeline.media.decoders.nvdec import require

HAAR = "haarcascade_frontalface_default.xml"
REMEDY = "faces.weights must be empty or the path of the XML file of a cascade with faces.detector=haar"

# Eyes, nose tip and mouth corners (left in the image first) in the unit square of a Haar box: means over
# detections of both detectors on the same talking faces, made symmetric.
TEMPLATE = np.array([[0.325, 0.395], [0.675, 0.395], [0.5, 0.61], [0.34, 0.765], [0.66, 0.765]])


class Haar:
    """OpenCV's frontal Haar cascade; `TEMPLATE` places the landmarks in its upright boxes.

    Threads take turns, because a cascade of OpenCV keeps the image that it searches: with two threads at once
    the boxes of both would be wrong.

    Args:
        path: XML file of the cascade.

    Raises:
        WeightsError: the file does not hold a cascade.
    """

    oriented = False
    settle_s = 1.5
    second_look = False  # it adds more false detections than faces

    def __init__(self, path: str):
        self._turn = threading.Lock()
        with refused(path, "a cascade of OpenCV", REMEDY):
            self._cascade = cv2.CascadeClassifier(path)
            if self._cascade.empty():
                raise ValueError("it has no stages")

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        with self._turn:
            found = self._cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24))
        boxes = [np.asarray(box, np.float64) for box in found]
        return largest_first([Face(b, b[:2] + TEMPLATE * b[2:], 1.0) for b in boxes])


def load_detector(config: FacesConfig) -> Detector:
    """Load the configured detector; this is needed once per process.

    Raises:
        WeightsError: the weights cannot be found, or the file does not hold those of this detector.
        ConfigError: ``faces.decoder=gpu``, and this process cannot decode on a GPU.

    >>> len(load_detector(FacesConfig())(np.zeros((240, 320, 3), np.uint8)))
    0
    """
    require(config)
    if config.detector == "haar":
        return Haar(_cascade_file(config))
    from deiii.pipeline.faces.yunet import YuNet

    return YuNet(weights.resolve(config.weights, weights.YUNET)[0], config.min_score)


def _cascade_file(config: FacesConfig) -> str:
    return config.weights or str(Path(haarcascades) / HAAR)
