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
    from deiii.data.loader.feature_set import open_features
    from deiii.data.loader.feature_split import open_split
    from deiii.model.prediction.loading import from_pretrained, load
    from deiii.pipeline.extract import Features, extract

__all__ = ["Features", "extract", "from_pretrained", "load", "open_features", "open_split"]

_HOMES = {
    "Features": "deiii.pipeline.extract",
    "extract": "deiii.pipeline.extract",
    "from_pretrained": "deiii.model.prediction.loading",
    "load": "deiii.model.prediction.loading",
    "open_features": "deiii.data.loader.feature_set",
    "open_split": "deiii.data.loader.feature_split",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'deiii' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
