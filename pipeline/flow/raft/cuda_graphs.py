"""Record a function of batches as a CUDA graph and replay it, which saves the launches of its kernels.

A recording has one shape. Batches are therefore filled up to the next power of two, and each of these sizes
has its own recording. Source: "CUDA Graphs" in PyTorch's notes on CUDA semantics.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UPS = 3  # calls before a recording: libraries choose algorithms and allocate memory in the first calls


class Recorded:
    """A function that is replayed from a CUDA graph; its rows must not depend on each other.

    Args:
        function: maps tensors [N,...] on one GPU to a tensor [N,...]; it must not wait for the GPU.

    >>> encode = Recorded(network.feature_encoder)  # doctest: +SKIP
    """

    def __init__(self, function: Callable[..., Tensor]):
        self.function = function
        self._recordings: dict[tuple, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        n = len(inputs[0])
        key = tuple((rows_for(n), *x.shape[1:], x.dtype) for x in inputs)
        if key not in self._recordings:
            self._recordings[key] = self._record(inputs)
        graph, held, result = self._recordings[key]
        for place, x in zip(held, inputs, strict=True):
            place[:n].copy_(x)
        graph.replay()
        return result[:n].clone()  # the next replay overwrites the result

    def forget(self) -> None:
        """Free the recordings and their memory."""
        self._recordings.clear()

    def _record(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        rows = rows_for(len(inputs[0]))
        held = [fill_up(x, rows) for x in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self.function(*held)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.function(*held)
        return graph, held, result


def rows_for(n: int) -> int:
    """The smallest power of two that is at least ``n``.

    >>> [rows_for(n) for n in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (n - 1).bit_length()


def fill_up(x: Tensor, rows: int) -> Tensor:
    """``x`` [n,...] and copies of its last row, [rows,...], channels-last."""
    return x[torch.arange(rows, device=x.device).clamp_max(len(x) - 1)].contiguous(
        memory_format=torch.channels_last
    )
