"""Image encoders of transformers on face crops: DINOv2, CLIP's image network, ViT and others with tokens.

Networks whose layers differ in width, such as ConvNeXt, ResNet and Swin, give their last layer.

Sources: Oquab et al. 2023 (arXiv 2304.07193), Radford et al. 2021 (2103.00020), Dosovitskiy et al. 2021
(2010.11929), Liu et al. 2022 (2201.03545), He et al. 2016 (CVPR), Liu et al. 2021 (2103.14030).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from deiii.data.encoders.record import Request
from deiii.data.encoders.transformers_input import IMAGES, INPUT_SETTINGS, load_preparer
from deiii.data.encoders.transformers_shapes import (
    channels_and_places,
    image_part,
    is_class_first,
    usual_side,
)
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.images import resized, scaled
from deiii.pipeline.encoders.torch_network import exact, load_pretrained, placed, to_device, to_host, tried

SIDE = 224  # px of the black crop on which a network is tried
WRONG_INPUT = (
    f"if {INPUT_SETTINGS} is not that of this network, write the right one with {IMAGES}.from_pretrained("
    "ITS_NAME).save_pretrained(folder) of transformers; otherwise write a load function for it"
)


class ImageNetwork:
    """Encodes face crops with a network of transformers that turns images into tokens; see `load`."""

    def __init__(self, network: Any, processor: Any, size: int, request: Request):
        self._network = network
        self._processor = processor
        self._size = size  # px, without a processor
        self._layers = request.layers
        self._grid = request.grid
        self._dtype = getattr(torch, request.precision)

    @usual_defaults()
    @torch.inference_mode()
    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Encode RGB crops uint8 [B,S,S,3] as float32.

        Returns:
            [B,L,D], the first token of each layer; with a grid of G cells a side [B,L*G*G,D], their means.
        """
        states, images = self._states(crops)
        chosen = [states[layer] for layer in self._layers]
        if self._grid:
            chosen = [cells for state in chosen for cells in self._cells(state, images)]
        else:
            chosen = [state[:, 0] for state in chosen]
        return to_host(torch.stack(chosen, dim=1))

    @usual_defaults()
    @torch.inference_mode()
    def check(self, folder: str) -> None:
        """Raise WeightsError if the network does not run, or has no class token where one is needed."""
        with tried(folder, "a crop", WRONG_INPUT):
            states, images = self._states(np.zeros((1, SIDE, SIDE, 3), np.uint8))
            rows, columns = self._patches(images)
            if self._grid:
                self._cells(states[-1], images)
        if not self._grid and states[-1].shape[1] == rows * columns:
            raise WeightsError(
                f"{folder} holds a network without a class token, so that its first token stands for one "
                "corner of the crop: set appearance.grid=1 for the mean of its tokens, or a larger grid"
            )

    def _states(self, crops: np.ndarray) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
        """Return the tokens [B,P,D] of all layers, and the network's input [B,3,S,S]."""
        images = to_device(self._images(crops), self._network.device, self._dtype)
        with exact(self._network.device):
            found = self._network(images, output_hidden_states=True, **self._order(images))
        return found.hidden_states, images

    def _order(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the further input of MAE, which orders the patches by these values; empty for others.

        In training the values are random, and the patches of the largest ones are hidden.
        """
        if self._network.config.model_type != "vit_mae":
            return {}
        rows, columns = self._patches(images)
        return {"noise": torch.arange(rows * columns, device=images.device).expand(len(images), -1)}

    def _images(self, crops: np.ndarray) -> torch.Tensor:
        if self._processor is not None:
            return self._processor(list(crops), return_tensors="pt")["pixel_values"]
        images = np.stack([scaled(resized(crop, self._size), "imagenet") for crop in crops])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def _cells(self, state: torch.Tensor, images: torch.Tensor) -> list[torch.Tensor]:
        """Return means of the tokens in each cell of the grid, row by row: G*G tensors [B,D]."""
        rows, columns = self._patches(images)
        tokens = state[:, -rows * columns :]  # after the class token, and registers where there are any
        grid = tokens.transpose(1, 2).unflatten(2, (rows, columns))
        return list(adaptive_avg_pool2d(grid.float(), self._grid).flatten(2).unbind(2))

    def _patches(self, images: torch.Tensor) -> tuple[int, int]:
        """Return the numbers of rows and columns of patches."""
        height, width = pair(self._network.config.patch_size)
        return images.shape[2] // height, images.shape[3] // width


class LastLayer(ImageNetwork):
    """Encodes face crops with the last layer of a network of transformers of any layout; see `load_last`."""

    @usual_defaults()
    @torch.inference_mode()
    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Encode RGB crops uint8 [B,S,S,3] as float32.

        Returns:
            [B,1,D], the vector that the network's own classifier reads; with a grid of G cells a side
            [B,G*G,D], means of the features in each cell.
        """
        images = to_device(self._images(crops), self._network.device, self._dtype)
        with exact(self._network.device):
            found = self._network(images)
        last = found.last_hidden_state
        width, places = channels_and_places(tuple(last.shape))
        if not self._grid:
            return to_host(self._whole(found, last, width)[:, None])
        if last.ndim == 3:
            last = last[:, -places * places :].transpose(1, 2).unflatten(2, (places, places))
        return to_host(adaptive_avg_pool2d(last.float(), self._grid).flatten(2).transpose(1, 2))

    def check(self, folder: str) -> None:
        """Raise WeightsError if the network does not run, or gives other features each time."""
        crop = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
        with tried(folder, "a crop", WRONG_INPUT):
            one, two = self(crop), self(crop)
        if not np.allclose(one, two, rtol=1e-3, atol=1e-3 * np.abs(one).max(), equal_nan=True):
            raise WeightsError(
                f"{folder} holds a network that is not an encoder of appearance: it gives other features "
                "each time, as one does that hides parts of the image at random; choose another one"
            )

    @staticmethod
    def _whole(found: Any, last: torch.Tensor, width: int) -> torch.Tensor:
        """Return one vector [B,D] of each image: the pooled output, the class token, or the mean."""
        pooled = getattr(found, "pooler_output", None)
        if pooled is not None and pooled.shape[1:].numel() == width:
            return pooled.flatten(1)
        if last.ndim == 4:
            return last.float().mean(dim=(2, 3))
        return last[:, 0] if is_class_first(tuple(last.shape)) else last.float().mean(dim=1)


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of a size in a network's settings, one number or both.

    >>> pair(16), pair([14, 16])
    ((16, 16), (14, 16))
    """
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def load(request: Request) -> ImageNetwork:
    """Return an image encoder from a folder of transformers. Raises WeightsError."""
    network = image_part(load_pretrained(request))
    if network.config.model_type == "vit_mae":
        network.config.mask_ratio = 0.0  # no patch is hidden
    processor = _processor(request.path)
    height, width = pair(network.config.image_size)
    if processor is None and height != width:
        raise WeightsError(
            f"{request.path} holds a network of images of {width}x{height} px, which crops are not: add its "
            "preprocessor_config.json, which says how images get this size"
        )
    encoder = ImageNetwork(placed(network, request), processor, height, request)
    encoder.check(request.path)
    return encoder


def load_last(request: Request) -> LastLayer:
    """Return an encoder of images that gives its last layer, from a folder. Raises WeightsError."""
    network = image_part(load_pretrained(request, used=("pooler.",)))
    side = usual_side(network.config)
    encoder = LastLayer(placed(network, request), _processor(request.path), side, request)
    encoder.check(request.path)
    return encoder


def _processor(folder: str) -> Any:
    """Return what prepares the images of a folder, None if it does not say it. Raises WeightsError."""
    return load_preparer(folder, IMAGES) if os.path.isfile(os.path.join(folder, INPUT_SETTINGS)) else None
