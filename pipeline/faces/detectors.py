"""Face detectors: YuNet (five landmarks, needs weights) and OpenCV's Haar cascade (needs none).

Both see a picture of bounded size. Where YuNet finds nothing in it, it sees the same picture once
more at twice that size, so small faces cost the second look only while there is no larger one.

YuNet is in `deiii.pipeline.faces.yunet`. Haar: Viola and Jones, CVPR 2001, through `cv2.CascadeClassifier`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from deiii.data.config.schema import FacesConfig
from deiii.data.tools import weights
from deiii.pipeline.faces.face import Detector, Face, largest_first

HAAR = "haarcascade_frontalface_default.xml"

# Eyes, nose and mouth corners (the picture's left first) in the unit square of a Haar box: means
# over both detectors' findings on the same talking faces, made symmetric.
TEMPLATE = np.array([[0.325, 0.395], [0.675, 0.395], [0.5, 0.61], [0.34, 0.765], [0.66, 0.765]])


class Haar:
    """OpenCV's frontal Haar cascade; landmarks are placed in its upright boxes by `TEMPLATE`."""

    # Its false alarms outnumber the faces that a second look adds.
    oriented, settle_s, second_look = False, 1.5, False

    def __init__(self, path: str):
        self._cascade = cv2.CascadeClassifier(path)

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        boxes = self._cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24))
        boxes = [np.asarray(b, np.float64) for b in boxes]
        return largest_first([Face(b, b[:2] + TEMPLATE * b[2:], 1.0) for b in boxes])


def load_detector(config: FacesConfig) -> Detector:
    """The detector that the settings name; load it once per process.

    Raises:
        data.weights.WeightsError: where YuNet's weights cannot be had.

    >>> len(load_detector(FacesConfig())(np.zeros((240, 320, 3), np.uint8)))
    0
    """
    if config.detector == "haar":
        return Haar(_cascade_file(config))
    from deiii.pipeline.faces.yunet import YuNet

    return YuNet(weights.resolve(config.weights, weights.YUNET)[0], config.min_score)


def _cascade_file(config: FacesConfig) -> str:
    return config.weights or str(Path(cv2.data.haarcascades) / HAAR)
