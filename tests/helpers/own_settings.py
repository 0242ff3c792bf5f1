"""PyTorch settings that a program which calls the package may have chosen for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_settings() -> Iterator[None]:
    """Let new tensors be float64 and autocast choose bfloat16 on the CPU, within the block."""
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        torch.set_default_dtype(torch.float32)
