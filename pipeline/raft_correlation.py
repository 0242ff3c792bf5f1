"""All-pairs correlation of two feature maps, and its lookup around a moving point.

The same numbers as torchvision's `CorrBlock`, with the window's offsets prepared once, on the device and
already in the units of `grid_sample`, and results in the layout that the next layer reads.
Axes: N pairs, C channels, h and w feature map, D=2*radius+1 side of the window.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class CorrelationPyramid:
    """Correlations of every point with every point, pooled to several scales.

    Args:
        first, second: [N,C,h,w] features of each pair's frames.
        levels: number of scales.
        radius: of the looked-up window, in px of each scale.
    """

    def __init__(self, first: Tensor, second: Tensor, levels: int, radius: int):
        n, c, h, w = first.shape
        least = 2**levels  # the coarsest level must keep two points for its grid to have a spacing
        if min(h, w) < least:
            raise ValueError(f"RAFT needs images of at least {8 * least} px, not {8 * h}x{8 * w}")
        first, second = first.float(), second.float()
        volume = torch.matmul(first.flatten(2).transpose(1, 2), second.flatten(2)) / c**0.5
        self.shape, self.side = (n, h, w), 2 * radius + 1
        volume = volume.view(n * h * w, 1, h, w)
        self.levels, self.scales, self.windows = [], [], []
        steps = torch.arange(-radius, radius + 1, device=first.device, dtype=torch.float32)
        for level in range(levels):
            size = torch.tensor([volume.shape[3] - 1, volume.shape[2] - 1], dtype=torch.float32)
            unit = (2 / size).to(first.device)  # one px in grid_sample's units, x then y
            window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)  # x runs along axis 0
            self.levels.append(volume)
            self.scales.append(unit / 2**level)
            self.windows.append(window * unit - 1)
            if level + 1 < levels:
                volume = F.avg_pool2d(volume, 2, 2)

    def lookup(self, points: Tensor) -> Tensor:
        """Bilinear samples around each point; zero outside the map.

        Args:
            points: float32 [N,2,h,w], x and y of each first-frame point in the second frame's map.

        Returns:
            [N,h,w,levels*D*D].
        """
        n, h, w = self.shape
        centre = points.permute(0, 2, 3, 1).reshape(n * h * w, 1, 1, 2)
        samples = [
            F.grid_sample(volume, torch.addcmul(window, centre, scale), align_corners=True)
            for volume, window, scale in zip(self.levels, self.windows, self.scales, strict=True)
        ]
        return torch.cat([s.view(n, h, w, self.side**2) for s in samples], dim=3)
