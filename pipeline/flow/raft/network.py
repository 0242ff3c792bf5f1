"""RAFT for clips: each frame is encoded once, pairs are computed in batches, upsampling is done at the end.

Modules and weights are torchvision's, and the results equal its results up to rounding. The `forward` of
torchvision repeats work for every pair and every update that is done once here: the features of a frame that
is the second of one pair and the first of the next, the coordinate grids, the contribution of the context to
the GRU, and the upsampling.
Axes: m frames, N pairs, S height and width in px, h and w feature map (S/8).

>>> network = load_network("raft_small", "raft_small.pth")                       # doctest: +SKIP
>>> flow = RaftEngine(network).flow(torch.zeros(3, 128, 128, 3, dtype=torch.uint8))  # doctest: +SKIP
>>> flow.shape                                                                    # doctest: +SKIP
torch.Size([2, 128, 128, 2])
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import RAFT, raft_large, raft_small

from deiii.data.tools.devices import numbered, working_kernels
from deiii.data.tools.processes.torch_defaults import cudnn_flags
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.flow.raft.compiled import Compiled
from deiii.pipeline.flow.raft.correlation import CorrelationPyramid
from deiii.pipeline.flow.raft.encoder import prepare_encoder
from deiii.pipeline.flow.raft.size import working_size
from deiii.pipeline.flow.raft.threads import in_parallel
from deiii.pipeline.flow.raft.update import Update
from deiii.pipeline.flow.raft.upsampling import upsample

MODELS = {"raft_small": raft_small, "raft_large": raft_large}
# A CPU thread computes this much at once: enough for efficient matrix products, little enough for its caches.
CPU_POINTS = 2048  # points of feature maps; that is 8 pairs of 128 px
CPU_PIXELS = 32768  # pixels of images to encode; that is 2 images of 128 px


def load_network(model: str, path: str) -> RAFT:
    """Return torchvision's RAFT with weights from a file.

    Args:
        model: ``raft_small`` or ``raft_large``.
        path: a state dict with torchvision's names.

    Raises:
        WeightsError: the file holds no weights, or those of another network.
    """
    network = MODELS[model](weights=None)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # PyTorch's message recommends to execute the file
            reason = "it is damaged, or holds more than tensors, which is never loaded"
        raise WeightsError(f"{path} does not hold weights of torchvision's {model}: {reason}") from None
    return network.eval()


def winograd_pays(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether to use `WinogradConv`; on a GPU cuDNN chooses the algorithm."""
    return device.type == "cpu" and dtype == torch.float32


@lru_cache(maxsize=8)
def gpu_kernels(device: torch.device) -> ModuleType | None:
    """Return `deiii.pipeline.flow.raft.kernels`, or ``None`` where Triton is missing or does not work.

    Without them, PyTorch's operations compute the same results up to rounding. Triton comes with PyTorch's
    builds for CUDA; it needs a C compiler the first time that it runs.
    """

    def load() -> ModuleType:
        from deiii.pipeline.flow.raft import kernels

        # Triton starts kernels on the current device, whatever the device of its tensors.
        with torch.inference_mode(), torch.cuda.device(device):
            at = torch.zeros(1, 2, 2, 2, device=device)
            kernels.lookup(torch.zeros(16, device=device), at, 1, 3, torch.float32)
            kernels.upsample(at, torch.zeros(1, 576, 2, 2, device=device))
        return kernels

    return working_kernels(load, "RAFT runs") if device.type == "cuda" else None


