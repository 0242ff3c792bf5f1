"""Audio-visual emotion recognition: cached features of clips, and the DE-III network trained on them.

>>> from deiii import extract, load, open_features        # doctest: +SKIP
>>> extract("clip.mp4").frames.shape                      # doctest: +SKIP
(75, 112, 112, 3)
>>> load("runs/latest").predict("clip.mp4").label         # doctest: +SKIP
'happy'
>>> len(open_features("ravdess", "cache=/data/cache"))    # doctest: +SKIP
1440

Names are imported on first use, so that ``import deiii`` loads neither PyTorch nor OpenCV.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deiii.data.features import open_features
    from deiii.model.predictor import load
    from deiii.pipeline.clip_features import Features, extract

__all__ = ["Features", "extract", "load", "open_features"]

_HOMES = {
    "Features": "deiii.pipeline.clip_features",
    "extract": "deiii.pipeline.clip_features",
    "load": "deiii.model.predictor",
    "open_features": "deiii.data.features",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'deiii' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
