"""Which part of the stored crops a clip shows when it is zoomed or rotated, and which part is erased.

Axes: B clips, S network's input size. Places are (x, y) in px from the upper left corner of an image: x to
the right, y down; the centre of the first pixel is at (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from deiii.data.config.schema import LoaderConfig

# Random numbers: zoom, rotation, whether to erase, area, shape, top and left of what is erased, grey.
VIDEO_DRAWS = 8
LEAST_AREA, MOST_AREA = 0.02, 0.2  # of the rectangle, as a share of the square
LONGEST = 1 / 0.3  # largest ratio of the rectangle's sides


@dataclass(frozen=True)
class Affine:
    """The map of each clip from places of the network's input to places of the stored crops.

    Attributes:
        place: float32 [B,2,3]; the stored place is ``place @ (x, y, 1)``.
        arrow: float32 [B,2,2]; the flow vector of the input is ``arrow @ (u, v)``: the inverse of the first
            two columns of ``place``.
    """

    place: torch.Tensor
    arrow: torch.Tensor


@dataclass(frozen=True)
class Rectangle:
    """The pixels of each clip that are erased.

    Attributes:
        top, bottom: int64 [B], the first row, and the first one below; equal where nothing is erased.
        left, right: int64 [B], the first column, and the first one to the right; likewise.
    """

    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def covers(self, size: int) -> torch.Tensor:
        """Return whether each pixel is erased, bool [B,S,S]."""
        at = torch.arange(size, device=self.top.device)
        rows = (at >= self.top[:, None]) & (at < self.bottom[:, None])
        columns = (at >= self.left[:, None]) & (at < self.right[:, None])
        return rows[:, :, None] & columns[:, None, :]


def resamples(config: LoaderConfig) -> bool:
    """Return whether training zooms or rotates, so that frames and flow are interpolated."""
    return config.zoom > 0 or config.rotate > 0


def affine(
    draws: torch.Tensor, corner: torch.Tensor, flip: torch.Tensor, config: LoaderConfig, stored: int
) -> Affine:
    """Return flip, zoom, rotation and place of each clip's square as one map.

    The square of the stored crop that a clip shows has a side of ``config.crop`` times z. log(z) is uniform
    between the logarithms of 1 / (1 + zoom) and 1 + zoom, or of stored / crop where that is less. Squares lie
    within the stored crop where they fit into it; a rotated square that does not is in the middle.

    Args:
        draws: float32 [B,VIDEO_DRAWS] in [0,1); columns 0 and 1 are used.
        corner: float32 [B,2] in [0,1), place of the square along y and x.
        flip: bool [B], whether the square is mirrored.
        config: size of the square, and largest zoom and rotation.
        stored: height and width of the stored crops in px, at least ``config.crop``.

    >>> draws, corner = torch.full((1, VIDEO_DRAWS), 0.5), torch.zeros(1, 2)
    >>> affine(draws, corner, torch.tensor([False]), LoaderConfig(crop=8, rotate=9), 10).place.tolist()
    [[[1.0, -0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    size = config.crop
    most = math.log1p(config.zoom)
    room = math.log(max(1.0, stored / size))
    zoom = torch.exp(-most + draws[:, 0] * (most + min(most, room)))
    angle = (2 * draws[:, 1] - 1) * math.radians(config.rotate)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    free = (stored - size * (cos.abs() + sin.abs())).clamp_min(0)
    y, x = (stored / 2 + (corner - 0.5) * free[:, None]).unbind(1)
    mirror = 1.0 - 2.0 * flip
    across, down = torch.stack((cos * mirror, sin * mirror), 1), torch.stack((-sin, cos), 1)
    begin = torch.stack((x, y), 1) - (across + down) * (size / 2)
    turned = torch.stack((across, down), 1)  # the transpose, and the inverse where zoom is 1
    return Affine(torch.stack((across, down, begin), 2), turned / (zoom * zoom)[:, None, None])


def erased(draws: torch.Tensor, config: LoaderConfig) -> Rectangle:
    """Return the rectangle of each clip for Random Erasing (Zhong et al. 2020, arXiv 1708.04896).

    Its share of the square is uniform between 2 and 20 %; the logarithm of the ratio of its sides is uniform
    between those of 0.3 and 1 / 0.3. Such rectangles always fit into the square.

    Args:
        draws: float32 [B,VIDEO_DRAWS] in [0,1); columns 2 to 6 are used.
        config: size of the square and probability.
    """
    size = config.crop
    chance, area, shape, top, left = draws[:, 2:7].unbind(1)
    some = chance < config.erase
    side = torch.sqrt(LEAST_AREA + area * (MOST_AREA - LEAST_AREA)) * size
    ratio = torch.exp((shape - 0.5) * math.log(LONGEST))  # square root of the ratio of height to width
    height, width = ((x.round().clamp_min(1) * some).long() for x in (side * ratio, side / ratio))
    # As float32 a random number may round up to 1, hence the minimum.
    y, x = (torch.minimum((at * (size - n + 1)).long(), size - n) for at, n in ((top, height), (left, width)))
    y, x = y * some, x * some
    return Rectangle(y, y + height, x, x + width)
