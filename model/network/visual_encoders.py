"""Visual encoders: face crops and optical flow to spatial tokens.

The small encoder uses batch normalisation. In one trial each, the network learned a faint cue (the lids of
eyes that are five pixels wide) within 20 epochs with batch normalisation, and did not with group
normalisation. The statistics are those of the batch in training and fixed in evaluation; `only_valid` leaves
masked images out of them.

Axes: N images (clips x steps), C channels, S px, P = grid x grid spatial tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deiii.data.tools.weights import WeightsError
from deiii.model.distributed.layers import BatchNorm2d
from deiii.model.network.gpu import images


class ImageEncoder(nn.Module):
    """A small residual CNN whose output is a grid of spatial tokens.

    Args:
        inputs: input channels: 3 for frames; for flow, as `deiii.data.loader.sampling.flow_channels` states.
        channels: channels of the stages; the first also of the stem.
        width: D.
        grid: tokens lie on a grid of grid x grid cells.

    >>> ImageEncoder(2, [16, 32, 64], width=64, grid=3)(torch.zeros(5, 2, 96, 96)).shape
    torch.Size([5, 9, 64])
    """

    def __init__(self, inputs: int, channels: list[int], width: int, grid: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, channels[0], 5, stride=2, padding=2), nn.ReLU(inplace=True)
        )
        before = [channels[0], *channels[:-1]]
        self.stages = nn.Sequential(*(Residual(a, b) for a, b in zip(before, channels, strict=True)))
        self.tokens = GridTokens(channels[-1], width, grid)

    def forward(self, image_NCSS: Tensor, weight_N: Tensor | None = None) -> Tensor:
        """Encode float [N,C,S,S] as tokens [N,P,D].

        ``weight_N``, float32 [N], is each image's weight in the statistics over all ranks.
        """
        x = self.stem(image_NCSS.contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            x = stage(x, weight_N)
        return self.tokens(x)

    def kernels_for(self, image_NCSS: Tensor) -> ModuleType | None:
        """Return the kernels for `forward_by_kernels`; ``None`` if it cannot be used on these images."""
        norms = [layer for layer in self.modules() if isinstance(layer, BatchNorm2d)]
        if not self.training or any(not layer.single_process() for layer in norms):
            return None
        return images.kernels_for(image_NCSS, 1 + len(self.stages))

    def forward_by_kernels(
        self, kernels: ModuleType, image_NCSS: Tensor, mask_N: Tensor, factor: float
    ) -> Tensor:
        """Return ``self(only_valid(factor * image, mask))`` up to rounding, in training on a GPU."""
        stem, stages = cast(nn.Conv2d, self.stem[0]), cast(Sequence[Residual], self.stages)
        x, pooled = images.stem(kernels, image_NCSS, *valid_places(mask_N), factor, stem)
        for number, stage in enumerate(stages, start=1):
            x, pooled = stage.forward_by_kernels(kernels, x, pooled, more=number < len(stages))
        return self.tokens(x)


def only_valid(image_NCSS: Tensor, mask_N: Tensor) -> Tensor:
    """Replace masked images by copies of valid ones, so that batch statistics are over valid images alone.

    The shape stays, and the CPU does not wait for the device. The tokens of the copies are masked later.
    Where no image is valid, all are zero.

    Args:
        image_NCSS: float [N,C,S,S].
        mask_N: bool [N], true for valid images.
    """
    take, count = valid_places(mask_N)
    return image_NCSS[take].masked_fill_(count[0] == 0, 0.0)


def valid_places(mask_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of the image that replaces each, int64 [N], and the number of valid ones, int64 [1].

    A valid image is replaced by itself, a masked one by a valid one.

    >>> valid_places(torch.tensor([False, True, False, True]))[0]
    tensor([1, 1, 1, 3])
    """
    number = mask_N.cumsum(0)  # number of each valid image among the valid ones, from 1
    spare = torch.arange(len(mask_N), device=mask_N.device) % number[-1:].clamp_min(1)
    wanted = torch.where(mask_N, number, spare.add_(1))
    take = torch.searchsorted(number, wanted).clamp_(max=len(mask_N) - 1)  # the last one if none is valid
    return take, number[-1:]


