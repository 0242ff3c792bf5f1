"""Find encoder, layers, rate and windows in the settings of ``speech``, ``speech2`` and ``appearance``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from deiii.data.config.schema import AppearanceConfig, Speech2Config, SpeechConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.hub import hub_folder, is_folder, is_hub_name, refuse_path
from deiii.data.encoders.onnx_file import describe_onnx
from deiii.data.encoders.onnx_session import has_gpu
from deiii.data.encoders.record import SAMPLE_RATE, Encoder, Modality
from deiii.data.encoders.table import encoders, find_encoder
from deiii.data.encoders.transformers_folder import describe_folder
from deiii.data.tools.devices import numbered, pick_device
from deiii.data.tools.weights import WeightsError


class Choice(NamedTuple):
    """An encoder as the settings use it.

    Attributes:
        encoder: its record.
        path: path of its weights if the settings name one; empty if they are found by the encoder's name.
        layers: numbers of the stored layers.
        pool: rows of the encoder that are averaged into one (speech).
        window: samples that it reads at a time (speech).
        step: samples between two windows (speech).
    """

    encoder: Encoder
    path: str
    layers: tuple[int, ...]
    pool: int = 1
    window: int = 0
    step: int = 0


def section_of(config: SpeechConfig | AppearanceConfig) -> str:
    """Return the name of a section of settings, for messages.

    >>> section_of(SpeechConfig())
    'speech'
    """
    if isinstance(config, SpeechConfig):
        return "speech2" if isinstance(config, Speech2Config) else "speech"
    return "appearance"


def chosen(config: SpeechConfig | AppearanceConfig) -> Choice:
    """Return the encoder that the settings name, with its layers, rate and windows.

    Raises:
        ConfigError: for an unknown encoder, a layer that it lacks, or a rate or windows that do not fit it.
        WeightsError: for an ONNX file or a folder of transformers that cannot be read, or a network of images
            that needs ``appearance.grid``.

    >>> chosen(SpeechConfig(layers=[2])).layers, chosen(SpeechConfig()).pool
    ((2,), 2)
    """
    modality: Modality = "speech" if isinstance(config, SpeechConfig) else "appearance"
    encoder, path = _found(modality, config)
    layers = tuple(config.layers) or encoder.default_layers or encoder.layers
    for layer in layers:
        if layer not in encoder.layers or layers.count(layer) > 1:
            there = ", ".join(map(str, encoder.layers))
            raise ConfigError(
                f"{section_of(config)}.layers={list(layers)}: the encoder {encoder.name} has the layers "
                f"{there}; name each at most once"
            )
    if not isinstance(config, SpeechConfig):
        if config.grid and not encoder.tokens:
            raise ConfigError(
                f"appearance.grid={config.grid}: the encoder {encoder.name} gives one vector of a crop; "
                "use grid=0"
            )
        if not config.grid and not encoder.whole:
            raise WeightsError(
                f"{path or config.encoder} holds a network without a class token, so that its first token "
                "stands for one corner of the crop: set appearance.grid=1 for the mean of its tokens, or a "
                "larger grid"
            )
        return Choice(encoder, path, layers)
    pool = _pool(config, encoder)
    if encoder.longest and config.window > encoder.longest:
        raise ConfigError(
            f"{section_of(config)}.window={config.window:g}: the encoder {encoder.name} reads at most "
            f"{encoder.longest:g} s at a time"
        )
    window = round((config.window or encoder.window) * SAMPLE_RATE / encoder.hop) * encoder.hop
    if encoder.longest:
        window = min(window, int(encoder.longest * SAMPLE_RATE / encoder.hop) * encoder.hop)
    step = round((config.step or encoder.step) * SAMPLE_RATE / encoder.hop) * encoder.hop
    if not encoder.hop * pool <= step <= window - encoder.shortest:
        longest = (window - encoder.shortest) / SAMPLE_RATE
        raise ConfigError(
            f"{section_of(config)}.window={window / SAMPLE_RATE:g} and {section_of(config)}.step="
            f"{step / SAMPLE_RATE:g}: a step must be at least one row and at most {longest:g} s, so that "
            "windows overlap"
        )
    return Choice(encoder, path, layers, pool, window, step)


def _found(modality: Modality, config: SpeechConfig | AppearanceConfig) -> tuple[Encoder, str]:
    """Return the record of the encoder that the settings name, and the path of its weights if named."""
    name = config.encoder
    path = config.weights or ""  # it may have moved since the encoder was named by its path
    if name in encoders():
        return find_encoder(modality, name), path
    if name == "onnx" or name.endswith(".onnx"):
        path = path or (name if name != "onnx" else "")
        return describe_onnx(modality, path, tuple(config.outputs)), path
    on_hub = is_hub_name(name) and not os.path.exists(name)
    if on_hub or is_folder(path or name):
        path = path or (hub_folder(name, config.revision) if on_hub else name)
        return describe_folder(modality, path, name if on_hub else ""), path
    refuse_path(name)
    return find_encoder(modality, name), path


def device_of(config: SpeechConfig | AppearanceConfig) -> str:
    """Return the device that computes the configured encoder: ``cpu``, or a CUDA device with its number.

    Raises:
        DeviceError: the configured device does not exist.
    """
    encoder = chosen(config).encoder
    if config.device == "auto" and encoder.runtime == "onnx" and not has_gpu():
        return "cpu"
    return str(numbered(pick_device(config.device, f"{section_of(config)}.device")))


def runtime_of(name: str) -> str:
    """Return what computes an encoder, ``torch`` or ``onnx``, from its setting, without its weights.

    >>> runtime_of("smart-turn"), runtime_of("user/name")
    ('onnx', 'torch')
    """
    if name in encoders():
        return encoders()[name].runtime
    return "onnx" if name == "onnx" or name.endswith(".onnx") else "torch"


def torch_encoders(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the encoders in the settings of a network that PyTorch computes, by the stage that uses them.

    >>> torch_encoders({"model": {"extra": ["speech"]}, "speech": {"encoder": "resemblyzer"}})
    {'speech': 'resemblyzer'}
    """
    chosen = {
        name: settings[name]["encoder"] for name in settings["model"].get("extra", ()) if name in settings
    }
    return {name: encoder for name, encoder in chosen.items() if runtime_of(encoder) == "torch"}


