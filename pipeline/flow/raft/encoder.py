"""RAFT's encoders prepared for inference: torchvision's modules with faster parts.

Batch norms are merged into the convolutions before them. Instance norms work on channels-last maps without
changing their layout. On the CPU, 3x3 convolutions of stride 1 become `WinogradConv`.
Axes: N images, C channels, H and W map.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deiii.data.tools.compilation.numba_jit import compiled
from deiii.pipeline.flow.raft.winograd import NARROW, WinogradConv, flat_rows

SHORT_SUM = 64  # points that are summed in float32 before they are added to a float64 sum


def prepare_encoder(encoder: nn.Module, winograd: bool) -> nn.Module:
    """Replace parts of a torchvision encoder, in place, by faster ones with the same results up to rounding.

    Args:
        encoder: torchvision's, in evaluation mode.
        winograd: use `WinogradConv`, which computes in float32 on the CPU.

    Returns:
        the same encoder.
    """
    for module in encoder.modules():
        if not isinstance(module, nn.Sequential) or not isinstance(module[0], nn.Conv2d):
            continue
        norm = module[1] if len(module) > 1 else None
        relu = len(module) > 2
        if isinstance(norm, nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(module[0], norm)
            module[1] = nn.Identity()
        elif isinstance(norm, nn.InstanceNorm2d):
            module[1] = InstanceNorm(norm.eps, relu)
            if relu:
                module[2] = nn.Identity()
        conv = module[0]
        same = conv.kernel_size == (3, 3) and conv.stride == (1, 1)
        if winograd and same and min(conv.weight.shape[:2]) >= NARROW:
            module[0] = WinogradConv(conv.weight, conv.bias)
    return encoder


class InstanceNorm(nn.Module):
    """`nn.InstanceNorm2d` without parameters, for channels-last maps; statistics in float32.

    Args:
        eps: added to the variance.
        relu: apply a ReLU to the result.
    """

    def __init__(self, eps: float, relu: bool):
        super().__init__()
        self.eps = eps
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N,C,H,W]; a float32 map on the CPU is changed in place."""
        if x.device.type == "cpu" and x.dtype == torch.float32:
            x = x.contiguous(memory_format=torch.channels_last)
            n, c, height, width = x.shape
            normalise(flat_rows(x)[0].numpy(), n, height * width, c, self.eps, self.relu)
            return x
        variance, mean = torch.var_mean(x.float(), (2, 3), correction=0, keepdim=True)
        y = ((x - mean) * torch.rsqrt(variance + self.eps)).to(x.dtype)
        return y.relu_() if self.relu else y


@compiled
def normalise(x, n, points, channels, eps, relu):
    """Normalise a flat channels-last map in place.

    Args:
        x: float32 [n*points*channels].
        n, points, channels: numbers of images, of points of a map, and of channels.
        eps: added to the variance.
        relu: apply a ReLU to the result.
    """
    total = np.zeros(channels, np.float64)
    part = np.zeros(channels, np.float32)
    mean = np.zeros(channels, np.float32)
    scale = np.zeros(channels, np.float32)
    for i in range(n):
        image = x[i * points * channels : (i + 1) * points * channels]
        _sum_values(image, points, channels, part, total)
        for c in range(channels):
            mean[c] = total[c] / points
        _sum_squares(image, points, channels, mean, part, total)
        for c in range(channels):
            scale[c] = 1 / np.sqrt(total[c] / points + eps)
        _rescale(image, points, channels, mean, scale, relu)


@compiled
def _sum_values(image, points, channels, part, total):
    """Sum an image over its points into ``total`` [channels]; ``part`` is a work space."""
    total[:] = 0
    for start in range(0, points, SHORT_SUM):
        part[:] = 0
        for p in range(start, min(start + SHORT_SUM, points)):
            row = image[p * channels : (p + 1) * channels]
            for c in range(channels):
                part[c] += row[c]
        for c in range(channels):
            total[c] += part[c]


@compiled
def _sum_squares(image, points, channels, mean, part, total):
    """Sum the squared differences from ``mean`` into ``total`` [channels]."""
    total[:] = 0
    for start in range(0, points, SHORT_SUM):
        part[:] = 0
        for p in range(start, min(start + SHORT_SUM, points)):
            row = image[p * channels : (p + 1) * channels]
            for c in range(channels):
                part[c] += (row[c] - mean[c]) * (row[c] - mean[c])
        for c in range(channels):
            total[c] += part[c]


@compiled
def _rescale(image, points, channels, mean, scale, relu):
    """Subtract ``mean`` and multiply by ``scale``, in place."""
    for p in range(points):
        row = image[p * channels : (p + 1) * channels]
        if relu:
            for c in range(channels):
                row[c] = max((row[c] - mean[c]) * scale[c], np.float32(0))
        else:
            for c in range(channels):
                row[c] = (row[c] - mean[c]) * scale[c]
