"""Stage keys: what a cached array depends on, as one short digest.

A key covers the stage's name and version, the parameters that change its result, the digest of
its weights and the key of the stage before it. Workers, devices, batch sizes and verbosity never
enter, so moving to another machine recomputes nothing and changing a mel parameter recomputes
the log-mel stage alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no blanks, ``1.0`` and ``1`` alike.

    Raises:
        TypeError: for anything but dict, list, tuple, str, int, float, bool and None.
        ValueError: for NaN and infinities.
    """
    return json.dumps(_normal(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _normal(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a stage parameter must be finite, not {value}")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        if not all(isinstance(k, str) for k in value):
            raise TypeError("keys of stage parameters must be strings")
        return {k: _normal(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(v) for v in value]
    raise TypeError(f"a stage parameter cannot be a {type(value).__name__}")


def stage_key(
    stage: str,
    version: int,
    params: Mapping[str, Any],
    weights: str | None = None,
    upstream: str | None = None,
) -> str:
    """Twelve hex digits that name a stage's result.

    >>> stage_key("logmel", 1, {"n_mels": 80}) == stage_key("logmel", 1, {"n_mels": 80.0})
    True
    """
    text = canonical_json(
        {
            "stage": stage,
            "version": version,
            "params": params,
            "weights": weights,
            "upstream": upstream,
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]
