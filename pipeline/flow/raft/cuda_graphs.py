"""A function of batches recorded as a CUDA graph and replayed, so that launches cost nothing.

The recording is of one shape: batches are filled up to the next power of two, and there is one recording
for each. Source: "CUDA Graphs" in PyTorch's notes on CUDA semantics.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UPS = 3  # libraries choose algorithms and allocate in the first calls, which must not be recorded


class Recorded:
    """A function whose rows do not depend on each other, replayed from a CUDA graph.

    Args:
        function: tensors [N,...] on one GPU to a tensor [N,...]; no step of it may wait for the GPU.
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
        return result[:n].clone()  # the next replay writes over it

    def forget(self) -> None:
        """Give the recordings' memory back."""
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
    """The next power of two.

    >>> [rows_for(n) for n in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (n - 1).bit_length()


def fill_up(x: Tensor, rows: int) -> Tensor:
    """``x`` and copies of its last row, [rows,...], in the same layout."""
    return x[torch.arange(rows, device=x.device).clamp_max(len(x) - 1)].contiguous(
        memory_format=torch.channels_last
    )
