"""`deiii.data.cache.flow_codec` for tensors, on their own device; the results are equal bit for bit."""

from __future__ import annotations

import torch

from deiii.data.cache.flow_codec import STEPS, TOO_LONG


def encode_tensor(flow: torch.Tensor, storage: str) -> dict[str, torch.Tensor]:
    """Encode flow for storage on the tensor's own device, without a check for finite values.

    Args:
        flow: float32 [n,S,S,2], px.
        storage: ``int8`` or ``float16``.

    Returns:
        ``flow`` int8 [n,S,S,2] and ``scale`` float32 [n] in px per step; or only ``flow`` float16.

    Raises:
        ValueError: for another storage, and on the CPU for flow too long for float16. (On a GPU the check
            would wait for all work before it.)
    """
    if storage == "float16":
        half = flow.to(torch.float16)
        if flow.device.type == "cpu" and not torch.isfinite(half).all():
            raise ValueError(TOO_LONG)
        return {"flow": half}
    if storage != "int8":
        raise ValueError(f"storage is int8 or float16, not {storage!r}")
    largest = flow.abs().amax(dim=(1, 2, 3))
    scale = largest / STEPS
    per_px = torch.where(scale > 0, 1 / scale.clamp_min(torch.finfo(torch.float32).tiny), 0)
    steps = torch.round(flow * per_px[:, None, None, None]).clamp_(-STEPS, STEPS)
    return {"flow": steps.to(torch.int8), "scale": scale}


def decode_tensor(flow: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Decode stored flow to float32 in px, on the tensor's own device.

    Args:
        flow: int8 or float16 [...,S,S,2].
        scale: float32 [...], factor from stored values to px, or to px in 1/25 s as in a batch; required if
            ``flow`` is int8. It is 0 for flow that a batch masks.

    Raises:
        ValueError: for int8 flow without its scale.

    >>> decode_tensor(torch.full((1, 4, 4, 2), 3, dtype=torch.int8), torch.tensor([0.5])).unique().item()
    1.5
    """
    if scale is None:
        if flow.dtype == torch.int8:
            raise ValueError("int8 flow needs its scale")
        return flow.float()
    return flow.float().mul_(scale[..., None, None, None])
