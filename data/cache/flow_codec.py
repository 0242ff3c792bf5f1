"""Flow in one byte a component: what the flow stage stores and the loader expands.

``int8`` keeps a frame's flow as steps of one 127th of its largest component, so the error of a
component is at most 0.4 % of that; ``float16`` takes twice the bytes. Axes: n frames, S crop
size in px. `deiii.data.cache.flow_codec_torch` does the same where the flow is, on a GPU; this module
needs no PyTorch, which takes 600 MB of every worker that loads it with RAFT's network.

>>> stored = encode_flow(np.ones((2, 8, 8, 2), np.float32), "int8")
>>> stored["flow"].dtype.name, float(decode_flow(stored).max())
('int8', 1.0)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

STEPS = 127  # of int8 on either side of zero
TOO_LONG = "flow longer than 65504 px does not fit float16"


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
    flow = np.asarray(flow, np.float32)
    if not np.isfinite(flow).all():
        raise ValueError("flow to be stored must be finite; mark such frames invalid and zero them first")
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
    """Stored flow as float32 [n,S,S,2] in px.

    Args:
        arrays: ``flow`` and, where it is int8, ``scale``; others are ignored.
    """
    flow = arrays["flow"].astype(np.float32)
    if arrays["flow"].dtype == np.int8:
        flow *= np.asarray(arrays["scale"], np.float32)[:, None, None, None]
    return flow
