"""Take projected queries, keys and values apart into heads, rotated by their positions, and join them again.

Each takes one launch on a GPU where Triton works (`deiii.model.network.gpu.kernels`), else up to four.

Axes: P parts (queries, keys, values), B clips, T steps, H heads, K features of a head, D = H x K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deiii.model.network.gpu.available import gpu_kernels
from deiii.model.network.positions import Rotation


def take_apart(x_BTPD: Tensor, parts: int, heads: int, rotation: Rotation | None, rotated: int) -> Tensor:
    """Return the heads of each part, [P,B,H,T,K].

    Args:
        x_BTPD: [B,T,P*D].
        parts: P.
        heads: H.
        rotation: rotation of the steps; ``None`` for none.
        rotated: number of parts, from the first, that are rotated.

    >>> take_apart(torch.zeros(2, 5, 48), 3, 2, None, 0).shape
    torch.Size([3, 2, 2, 5, 8])
    """
    seen = _by_part(x_BTPD, parts, heads)
    out = torch.empty_like(seen, memory_format=torch.contiguous_format)
    _arrange(seen, out, rotation, rotated, back=False)
    return out


def put_together(x_PBHTK: Tensor, rotation: Rotation | None, rotated: int) -> Tensor:
    """Return the heads of all parts in the layout of `take_apart`'s argument, rotated back: [B,T,P*D].

    It is the gradient of `take_apart`.
    """
    parts, clips, heads, steps, features = x_PBHTK.shape
    out = x_PBHTK.new_empty((clips, steps, parts * heads * features))
    _arrange(x_PBHTK, _by_part(out, parts, heads), rotation, rotated, back=True)
    return out


def _by_part(x_BTPD: Tensor, parts: int, heads: int) -> Tensor:
    """Return a view, [P,B,H,T,K]."""
    return x_BTPD.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4)


def _arrange(source: Tensor, out: Tensor, rotation: Rotation | None, rotated: int, back: bool) -> None:
    """Write [P,B,H,T,K] into ``out``, its first parts rotated."""
    cos, signed_sin = (None, None) if rotation is None else rotation
    kernels = gpu_kernels(source.device)
    if kernels is not None and source.numel() and source.stride(-1) == 1:
        kernels.arrange(source, out, cos, signed_sin, rotated, back)
        return
    if cos is None or signed_sin is None:
        rotated = 0
    else:
        x = source[:rotated]
        halves_swapped = x.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
        torch.addcmul(x * cos, halves_swapped, signed_sin, value=-1 if back else 1, out=out[:rotated])
    if rotated < len(source):
        out[rotated:].copy_(source[rotated:])
