"""Flow in one byte a component: what the flow stage stores and the loader expands.

``int8`` keeps a frame's flow as steps of one 127th of its largest component, so the error of a
component is at most 0.4 % of that; ``float16`` takes twice the bytes. Axes: n frames, S crop
size in px.

>>> stored = encode_flow(np.ones((2, 8, 8, 2), np.float32), "int8")
>>> stored["flow"].dtype.name, float(decode_flow(stored).max())
('int8', 1.0)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

STEPS = 127  # of int8 on either side of zero


def encode_flow(flow: np.ndarray, storage: str) -> dict[str, np.ndarray]:
    """Flow as it is stored.

    Args:
        flow: float32 [n,S,S,2], px; finite.
        storage: ``int8`` or ``float16``.

    Returns:
        ``flow`` int8 [n,S,S,2] and ``scale`` float32 [n] in px per step, or ``flow`` float16 alone.

    Raises:
        ValueError: for flow that is not finite, or not representable in float16.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(flow, dtype=np.float32))
    if not torch.isfinite(tensor).all():
        raise ValueError("flow to be stored must be finite; mark such frames invalid and zero them first")
    return {name: t.numpy() for name, t in encode_tensor(tensor, storage).items()}


def encode_tensor(flow: torch.Tensor, storage: str) -> dict[str, torch.Tensor]:
    """`encode_flow` on the tensor's own device, without its check for finite values.

    Args:
        flow: float32 [n,S,S,2], px.
        storage: ``int8`` or ``float16``.
    """
    if storage == "float16":
        half = flow.to(torch.float16)
        if flow.device.type == "cpu" and not torch.isfinite(half).all():
            raise ValueError("flow longer than 65504 px does not fit float16")
        return {"flow": half}
    if storage != "int8":
        raise ValueError(f"storage is int8 or float16, not {storage!r}")
    largest = flow.abs().amax(dim=(1, 2, 3))
    scale = largest / STEPS
    per_px = torch.where(scale > 0, 1 / scale.clamp_min(torch.finfo(torch.float32).tiny), 0)
    steps = torch.round(flow * per_px[:, None, None, None]).clamp_(-STEPS, STEPS)
    return {"flow": steps.to(torch.int8), "scale": scale}


def decode_flow(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Stored flow as float32 [n,S,S,2] in px.

    Args:
        arrays: ``flow`` and, where it is int8, ``scale``; others are ignored.
    """
    flow = arrays["flow"].astype(np.float32)
    if arrays["flow"].dtype == np.int8:
        flow *= np.asarray(arrays["scale"], np.float32)[:, None, None, None]
    return flow


def decode_tensor(flow: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Stored flow as float32 in px, on the tensor's own device.

    Args:
        flow: int8 or float16 [...,S,S,2].
        scale: float32 [...], px per step; needed where ``flow`` is int8. With float16 it is 1, or 0
            for fields that a batch's mask leaves out.

    >>> decode_tensor(torch.full((1, 4, 4, 2), 3, dtype=torch.int8), torch.tensor([0.5])).unique().item()
    1.5
    """
    if scale is None:
        if flow.dtype == torch.int8:
            raise ValueError("int8 flow needs its scale")
        return flow.float()
    return flow.float().mul_(scale[..., None, None, None])
