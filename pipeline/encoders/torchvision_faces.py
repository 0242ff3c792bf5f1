"""Networks of torchvision that were trained on ImageNet, without their classifiers."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torchvision import models

from deiii.data.encoders.record import Request
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.images import resized, scaled
from deiii.pipeline.encoders.torch_network import exact, to_device, to_host

SIZE = 224  # px


class TorchvisionFaces:
    """Encodes face crops with a network of torchvision without its classifier; see `load`."""

    def __init__(self, network: nn.Module, request: Request):
        self._network = network
        self._device = request.device
        self._dtype = getattr(torch, request.precision)

    @usual_defaults()
    @torch.inference_mode()
    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Encode RGB crops uint8 [B,S,S,3] as float32 [B,1,D]."""
        images = np.stack([scaled(resized(crop, SIZE), "imagenet") for crop in crops])
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        with exact(self._device):
            features = self._network(to_device(x, self._device, self._dtype))
        return to_host(features.flatten(1)[:, None])


def load(request: Request) -> TorchvisionFaces:
    """Return a network of torchvision from its published weights.

    Raises:
        WeightsError: the file does not hold this network.
    """
    network = models.get_model(request.name, weights=None)
    try:
        network.load_state_dict(torch.load(request.path, weights_only=True, map_location="cpu"))
    except Exception as error:  # torch raises many types for a damaged file
        raise WeightsError(
            f"{request.path} does not hold torchvision's {request.name} ({str(error).splitlines()[0]:.200})"
        ) from None
    for part in ("fc", "classifier"):  # the features are the input of the last layer, or of the classifier
        if hasattr(network, part):
            setattr(network, part, nn.Identity())
    network.eval().requires_grad_(False).to(request.device, getattr(torch, request.precision))
    return TorchvisionFaces(network, request)
