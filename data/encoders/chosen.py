"""What the settings of ``speech`` and ``appearance`` choose: the encoder, its layers, rate and windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from deiii.data.config.schema import AppearanceConfig, SpeechConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.record import SAMPLE_RATE, Encoder
from deiii.data.encoders.table import find_encoder


class Choice(NamedTuple):
    """An encoder as the settings use it.

    Attributes:
        encoder: its record.
        layers: numbers of the stored layers.
        pool: rows of the encoder that are averaged into one (speech).
        window: samples that it reads at a time (speech).
        step: samples between two windows (speech).
    """

    encoder: Encoder
    layers: tuple[int, ...]
    pool: int = 1
    window: int = 0
    step: int = 0


def chosen(config: SpeechConfig | AppearanceConfig) -> Choice:
    """The encoder that the settings name, with its layers, rate and windows.

    Raises:
        ConfigError: for an unknown encoder, a layer that it lacks, or a rate or windows that do not fit it.

    >>> chosen(SpeechConfig(layers=[2])).layers, chosen(SpeechConfig()).pool
    ((2,), 2)
    """
    modality = "speech" if isinstance(config, SpeechConfig) else "appearance"
    encoder = find_encoder(modality, config.encoder)
    layers = tuple(config.layers) or encoder.default_layers or encoder.layers
    for layer in layers:
        if layer not in encoder.layers or layers.count(layer) > 1:
            there = ", ".join(map(str, encoder.layers))
            raise ConfigError(
                f"{modality}.layers={list(layers)}: the encoder {encoder.name} has the layers {there}; "
                "name each at most once"
            )
    if not isinstance(config, SpeechConfig):
        return Choice(encoder, layers)
    pool = _pool(config, encoder)
    window = round((config.window or encoder.window) * SAMPLE_RATE / encoder.hop) * encoder.hop
    step = round((config.step or encoder.step) * SAMPLE_RATE / encoder.hop) * encoder.hop
    if not encoder.hop * pool <= step <= window or window < encoder.shortest:
        raise ConfigError(
            f"speech.window={window / SAMPLE_RATE:g} and speech.step={step / SAMPLE_RATE:g}: a step must be "
            "at least one row and at most one window"
        )
    return Choice(encoder, layers, pool, window, step)


def _pool(config: SpeechConfig, encoder: Encoder) -> int:
    """How many rows of the encoder make one stored row."""
    if not config.rate:
        return 1
    pool = round(encoder.rate / config.rate)
    if pool < 1 or abs(pool * config.rate - encoder.rate) > 1e-6 * encoder.rate:
        rates = ", ".join(f"{encoder.rate / n:g}" for n in (1, 2, 4, 5))
        raise ConfigError(
            f"speech.rate={config.rate:g}: the encoder {encoder.name} gives {encoder.rate:g} rows a second, "
            f"which must be a multiple: {rates} would do, and 0 means {encoder.rate:g}"
        )
    return pool


def sizes(config: SpeechConfig | AppearanceConfig) -> Mapping[str, float]:
    """Numbers of layers and features, and the hop of speech rows in ms.

    >>> sizes(SpeechConfig())
    {'layers': 4, 'width': 384, 'hop_ms': 40.0}
    """
    found = chosen(config)
    numbers: dict[str, float] = {"layers": len(found.layers), "width": found.encoder.width}
    if isinstance(config, SpeechConfig):
        numbers["hop_ms"] = 1000 * found.pool / found.encoder.rate
    return numbers


def identity(config: SpeechConfig | AppearanceConfig) -> Mapping[str, Any]:
    """What stands in the stage key beside the digest of the weights: everything that is looked up."""
    found = chosen(config)
    key: dict[str, Any] = {
        "encoder": found.encoder.name,
        "encoder_version": found.encoder.version,
        "layers": list(found.layers),
    }
    if isinstance(config, SpeechConfig):
        key["rate"] = found.encoder.rate / found.pool
        key["window"] = found.window / SAMPLE_RATE
        key["step"] = found.step / SAMPLE_RATE
    return key