def times_taken(mask_N: Tensor) -> Tensor:
    """Return how often each image is in the result of `only_valid`, float32 [N]; all 1 if none is valid."""
    spare = torch.arange(len(mask_N), device=mask_N.device) % mask_N.sum().clamp_min(1)
    copies = torch.zeros(len(mask_N), device=mask_N.device).index_add_(0, spare, (~mask_N).float())
    place = (mask_N.cumsum(0) - 1).clamp_min(0)
    return torch.where(mask_N.any(), torch.where(mask_N, 1 + copies[place], 0.0), 1.0)


class HalvingPool(nn.AvgPool2d):
    """The mean of each 2x2 square; on a GPU it is computed by `torch.mean` instead of a pooling kernel.

    The backward pass of the pooling kernels took 9 % of a training step on an NVIDIA H200 (preset base).
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[-2:]
        if not x.is_cuda or rows % 2 or columns % 2:
            return super().forward(x)
        x = x.permute(0, 2, 3, 1).unflatten(2, (columns // 2, 2)).unflatten(1, (rows // 2, 2))
        return x.mean(dim=(2, 4)).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a pooled 1x1 shortcut; halves the resolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            HalvingPool(2, ceil_mode=True, count_include_pad=False), nn.Conv2d(inputs, outputs, 1)
        )

    def forward(self, x: Tensor, weight_N: Tensor | None = None) -> Tensor:
        y = x
        for layer in self.branch:
            y = layer(y, weight_N) if isinstance(layer, BatchNorm2d) else layer(y)
        return torch.relu(y + self.shortcut(x))

    def forward_by_kernels(
        self, kernels: ModuleType, x: Tensor, pooled: Tensor, more: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the block's result and its means of 2x2 squares, by the kernels of a GPU.

        Args:
            kernels: the module `deiii.model.network.gpu.image_kernels`.
            x, pooled: the input and its means of 2x2 squares.
            more: whether another block follows; the means are empty otherwise.
        """
        norm, shortcut = cast(BatchNorm2d, self.branch[-1]), cast(nn.Conv2d, self.shortcut[1])
        y = norm.with_offset(self.branch[:-1](x), cast(Tensor, shortcut.bias))
        # As a product of matrices: cuDNN's gradient of a 1x1 weight took 81 us on an NVIDIA H200.
        z = F.linear(pooled.permute(0, 2, 3, 1), shortcut.weight.flatten(1)).permute(0, 3, 1, 2)
        return images.end_block(kernels, y, z) if more else (torch.relu(y + z), y.new_empty(0))


class ResNetEncoder(nn.Module):
    """torchvision's ResNet-18 up to its third stage (1/16 of the resolution), then grid tokens.

    Args:
        width: feature width D.
        grid: tokens lie on a grid of grid x grid cells.
        imagenet: path of the ImageNet weights to start from (`deiii.data.tools.weights.resolve` finds
            them); ``None`` for random weights, where a checkpoint is loaded afterwards.

    Raises:
        WeightsError: the file does not hold the weights of a ResNet-18.
    """

    def __init__(self, width: int, grid: int, imagenet: str | Path | None = None):
        super().__init__()
        # torchvision takes as long to import as torch itself, and no other encoder needs it.
        from torchvision.models import resnet18
        from torchvision.ops import FrozenBatchNorm2d

        net = resnet18(norm_layer=FrozenBatchNorm2d)
        if imagenet is not None:
            _load_imagenet(net, imagenet)
        self.trunk = nn.Sequential(
            net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3
        )
        self.tokens = GridTokens(256, width, grid)

    def forward(self, image_NCSS: Tensor, weight_N: Tensor | None = None) -> Tensor:
        """Encode float [N,3,S,S] as tokens [N,P,D]; the statistics are fixed, so ``weight_N`` is not used."""
        return self.tokens(self.trunk(image_NCSS.contiguous(memory_format=torch.channels_last)))


