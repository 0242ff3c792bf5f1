"""All-pairs correlation of two feature maps, and samples of it in windows around moving points.

The results are those of torchvision's `CorrBlock`. All D*D samples of a window have the same fractional part
of their position. On the CPU they are therefore read as a patch of (D+1)x(D+1) values, which is interpolated
once along each axis. On a GPU one Triton kernel reads all levels. Without Triton, `grid_sample` reads them,
and the offsets of the window are computed once, in its units. The result has the layout of the next layer's
input. Axes: N pairs, C channels, h and w feature map, D=2*radius+1 side of the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deiii.data.tools.compilation.numba_jit import compiled
from deiii.data.tools.processes.torch_defaults import cudnn_flags
from deiii.pipeline.flow.raft.tiles import zero


class CorrelationPyramid:
    """Correlations of every point with every point, pooled to several scales.

    Args:
        first, second: features [N,C,h,w] of the two frames of each pair.
        levels: number of scales.
        radius: radius of the window in px of each scale.
        kernels: `deiii.pipeline.flow.raft.kernels` where it runs.

    Raises:
        ValueError: the maps are too small for this number of levels.
    """

    def __init__(
        self, first: Tensor, second: Tensor, levels: int, radius: int, kernels: ModuleType | None = None
    ):
        n, c, h, w = first.shape
        least = 2**levels  # a grid needs two points, also on the coarsest level
        if min(h, w) < least:
            raise ValueError(f"RAFT needs images of at least {8 * least} px, not {8 * h}x{8 * w}")
        self.shape = (n, h, w)
        self.radius = radius
        self.side = 2 * radius + 1
        self.kernels = kernels
        if on_cpu(first):
            volume = torch.matmul(_rows(first), _rows(second).transpose(1, 2)).mul_(c**-0.5)
            self.levels = [volume.view(n * h * w, 1, h, w)]
            for _ in range(levels - 1):
                self.levels.append(F.avg_pool2d(self.levels[-1], 2, 2))
            return
        # All levels are parts of one array, so that one kernel can read them.
        sizes = [(h >> level, w >> level) for level in range(levels)]
        self.pyramid = torch.empty(n * h * w * sum(a * b for a, b in sizes), device=first.device)
        parts = self.pyramid.split([n * h * w * a * b for a, b in sizes])
        self.levels = [part.view(n * h * w, 1, *size) for part, size in zip(parts, sizes, strict=True)]
        volume = self.levels[0].view(n, h * w, h * w)
        torch.baddbmm(volume, _rows(first), _rows(second).transpose(1, 2), beta=0, alpha=c**-0.5, out=volume)
        for finer, coarser in pairwise(self.levels):
            torch.ops.aten.avg_pool2d.out(finer, [2, 2], [2, 2], out=coarser)
        if kernels is None:
            self.windows = windows(levels, radius, h, w, first.device)

    def lookup(self, points: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return bilinear samples around each point; zero outside the map.

        Args:
            points: float32 [N,2,h,w], x and y in the map of the second frame of each point of the first.
            dtype: data type of the result, away from the CPU; the samples are computed in float32.

        Returns:
            [N,h,w,levels*D*D], each window row by row (torchvision's are column by column); float32 on the
            CPU.
        """
        n, h, w = self.shape
        if self.kernels is not None:
            return self.kernels.lookup(self.pyramid, points, len(self.levels), self.radius, dtype)
        centre = points.permute(0, 2, 3, 1).reshape(n * h * w, 1, 1, 2)
        if on_cpu(points):
            out = torch.empty(n * h * w, len(self.levels) * self.side**2)
            flat = centre.view(-1, 2).contiguous().numpy()
            sample = sampler(self.radius)
            for i, volume in enumerate(self.levels):
                values = (volume.view(-1).numpy(), *volume.shape[2:])
                sample(values, flat, np.float32(0.5**i), out.numpy(), i * self.side**2)
            return out.view(n, h, w, -1)
        # cuDNN's sampler refuses more than 262,140 rows of 49 samples (196,605 of 81); PyTorch's takes all.
        with cudnn_flags(points.device, enabled=False):
            samples = [
                F.grid_sample(volume, torch.addcmul(window, centre, scale), align_corners=True)
                for volume, (window, scale) in zip(self.levels, self.windows, strict=True)
            ]
        return torch.cat([s.view(n, h, w, self.side**2) for s in samples], dim=3).to(dtype)


def _rows(x: Tensor) -> Tensor:
    """Return a map [N,C,h,w] as float32 [N,h*w,C]."""
    return x.float().permute(0, 2, 3, 1).flatten(1, 2)


def on_cpu(x: Tensor) -> bool:
    """Return whether a tensor is in the memory of the CPU."""
    return x.device.type == "cpu"


@lru_cache(maxsize=8)
def windows(levels: int, radius: int, h: int, w: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return the window [D,D,2] and the size of a px [2] of each level in the units of `grid_sample`."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    window = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
    result = []
    for level in range(levels):
        unit = 2 / torch.tensor([(w >> level) - 1, (h >> level) - 1], dtype=torch.float32)  # x, y
        result.append(((window * unit - 1).to(device), (unit / 2**level).to(device)))
    return result


@lru_cache(maxsize=4)
def sampler(radius: int) -> Callable[..., None]:
    """Return the lookup on the CPU for one radius; a constant radius lets the compiler unroll its loops."""
    side = 2 * radius + 1
    line = 16 * (side // 16 + 1)  # length of a row of the patch: whole vectors of 16 numbers

    @compiled
    def sample(volume, centre, scale, out, start):
        """Write windows of ``volume`` (values [P*h*w], h, w) around ``centre`` [P,2] * ``scale``."""
        values, height, width = volume
        patch, mixed = np.zeros((side + 2) * line, np.float32), np.zeros((side + 1) * line, np.float32)
        for p in range(len(centre)):
            # Outside of this range every sample is zero; the bounds also keep indices small.
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
