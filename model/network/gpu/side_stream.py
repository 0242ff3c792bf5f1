"""Parts of a network that run at the same time on a GPU, in a recorded step.

Small kernels leave most of a GPU idle. In a CUDA graph, kernels on different streams can run at the same time
unless one stream waits for another, so that the encoders of frames, flow and audio run beside each other.
Automatic differentiation runs the backward pass of each operation on the stream of its forward pass.
Operations are started in the same order as without streams and draw the same random numbers, so results are
equal bit by bit.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-streams
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

_streams: dict[tuple[int, str], torch.cuda.Stream] = {}


class SideStream:
    """A stream beside the current one; without effect unless a CUDA graph is being recorded.

    Without a recording it would not help: the CPU starts kernels too slowly for them to run at the same time.

    Args:
        name: name of the stream; parts that run at the same time need different names.
        device: device of the network's input.

    >>> side = SideStream("audio", torch.device("cpu"))
    >>> with side:
    ...     audio = torch.ones(2)
    >>> side.join(audio)
    """

    def __init__(self, name: str, device: torch.device):
        self.side: torch.cuda.Stream | None = None
        if recording(device):
            self.main = torch.cuda.current_stream(device)
            self.side = _stream(name, device)
            self.side.wait_stream(self.main)
        self._inside: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> None:
        self._inside = nullcontext() if self.side is None else torch.cuda.stream(self.side)
        self._inside.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._inside.__exit__(*error)

    def synchronise(self, *shared: Any) -> None:
        """Let both streams wait for each other, and both use the tensors in ``shared`` afterwards."""
        if self.side is not None:
            self.side.wait_stream(self.main)
            self.main.wait_stream(self.side)
            self.share(*shared)

    def share(self, *shared: Any) -> None:
        """Keep the memory of tensors, also in tuples and data classes, while either stream uses them."""
        if self.side is not None:
            for tensor in _tensors(shared):
                tensor.record_stream(self.side)
                tensor.record_stream(self.main)

    def join(self, *results: Any) -> None:
        """Let the current stream wait for the one beside it, and use its results."""
        if self.side is not None:
            self.main.wait_stream(self.side)
            self.share(*results)


def recording(device: torch.device) -> bool:
    """Return whether a CUDA graph is being recorded of what this thread starts on the device."""
    if device.type != "cuda" or torch.compiler.is_compiling():
        return False
    return bool(torch.cuda.is_current_stream_capturing())


def _stream(name: str, device: torch.device) -> torch.cuda.Stream:
    """Return the stream of this name, made once for each device."""
    index = torch.cuda.current_device() if device.index is None else device.index
    if (index, name) not in _streams:
        _streams[index, name] = torch.cuda.Stream(device)
    return _streams[index, name]


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, (tuple, list)):
        for part in found:
            yield from _tensors(part)
    elif is_dataclass(found):
        for field in fields(found):
            yield from _tensors(getattr(found, field.name))
