"""The inputs (streams) of a network by its settings. This module does not import PyTorch."""

from __future__ import annotations

from deiii.data.cache.stages import BUILT_IN
from deiii.data.config.schema import ModelConfig


def enabled_streams(model: ModelConfig) -> tuple[str, ...]:
    """Return the streams that a network of these settings reads.

    >>> enabled_streams(ModelConfig(flow=False))
    ('frames', 'audio')
    """
    return (*(stage.stream for stage in BUILT_IN if getattr(model, stage.switch)), *model.extra)
