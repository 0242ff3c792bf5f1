"""Optical flow as colours, for contact sheets, overlays and the report."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.utils import flow_to_image


def flow_colours(flow: np.ndarray, largest: float) -> np.ndarray:
    """Flow as colours: hue is direction, saturation is length (Baker et al., 2011).

    Args:
        flow: float32 [H,W,2], px.
        largest: length in px that gets full saturation.

    Returns:
        uint8 [H,W,3], RGB.
    """
    length = np.linalg.norm(flow, axis=2, keepdims=True)
    shown = flow * np.minimum(1, largest / np.maximum(length, 1e-9))
    height, width = flow.shape[:2]
    padded = np.zeros((height + 1, width, 2), np.float32)  # flow_to_image scales by the largest
    padded[:height] = shown
    padded[height, 0] = (largest, 0)
    image = flow_to_image(torch.from_numpy(padded).permute(2, 0, 1).contiguous())
    return image[:, :height].permute(1, 2, 0).numpy()


def colour_wheel(size: int) -> np.ndarray:
    """The legend of `flow_colours`: the colour of each direction and length of flow, on a disc.

    Args:
        size: height and width in px.

    Returns:
        uint8 [size,size,3], RGB; white outside the disc.
    """
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    wheel = flow_colours(np.stack([u, v], axis=2), 1.0)
    wheel[np.hypot(u, v) > 1] = 255
    return wheel
