"""RAFT's encoders made ready for inference: torchvision's modules with faster parts.

Batch norms are merged into the convolutions before them, instance norms work on channels-last maps without
changing the layout, and on the CPU stride-1 3x3 convolutions are `WinogradConv`.
Axes: N images, C channels, H and W map.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deiii.pipeline.flow.raft.winograd import WinogradConv, compiled, flat_rows

NARROW = 16  # with fewer channels Winograd's transforms cost more than its products save


def prepare_encoder(encoder: nn.Module, winograd: bool) -> nn.Module:
    """Replace the parts of a torchvision encoder, in place, by ones that give the same numbers.

    Args:
        encoder: in evaluation mode.
        winograd: use `WinogradConv` (float32 on the CPU).
    """
    for module in encoder.modules():
        if not isinstance(module, nn.Sequential) or not isinstance(module[0], nn.Conv2d):
            continue
        norm, relu = (module[1] if len(module) > 1 else None), len(module) > 2
        if isinstance(norm, nn.BatchNorm2d):
            module[0], module[1] = fuse_conv_bn_eval(module[0], norm), nn.Identity()
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
        relu: cut the result off at zero.
    """

    def __init__(self, eps: float, relu: bool):
        super().__init__()
        self.eps, self.relu = eps, relu

    def forward(self, x: Tensor) -> Tensor:
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
    """Instance normalisation of a flat channels-last map, in place."""
    total, part = np.zeros(channels, np.float64), np.zeros(channels, np.float32)
    mean, scale = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    for i in range(n):
        for squares in range(2):
            total[:] = 0
            for start in range(0, points, 64):  # short float32 sums, long float64 ones
                part[:] = 0
                for p in range(start, min(start + 64, points)):
                    at = (i * points + p) * channels
                    row = x[at : at + channels]
                    if squares:
                        for c in range(channels):
                            part[c] += (row[c] - mean[c]) * (row[c] - mean[c])
                    else:
                        for c in range(channels):
                            part[c] += row[c]
                for c in range(channels):
                    total[c] += part[c]
            for c in range(channels):
                if squares:
                    scale[c] = 1 / np.sqrt(total[c] / points + eps)
                else:
                    mean[c] = total[c] / points
        for p in range(points):
            at = (i * points + p) * channels
            row = x[at : at + channels]
            if relu:
                for c in range(channels):
                    row[c] = max((row[c] - mean[c]) * scale[c], np.float32(0))
            else:
                for c in range(channels):
                    row[c] = (row[c] - mean[c]) * scale[c]
