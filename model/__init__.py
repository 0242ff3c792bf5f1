"""DE-III: network, training, evaluation, prediction.

>>> from model import load                       # doctest: +SKIP
>>> network = load("runs/latest")                # doctest: +SKIP
>>> network.predict("clip.mp4").label            # doctest: +SKIP
'happy'
"""

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:  # lazily: training needs nothing of the pipeline
    if name in __all__:
        from model import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'model' has no attribute {name!r}")
