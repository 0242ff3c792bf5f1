"""The methods of a loader that the trainer calls; `deiii.data.loader.loader.Loader` has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor

from deiii.data.loader.batch import Batch


class Loader(Protocol):
    """The batches of one part of the split."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch ``start`` on; seed and epoch decide their order."""


@runtime_checkable
class SlabLoader(Protocol):
    """A loader that can also return batches as blocks of bytes; see `deiii.data.loader.loader.Loader`."""

    def slabs(self, number: int, start: int = 0) -> Iterator[Tensor]:
        """Yield the batches of an epoch, each as one block of bytes on the GPU."""

    def unpack(self, slab: Tensor) -> Batch:
        """Return the batch in a block."""