def _pool(config: SpeechConfig, encoder: Encoder) -> int:
    """Return the number of encoder rows that are averaged for one stored row."""
    if not config.rate:
        return 1
    pool = round(encoder.rate / config.rate)
    if pool < 1 or abs(pool * config.rate - encoder.rate) > 1e-6 * encoder.rate:
        rates = ", ".join(f"{encoder.rate / n:g}" for n in (1, 2, 4, 5))
        raise ConfigError(
            f"{section_of(config)}.rate={config.rate:g}: the encoder {encoder.name} gives {encoder.rate:g} "
            f"rows per second, which must be a multiple: {rates} would do, and 0 means {encoder.rate:g}"
        )
    return pool


def sizes(config: SpeechConfig | AppearanceConfig) -> Mapping[str, float]:
    """Return numbers of layers and features, and the hop of speech rows in ms.

    With ``appearance.grid``, each cell of each layer counts as a layer.

    >>> sizes(SpeechConfig())
    {'layers': 4, 'width': 384, 'hop_ms': 40.0}
    """
    found = chosen(config)
    cells = 1 if isinstance(config, SpeechConfig) else max(1, config.grid**2)
    numbers: dict[str, float] = {"layers": len(found.layers) * cells, "width": found.encoder.width}
    if isinstance(config, SpeechConfig):
        numbers["hop_ms"] = 1000 * found.pool / found.encoder.rate
    return numbers


def identity(config: SpeechConfig | AppearanceConfig) -> Mapping[str, Any]:
    """Return what the stage key contains besides settings and digest: facts that the code looks up."""
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
