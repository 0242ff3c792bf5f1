"""Make PyTorch refuse what waits for a CUDA device, for the length of a block."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def no_waits() -> Iterator[None]:
    """Raise RuntimeError where an operation of the block waits for a CUDA device.

    PyTorch warns that the mode is a prototype, and warnings are errors in the tests: it is silenced. The mode
    of before returns, whatever happens in the block.

    >>> with no_waits(): torch.ones(3, device="cuda").sum()   # doctest: +SKIP
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode(before)
