"""All-pairs correlation of two feature maps, and its lookup around a moving point.

The same numbers as torchvision's `CorrBlock`. All D*D samples of a window share one fraction of a px,
so on the CPU they are a patch of (D+1)x(D+1) values, interpolated once along each axis; elsewhere the
window's offsets are prepared once, on the device and already in the units of `grid_sample`. The
result has the layout that the next layer reads.
Axes: N pairs, C channels, h and w feature map, D=2*radius+1 side of the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deiii.pipeline.flow.raft.winograd import compiled, zero


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
        rows = lambda x: x.float().permute(0, 2, 3, 1).flatten(1, 2)
        volume = torch.matmul(rows(first), rows(second).transpose(1, 2)).mul_(c**-0.5)
        self.shape, self.radius, self.side = (n, h, w), radius, 2 * radius + 1
        self.levels = [volume.view(n * h * w, 1, h, w)]
        for _ in range(levels - 1):
            self.levels.append(F.avg_pool2d(self.levels[-1], 2, 2))
        if not on_cpu(first):
            self.windows = windows(levels, radius, h, w, first.device)

    def lookup(self, points: Tensor) -> Tensor:
        """Bilinear samples around each point; zero outside the map.

        Args:
            points: float32 [N,2,h,w], x and y of each first-frame point in the second frame's map.

        Returns:
            float32 [N,h,w,levels*D*D], each window row by row (torchvision's go column by column).
        """
        n, h, w = self.shape
        centre = points.permute(0, 2, 3, 1).reshape(n * h * w, 1, 1, 2)
        if on_cpu(points):
            out = torch.empty(n * h * w, len(self.levels) * self.side**2)
            flat = centre.view(-1, 2).contiguous().numpy()
            sample = sampler(self.radius)
            for i, volume in enumerate(self.levels):
                values = (volume.view(-1).numpy(), *volume.shape[2:])
                sample(values, flat, np.float32(0.5**i), out.numpy(), i * self.side**2)
            return out.view(n, h, w, -1)
        samples = [
            F.grid_sample(volume, torch.addcmul(window, centre, scale), align_corners=True)
            for volume, (window, scale) in zip(self.levels, self.windows, strict=True)
        ]
        return torch.cat([s.view(n, h, w, self.side**2) for s in samples], dim=3)


def on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


@lru_cache(maxsize=8)
def windows(levels: int, radius: int, h: int, w: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Each level's window [D,D,2] and px [2] in `grid_sample`'s units, once for a size and a device."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    window = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
    made = []
    for level in range(levels):
        unit = 2 / torch.tensor([(w >> level) - 1, (h >> level) - 1], dtype=torch.float32)  # x, y
        made.append(((window * unit - 1).to(device), (unit / 2**level).to(device)))
    return made


@lru_cache(maxsize=4)
def sampler(radius: int) -> Callable[..., None]:
    """The CPU's lookup for one radius, which the compiler unrolls."""
    side = 2 * radius + 1
    line = 16 * (side // 16 + 1)  # a row of the patch, in whole vectors

    @compiled
    def sample(volume, centre, scale, out, start):
        """Windows of ``volume`` (values [P*h*w], h, w) around ``centre`` [P,2] * ``scale``, into ``out``."""
        values, height, width = volume
        patch, mixed = np.zeros((side + 2) * line, np.float32), np.zeros((side + 1) * line, np.float32)
        for p in range(len(centre)):
            # Beyond this every sample is zero; it also keeps wild values out of the indices.
            x = min(max(centre[p, 0] * scale, np.float32(-radius - 2)), np.float32(width + radius + 1))
            y = min(max(centre[p, 1] * scale, np.float32(-radius - 2)), np.float32(height + radius + 1))
            left, top = int(math.floor(x)), int(math.floor(y))
            fx, fy = np.float32(x - left), np.float32(y - top)
            gx, gy = np.float32(1) - fx, np.float32(1) - fy
            before, after = max(radius - left, 0), min(width + radius - left, side + 1)
            for i in range(side + 1):
                row = top - radius + i
                to = patch[i * line : (i + 1) * line]
                for j in range(line):
                    to[j] = zero
                if 0 <= row < height and before < after:
                    at = (p * height + row) * width + left - radius + before
                    seen, place = values[at : at + after - before], to[before:after]
                    for j in range(after - before):
                        place[j] = seen[j]
            for i in range((side + 1) * line):
                mixed[i] = gx * patch[i] + fx * patch[i + 1]
            for i in range(side):
                place = out[p, start + i * side : start + (i + 1) * side]
                for j in range(side):
                    place[j] = gy * mixed[i * line + j] + fy * mixed[(i + 1) * line + j]

    return sample
