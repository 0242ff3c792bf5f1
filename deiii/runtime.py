"""Predict with an exported network in onnxruntime, without PyTorch.

>>> from deiii.runtime import load                                 # doctest: +SKIP
>>> load("exported").predict("clip.mp4").probabilities             # doctest: +SKIP
{'happy': 0.91, 'sad': 0.09}

``deiii export RUN exported --onnx`` writes the folder. Preprocessing needs PyAV and OpenCV; faces by Haar
cascades or YuNet, flow by DIS or TV-L1 and frozen encoders that are ONNX files work without PyTorch, flow by
RAFT and other encoders do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from deiii.model.prediction.loading import load as _load
from deiii.model.prediction.predictor import Predictor
from deiii.model.prediction.result import Prediction

__all__ = ["Prediction", "Predictor", "load"]


def load(
    path: str | Path | Sequence[str | Path],
    overrides: Iterable[str] = (),
    change_preprocessing: bool = False,
    calibrated: bool = False,
) -> Predictor:
    """Load an exported folder, or ``hub:user/name``; see `deiii.model.prediction.loading.load`."""
    return _load(path, "cpu", overrides, change_preprocessing, backend="onnx", calibrated=calibrated)
