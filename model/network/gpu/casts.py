"""Cast the input of several matrix products once; autocast would cast it for each of them."""

from __future__ import annotations

import torch
from torch import Tensor


def as_products_want(x: Tensor) -> Tensor:
    """Return x in the type in which autocast computes matrix products on a GPU; elsewhere as it is.

    PyTorch has no autocast for tensors without values (device ``meta``).

    >>> as_products_want(torch.ones(1)).dtype
    torch.float32
    """
    kind = x.device.type
    if kind in ("cpu", "meta") or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))
