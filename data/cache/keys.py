"""Stage keys: one short digest of everything that the result of a stage depends on.

A key covers the stage's name and version, the settings that change its result, the digest of its weights
and the key of the stage before it. Workers, devices and batch sizes never enter. So another machine
recomputes nothing, and a changed mel setting recomputes the log-mel stage only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from deiii.data.tools.canonical_json import canonical_json


def stage_key(
    stage: str,
    version: int,
    params: Mapping[str, Any],
    weights: str | None = None,
    upstream: str | None = None,
) -> str:
    """The key of a stage's result: the first 12 hex digits of the SHA-256 of canonical JSON.

    Args:
        stage: the stage's name.
        version: of the stage's code; raised when the same settings give another result.
        params: the settings that change the result.
        weights: digest of the weights, if the stage has any.
        upstream: key of the stage whose result this one reads, if any.

    Raises:
        TypeError, ValueError: for parameters that canonical JSON cannot hold.

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
