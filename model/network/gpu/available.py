"""Whether the Triton kernels of training work on a device."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import torch

from deiii.data.tools.devices import working_kernels


@lru_cache(maxsize=8)
def gpu_kernels(device: torch.device) -> ModuleType | None:
    """Return `deiii.model.network.gpu.kernels`; ``None`` on a CPU, or if Triton is missing or does not work.

    Without them, PyTorch's operations compute the same results up to rounding. The first call on a GPU
    compiles small cases of all kernels.

    >>> gpu_kernels(torch.device("cpu")) is None
    True
    """

    def load() -> ModuleType:
        from deiii.model.network.gpu import kernels

        with torch.no_grad(), torch.cuda.device(device):  # Triton starts kernels on the current device
            x = torch.zeros(2, 2, device=device)
            kernels.normalise_back(kernels.normalise(x, x[0], x[1], 1e-5, x.dtype), x, x, x[0], 1e-5)
            parts = x.view(1, 1, 1, 2, 2)
            kernels.arrange(parts, torch.empty_like(parts), parts[0], parts[0], 1, False)
        return kernels

    return working_kernels(load, "training runs") if device.type == "cuda" else None


@lru_cache(maxsize=8)
def masked_norm_kernels(device: torch.device) -> ModuleType | None:
    """Return `deiii.model.network.gpu.masked_norm_kernels`, or ``None``, as `gpu_kernels`.

    >>> masked_norm_kernels(torch.device("cpu")) is None
    True
    """

    def load() -> ModuleType:
        from deiii.model.network.gpu import masked_norm_kernels as kernels

        with torch.no_grad(), torch.cuda.device(device):  # Triton starts kernels on the current device
            x = torch.zeros(1, 2, 2, 2, device=device)
            mask = torch.ones(1, 1, 2, 1, dtype=torch.bool, device=device)
            norm = torch.nn.BatchNorm2d(2, device=device)
            for beside in (None, x):
                bias = None if beside is None else x[0, :, 0, 0].contiguous()
                kept = kernels.normalise(x, mask, norm, beside, bias)
                kernels.normalise_back(x, *kept, mask, None if beside is None else x.dtype)
        return kernels

    return working_kernels(load, "training runs") if device.type == "cuda" else None


@lru_cache(maxsize=8)
def image_kernels(device: torch.device) -> ModuleType | None:
    """Return `deiii.model.network.gpu.image_kernels`, or ``None``, as `gpu_kernels`.

    >>> image_kernels(torch.device("cpu")) is None
    True
    """

    def load() -> ModuleType:
        from deiii.model.network.gpu import image_kernels as kernels

        with torch.no_grad(), torch.cuda.device(device):  # Triton starts kernels on the current device
            x = torch.zeros(1, 1, 2, 2, device=device)
            number = torch.ones(1, dtype=torch.int64, device=device)
            kernels.select(x, number - 1, number, 1.0, x.dtype)
            for b in (x, x[0, 0, 0, :1]):
                out, pooled = kernels.end_block(x, b)
                kernels.end_block_back(out, pooled, out, b.ndim == 1)
        return kernels

    return working_kernels(load, "training runs") if device.type == "cuda" else None
