"""Parts of a batch beside each other, one core each.

Splitting a batch over threads scales better than splitting every operation in it: threads meet once
a batch and not thousands of times, and each works on what is in its own core's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor


def in_parallel(function: Callable[..., Tensor], parts: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """``function(*part)`` of each part, in order, in inference mode.

    By as many threads as torch may use, each of which runs its operations alone.

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
    # The number of threads of an operation is a property of the thread that starts it.
    return ThreadPoolExecutor(threads, "flow", initializer=torch.set_num_threads, initargs=(1,))
