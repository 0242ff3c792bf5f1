"""Sums of the running epoch's losses, on the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SHARES = "shares"  # sum of the shares of real clips in the batches of the running epoch


class EpochSums:
    """Adds up named numbers over the steps of an epoch, without waiting for the device.

    All sums lie in one tensor, which a recorded step adds to in place.

    Attributes:
        begun: whether a step of the epoch has been prepared; before it there are no sums.

    >>> sums = EpochSums(torch.device("cpu"))
    >>> sums.begun = True
    >>> for loss in (1.0, 2.0):
    ...     sums.add({"loss": torch.tensor(loss)}, torch.tensor(0.5))
    >>> sums.named()
    {'loss': tensor(1.5000), 'shares': tensor(1.)}
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.begun = False
        self.names: tuple[str, ...] = ()
        self.values = torch.zeros(0, device=device)

    def add(self, numbers: Mapping[str, Tensor], share: Tensor) -> None:
        """Add the numbers of a step, each times the share of real clips in its batch, and the share itself.

        Args:
            numbers: float32 [] each; every step has the same names.
            share: float32 [].
        """
        names = (*numbers, SHARES)
        if names != self.names:
            self._take(names)
        self.values[:-1].add_(torch.stack(list(numbers.values())) * share)
        self.values[-1:].add_(share)

    def named(self) -> dict[str, Tensor]:
        """Return the sums by name, float32 [] each; empty before the first step of an epoch."""
        return dict(zip(self.names, self.values.unbind(), strict=True)) if self.begun else {}

    def load(self, sums: Mapping[str, Tensor]) -> None:
        """Continue from the sums that `named` returned."""
        self.begun = bool(sums)
        names = sorted(sums, key=lambda name: name == SHARES)  # the shares last
        self.names = tuple(names)
        self.values = torch.stack([sums[n].float() for n in names]).to(self.device) if names else self.values

    def reset(self) -> None:
        """Begin a new epoch."""
        self.begun = False
        self.values.zero_()

    def _take(self, names: tuple[str, ...]) -> None:
        """Change the names; sums whose name is among the new ones are kept."""
        before = dict(zip(self.names, self.values.unbind(), strict=True))
        zero = torch.zeros((), device=self.device)
        self.values = torch.stack([before.get(name, zero) for name in names])
        self.names = names
