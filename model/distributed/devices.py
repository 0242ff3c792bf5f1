"""Precision, determinism and random seeds of the computation."""

from __future__ import annotations

import contextlib
import os
import random

import numpy as np
import torch


def autocast(amp: str, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the context of mixed precision; ``auto`` is bfloat16 on GPUs that support it, never on a CPU."""
    on = amp == "bfloat16" or (amp == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16) if on else contextlib.nullcontext()


def make_deterministic(device: torch.device) -> None:
    """Make CUDA use deterministic algorithms; those of the CPU already are."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def seed_all(seed: int, step: int = -1) -> None:
    """Seed Python, NumPy and PyTorch.

    Training calls it before every step, so that the random numbers of a step depend on the seed and the
    number of the step alone, and a resumed run gets the same ones as an uninterrupted run.
    """
    word = int(np.random.SeedSequence([seed, step + 1]).generate_state(1, np.uint32)[0])
    random.seed(word)
    np.random.seed(word)
    torch.manual_seed(word)