def cpu_pairs(height: int, width: int) -> int:
    """Return the number of pairs that a CPU thread computes at once, for images of a size in px.

    >>> cpu_pairs(128, 128)
    8
    """
    return max(1, CPU_POINTS // (height // 8 * (width // 8)))


class RaftEngine:
    """RAFT on the frames of a clip.

    Args:
        network: torchvision's RAFT; it is copied, not changed.
        updates: number of refinement steps.
        device: device that it runs on.
        dtype: type of the convolutions; correlations, coordinates and upsampling stay float32.
        launch: how work is sent to a GPU: ``eager`` sends single operations, ``compile`` fuses them with
            torch.compile, which takes 15 s or more. It has no effect on the CPU.
        fused: whether to use Triton's kernels; ``None`` where they work.
    """

    def __init__(
        self,
        network: RAFT,
        updates: int = 12,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        launch: str = "eager",
        fused: bool | None = None,
    ):
        network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = updates
        self.device = numbered(torch.device(device))
        self.dtype = dtype
        self.hidden = network.update_block.hidden_state_size
        self.levels = network.corr_block.num_levels
        self.radius = network.corr_block.radius
        channels = network.context_encoder.conv.out_channels - self.hidden
        winograd = winograd_pays(self.device, dtype)
        self.features = self._placed(prepare_encoder(network.feature_encoder, winograd))
        self.context = self._placed(prepare_encoder(network.context_encoder, winograd))
        update = Update(network.update_block, channels, self.levels, winograd)
        self.update = self._placed(update)
        self.context_channels = update.context
        self.precompute = update.precompute
        self.mask = None if network.mask_predictor is None else self._placed(network.mask_predictor)
        self.kernels = None if fused is False else gpu_kernels(self.device)
        self._last: Tensor | None = None
        self._prepare: Callable[..., Tensor] = self._images
        self._encode: Callable[..., Tensor] = self.features
        self._start: Callable[..., list[Tensor]] = self._first_state
        self._step: Callable[..., tuple[Tensor, Tensor, Tensor]] = self._update
        self._weigh: Callable[..., Tensor] | None = self.mask
        self.compiles = self.device.type == "cuda" and launch == "compile"
        if self.compiles:
            self._prepare = Compiled(self._prepare)
            self._encode = Compiled(self._encode)
            self._start = Compiled(self._start)
            self._step = Compiled(self._step)
            self._weigh = None if self.mask is None else Compiled(self.mask)

    def _placed(self, module: nn.Module) -> nn.Module:
        return module.to(self.device, self.dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def flow(self, frames: Tensor, first: Tensor | None = None, continues: bool = False) -> Tensor:
        """Return the flow from frame ``first[i]`` to the frame after it.

        On the CPU a batch is cut into parts of `CPU_POINTS`, which as many threads compute as PyTorch may
        use; the result does not depend on their number.

        Args:
            frames: uint8 [m,H,W,3] RGB, on any device; each is encoded once.
            first: int64 [N], rows of ``frames``; ``None`` for all but the last.
            continues: whether the first frame is the last one of the previous call, whose features are used.

        Returns:
            float32 [N,H,W,2] on the engine's device: u to the right, v down, in px of the given frames.
        """
        first = torch.arange(len(frames) - 1) if first is None else first
        first = first.to(self.device, non_blocking=True)
        images = self._prepare(frames.to(self.device, non_blocking=True))
        held = self._last if continues else None
        # By default cuDNN rounds the inputs of float32 convolutions to TF32.
        with cudnn_flags(self.device, enabled=True, allow_tf32=False):
            step = max(1, CPU_PIXELS // images[0, 0].numel())
            features = self._map(self._encode, step, images if held is None else images[1:])
            if held is not None:
                features = torch.cat([held, features])
            self._last = features[-1:].clone()
            step = cpu_pairs(*images.shape[2:])
            flow = self._map(self._pairs, step, images[first], features[first], features[first + 1])
        return shrink(flow.permute(0, 2, 3, 1), *frames.shape[1:3])

    def forget(self) -> None:
        """Free the features that are held for the next call."""
        self._last = None

    def _map(self, function: Callable[..., Tensor], step: int, *inputs: Tensor) -> Tensor:
        """Apply a function to a batch: at once on a GPU, in parallel parts of ``step`` rows on the CPU."""
        if self.device.type != "cpu":
            return function(*inputs)
        return torch.cat(in_parallel(function, list(zip(*(x.split(step) for x in inputs), strict=True))))

    def _pairs(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow [N,2,H,W] of pairs, from their first images and the features of both frames."""
        h, *fixed = self._start(images)
        flow, h = self._refine(first, second, h, fixed)
        return upsample(flow, None if self._weigh is None else self._weigh(h), self.kernels)

    def _images(self, frames: Tensor) -> Tensor:
        """Return frames as the encoders take them; see `prepare`."""
        return prepare(frames).to(self.dtype)

    def _first_state(self, images: Tensor) -> list[Tensor]:
        """Return the first hidden state, and what each GRU computes from the context."""
        h, context = self.context(images).split_with_sizes([self.hidden, self.context_channels], 1)
        return [h.tanh(), *self.precompute(context.relu())]

    def _refine(self, first: Tensor, second: Tensor, h: Tensor, fixed: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the flow [N,2,h,w] in px of the feature map, and the last hidden state."""
        pyramid = CorrelationPyramid(first, second, self.levels, self.radius, self.kernels)
        origin = points(*first.shape[2:], self.device)
        flow = torch.zeros(len(first), *origin.shape, device=self.device)
        at = origin + flow
        for _ in range(self.updates):
            h, flow, at = self._step(h, *fixed, pyramid.lookup(at, self.dtype), flow, origin)
        return flow, h

    def _update(self, h: Tensor, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do one refinement step: return the next hidden state and flow, and where the flow leads to."""
        *fixed, correlation, flow, origin = given
        h, change = self.update(h, fixed, correlation.to(self.dtype), flow.to(self.dtype))
        flow = flow + change.float()
        return h, flow, origin + flow


@lru_cache(maxsize=8)
def points(rows: int, columns: int, device: torch.device) -> Tensor:
    """Return the coordinates x and y of the points of a map, float32 [2,rows,columns]."""
    x = torch.arange(columns, device=device, dtype=torch.float32)
    y = torch.arange(rows, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def prepare(frames: Tensor) -> Tensor:
    """Return frames uint8 [m,H,W,3] as channels-last float32 [m,3,H,W], -1 to 1, of `working_size`."""
    images = frames.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    size = [working_size(side) for side in images.shape[2:]]
    if size != list(images.shape[2:]):
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return images


def shrink(flow: Tensor, height: int, width: int) -> Tensor:
    """Return flow [N,R,Q,2] of enlarged images as float32 [N,height,width,2] in px of the smaller images."""
    tall, wide = flow.shape[1:3]
    if (tall, wide) == (height, width):
        return flow.float()
    size, moved = (height, width), flow.permute(0, 3, 1, 2).float()
    small = F.interpolate(moved, size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    small[..., 0].mul_(width / wide)  # a number needs no copy to the GPU, for which the host would wait
    small[..., 1].mul_(height / tall)
    return small
