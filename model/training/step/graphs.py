"""Training steps as CUDA graphs: a step is recorded once and then launched as a whole.

A step of the preset ``base`` starts about 1,700 kernels, and the CPU takes longer to start them than the GPU
to run them. A graph starts all of them with one call. It reads its batch from a fixed place in memory, into
which every batch is copied first.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch

WARM_UP = 3  # eager steps before a recording: libraries make their handles and the optimiser its state
MOST_GRAPHS = 4  # batches of further shapes run eagerly; batches of one loader have one shape

Shape = tuple[tuple[str, torch.Size, torch.dtype], ...]


@dataclass
class Recorded:
    """One graph: the memory that it reads, and what it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    status: Tensor


class StepGraphs:
    """Runs a step function, recorded where it can be.

    Everything runs on ``stream``; enter it with `torch.cuda.stream` around the training.

    Args:
        step: takes a batch and returns the step's status, a tensor on the device. It must not wait for the
            device, and must read numbers that change between steps from tensors, not from Python.
        device: a CUDA device.
        strict: raise where a step cannot be recorded, instead of running it eagerly.

    Attributes:
        why_eager: the reason, where steps cannot be recorded.

    >>> graphs = StepGraphs(step, device, strict=False)   # doctest: +SKIP
    >>> with torch.cuda.stream(graphs.stream): graphs(slab, loader.unpack)   # doctest: +SKIP
    """

    def __init__(self, step: Callable[[Batch], Tensor], device: torch.device, strict: bool):
        self.step = step
        self.device = device
        self.strict = strict
        self.stream = torch.cuda.Stream(device)
        self.why_eager = ""
        self.recorded: dict[Shape, Recorded] = {}
        self.seen: dict[Shape, int] = {}
        self.pool: Any = None  # one pool of memory: graphs run one after the other

    def __call__(self, item: Any, unpack: Callable[[Any], Batch]) -> Tensor:
        """Do the step of a batch.

        Args:
            item: the batch, or a tensor that ``unpack`` makes a batch of.
            unpack: becomes part of the graph; ``item`` itself may be reused after the call.

        Returns:
            the status of the step, in memory of its own.

        Raises:
            ConfigError: ``strict`` is true, and the step cannot be recorded.
            OutOfMemoryError: ``strict`` is true, and the recording does not fit into the GPU's memory.
        """
        inputs = tensors_of(item)
        shape = tuple((name, x.shape, x.dtype) for name, x in inputs.items())
        known = self.recorded.get(shape)
        if known is None and not self.why_eager:
            known = self._record(shape, item, unpack)
        if known is None:
            return self.step(unpack(item))
        for name, value in inputs.items():
            known.inputs[name].copy_(value, non_blocking=True)
        known.graph.replay()
        return known.status.clone()

    def _record(self, shape: Shape, item: Any, unpack: Callable[[Any], Batch]) -> Recorded | None:
        """Return the graph for batches of this shape; ``None`` while it warms up, or if it cannot be made."""
        if len(self.recorded) >= MOST_GRAPHS:
            return None
        self.seen[shape] = self.seen.get(shape, 0) + 1
        if self.seen[shape] <= WARM_UP:
            return None
        held = copy_of(item)
        graph = torch.cuda.CUDAGraph()
        try:
            # Threads of the loader continue meanwhile; in this mode their calls are not part of the graph.
            with torch.cuda.graph(
                graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
            ):
                status = self.step(unpack(held))
        except RuntimeError as error:
            first: BaseException = error  # ending the recording fails, too; the first error is the cause
            while first.__context__ is not None:
                first = first.__context__
            if self.strict and isinstance(first, torch.OutOfMemoryError):
                raise first from None
            reason = str(first).strip().splitlines()[0][:200]
            if self.strict:
                raise ConfigError(
                    f"train.launch=graph: the training step cannot be recorded ({reason}); use "
                    "train.launch=auto or eager, or take out what waits for the GPU, for example in a "
                    "package's encoder"
                ) from error
            self._run_eagerly(reason)
            return None
        self.pool = graph.pool()
        self.recorded[shape] = Recorded(graph, tensors_of(held), status)
        return self.recorded[shape]

    def _run_eagerly(self, reason: str) -> None:
        """Record no more steps, because one could not be recorded."""
        self.why_eager = reason
        print(f"training steps run one kernel after the other, which is slower: {reason}", file=sys.stderr)
        # After a failed recording, the generator would still be in the state of a recording.
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        fresh = torch.Generator(device=generator.device)
        fresh.manual_seed(generator.initial_seed())
        generator.graphsafe_set_state(fresh.graphsafe_get_state())


def tensors_of(item: Tensor | Batch) -> dict[str, Tensor]:
    """Return the tensors of a batch by name, or of a block of bytes."""
    return {"slab": item} if isinstance(item, Tensor) else item.tensors()


def copy_of(item: Any) -> Any:
    """Return a batch, or a block of bytes, in memory of its own."""
    return item.clone() if isinstance(item, Tensor) else item.map(torch.clone)


@contextmanager
def own_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Run a block on a stream, after the work that the current stream has, and before its later work."""
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(stream.device).wait_stream(stream)