def _load_imagenet(net: nn.Module, path: str | Path) -> None:
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises many types for files that are not checkpoints
        raise WeightsError(
            f"{path} does not hold the weights of torchvision's ResNet-18 ({str(error).splitlines()[0]}); "
            "leave out model.imagenet_weights, or name a file such as resnet18-f37072fd.pth"
        ) from None


class GridTokens(nn.Module):
    """Averages a feature map over grid x grid cells, projects to the width, adds a position and normalises.

    Maps are [N,C,H,W], the result is [N,P,D]; the positions are learned.

    >>> GridTokens(64, width=32, grid=2)(torch.zeros(5, 64, 6, 6)).shape
    torch.Size([5, 4, 32])
    """

    def __init__(self, channels: int, width: int, grid: int):
        super().__init__()
        self.grid = grid
        self.project = nn.Linear(channels, width)
        self.place = nn.Parameter(torch.randn(grid * grid, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self._held: dict[tuple[torch.Size, torch.dtype, torch.device], tuple[Tensor, Tensor, Tensor]] = {}

    def forward(self, map_NCHW: Tensor) -> Tensor:
        # Matrix products, because the backward pass of adaptive pooling is not deterministic on CUDA.
        rows, cols, both = self._averaging(map_NCHW)
        if map_NCHW.is_cuda:
            x = one_product(map_NCHW, both)
        else:
            x = torch.einsum("nchw,gh,kw->ngkc", map_NCHW, rows, cols).flatten(1, 2)
        return self.norm(self.project(x) + self.place)

    def _averaging(self, map_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the matrices of rows, columns and both, made once for each size, type and device."""
        key = map_NCHW.shape[-2:], map_NCHW.dtype, map_NCHW.device
        if key in self._held:
            return self._held[key]
        if torch.compiler.is_compiling():  # a tensor of a traced call must not be kept for later calls
            return self._matrices(map_NCHW)
        with torch.inference_mode(False), torch.no_grad():
            self._held[key] = self._matrices(map_NCHW)
        return self._held[key]

    def _matrices(self, map_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, cols = (_cells(n, self.grid, map_NCHW) for n in map_NCHW.shape[-2:])
        return rows, cols, torch.kron(rows, cols)


def one_product(map_NCHW: Tensor, cells_PX: Tensor) -> Tensor:
    """Average a feature map over cells in one product of matrices, [N,P,C].

    Args:
        map_NCHW: feature maps; no copy is made if channels are innermost in memory.
        cells_PX: [P,H*W], the weight of each place in each cell.
    """
    places_NXC = map_NCHW.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.bmm(cells_PX.expand(len(map_NCHW), -1, -1), places_NXC)


def feature_rows(crop: int, channels: list[int] | None) -> int:
    """Return rows of the feature map of a square image of ``crop`` px.

    Args:
        crop: side of the image in px.
        channels: channels of `ImageEncoder`, whose stem and stages halve the resolution; ``None`` for
            `ResNetEncoder`, which ends at a sixteenth of it.

    >>> feature_rows(96, [16, 32, 64]), feature_rows(97, None)
    (6, 7)
    """
    halvings = 4 if channels is None else 1 + len(channels)
    return -(-crop // 2**halvings)


def _cells(length: int, cells: int, like: Tensor) -> Tensor:
    """Return the matrix [cells,length] that averages entries into equal, possibly overlapping, cells."""
    if length < cells:
        raise ValueError(
            f"the crop gives {length} feature rows, fewer than model.grid={cells}; use a larger loader.crop, "
            f"a smaller model.grid or fewer model.channels"
        )
    index = torch.arange(cells, device=like.device)
    start, stop = index * length // cells, -(-(index + 1) * length // cells)
    at = torch.arange(length, device=like.device)
    inside = (at >= start[:, None]) & (at < stop[:, None])
    return (inside / (stop - start)[:, None]).to(like.dtype)
