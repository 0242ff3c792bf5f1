"""Encode flow for storage and decode it again, with NumPy.

``int8`` stores the flow of a frame in steps of 1/127 of its largest component, so that the error of a
component is at most 0.4 % of the largest one. ``float16`` takes twice the bytes. Axes: n frames, S crop size
in px. `deiii.data.cache.flow_codec_torch` computes the same on tensors, on their own device. This module does
not import PyTorch, which would take 600 MB in every worker that does not need it.

>>> stored = encode_flow(np.ones((2, 8, 8, 2), np.float32), "int8")
>>> stored["flow"].dtype.name, float(decode_flow(stored).max())
('int8', 1.0)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

STEPS = 127  # steps of int8 on each side of zero
TOO_LONG = "flow longer than 65504 px does not fit float16"


def encode_flow(flow: np.ndarray, storage: str) -> dict[str, np.ndarray]:
    """Encode flow for storage.

    Args:
        flow: float32 [n,S,S,2], px; finite.
        storage: ``int8`` or ``float16``.

    Returns:
        ``flow`` int8 [n,S,S,2] and ``scale`` float32 [n] in px per step; or only ``flow`` float16.

    Raises:
        ValueError: for flow that is not finite or too long for float16, or another storage.
    """
    flow = np.asarray(flow, np.float32)
    if not np.isfinite(flow).all():
        raise ValueError("flow must be finite to be stored; mark such frames invalid and set them to 0 first")
    if storage == "float16":
        with np.errstate(over="ignore"):
            half = flow.astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(TOO_LONG)
        return {"flow": half}
    if storage != "int8":
        raise ValueError(f"storage is int8 or float16, not {storage!r}")
    largest = np.abs(flow).max(axis=(1, 2, 3), initial=0)
    scale = largest / np.float32(STEPS)
    per_px = np.where(scale > 0, 1 / np.maximum(scale, np.finfo(np.float32).tiny), np.float32(0))
    steps = np.rint(flow * per_px[:, None, None, None]).clip(-STEPS, STEPS)
    return {"flow": steps.astype(np.int8), "scale": scale}


def decode_flow(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Decode stored flow to float32 [n,S,S,2] in px.

    Args:
        arrays: ``flow`` and, if it is int8, ``scale``; other fields are ignored.
    """
    flow = arrays["flow"].astype(np.float32)
    if arrays["flow"].dtype == np.int8:
        flow *= np.asarray(arrays["scale"], np.float32)[:, None, None, None]
    return flow
