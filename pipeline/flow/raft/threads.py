"""Compute parts of a batch in parallel, each on one core.

Splitting a batch over threads scales better than splitting each of its operations: threads wait for each
other once a batch instead of thousands of times, and each works on data in the cache of its core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor


def in_parallel(function: Callable[..., Tensor], parts: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """Compute ``function(*part)`` of each part in inference mode; returns the results in order.

    Uses as many threads as PyTorch may use; each of them runs single-threaded operations.

    >>> in_parallel(lambda x: x + 1, [(torch.zeros(1),), (torch.ones(1),)])
    [tensor([1.]), tensor([2.])]
    """
    threads = min(torch.get_num_threads(), len(parts))
    if threads < 2:
        with torch.inference_mode():
            return [function(*part) for part in parts]
    return list(_pool(torch.get_num_threads()).map(lambda part: _alone(function, part), parts))


@torch.inference_mode()
def _alone(function: Callable[..., Tensor], part: tuple[Tensor, ...]) -> Tensor:
    return function(*part)


@lru_cache(maxsize=2)
def _pool(threads: int) -> ThreadPoolExecutor:
    # In PyTorch the thread that starts an operation determines how many threads the operation uses.
    return ThreadPoolExecutor(threads, "flow", initializer=torch.set_num_threads, initargs=(1,))
