"""Precision, determinism and random seeds of the computation."""

from __future__ import annotations

import contextlib
import os
import random

import numpy as np
import torch
import torch.utils.deterministic


def autocast(amp: str, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the context of mixed precision.

    ``auto`` is bfloat16 on GPUs with native support, and float32 on other GPUs and on the CPU: before compute
    capability 8 PyTorch emulates bfloat16, which is slower than float32.
    """
    on = amp == "bfloat16" or (amp == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16) if on else contextlib.nullcontext()


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device is a GPU that multiplies bfloat16 without emulation."""
    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8


def make_deterministic(device: torch.device) -> None:
    """Make CUDA use deterministic algorithms; the CPU uses them anyway.

    An operation without a deterministic algorithm causes a warning.
    """
    if device.type == "cuda":
        # In this mode PyTorch fills every new tensor with NaN, which shows reads of uninitialised memory. The
        # fills are two of every five launches of a training step, so they are switched off.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def seed_all(seed: int, step: int = -1) -> None:
    """Seed Python, NumPy and PyTorch.

    Training calls it before every step, so that the random numbers of a step depend on the seed and the
    number of the step alone, and are the same in a resumed and in an uninterrupted run.
    """
    word = int(np.random.SeedSequence([seed, step + 1]).generate_state(1, np.uint32)[0])
    random.seed(word)
    np.random.seed(word)
    torch.manual_seed(word)
