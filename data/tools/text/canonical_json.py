"""Canonical JSON: equal values give equal text, so that digests can be taken over settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """Write a value as JSON with sorted keys and no blanks; ``1.0`` is written as ``1``.

    Raises:
        TypeError: for anything but dict, list, tuple, str, int, float, bool and None.
        ValueError: for NaN and infinities.

    >>> canonical_json({"b": 1.0, "a": [True, None]})
    '{"a":[true,null],"b":1}'
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
