"""Raw corpora to feature caches: decode, faces, flow, log-mel, the Dask graph, outcomes.

>>> from pipeline import extract          # doctest: +SKIP
>>> clip = extract("a.mp4")               # doctest: +SKIP
"""

from typing import Any

__all__ = ["Features", "extract"]


def __getattr__(name: str) -> Any:  # lazily, so that `python -m pipeline --help` need not load torch
    if name in __all__:
        from pipeline import clip_features

        return getattr(clip_features, name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
