"""Stage keys: what a cached array depends on, as one short digest.

A key covers the stage's name and version, the parameters that change its result, the digest of
its weights and the key of the stage before it. Workers, devices, batch sizes and verbosity never
enter, so moving to another machine recomputes nothing and changing a mel parameter recomputes
the log-mel stage alone.
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
