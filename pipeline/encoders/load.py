"""Load the encoder that ``speech``, ``speech2`` or ``appearance`` names, once in each process."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deiii.data.config.schema import AppearanceConfig, SpeechConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.chosen import Choice, chosen, device_of, section_of
from deiii.data.encoders.record import Encoder, Request
from deiii.data.tools.devices import DeviceError
from deiii.data.tools.weights import resolve

CPU_BATCH = {"speech": 1, "appearance": 8}
GPU_BATCH = {"speech": 16, "appearance": 64}


@dataclass(frozen=True)
class Loaded:
    """An encoder in this process.

    Attributes:
        choice: what the settings chose.
        network: the network's function; see `deiii.data.encoders.record.Encoder.load`.
        batch: windows or crops in one call, also of several clips.
    """

    choice: Choice
    network: Callable[[np.ndarray], np.ndarray]
    batch: int


def load_encoder(config: SpeechConfig | AppearanceConfig) -> Loaded:
    """Load the configured encoder.

    With ``device=auto``, an encoder that cannot be computed on the GPU is loaded on the CPU, with a
    RuntimeWarning.

    Raises:
        ConfigError: the settings contradict each other or the encoder.
        WeightsError: its weights are missing, damaged or not those of this encoder.
        DeviceError: the configured device does not exist, or the encoder cannot be computed on it and it is
            not ``auto``.
    """
    choice = chosen(config)
    encoder = choice.encoder
    device = device_of(config)
    if config.precision != "float32" and device == "cpu":
        raise ConfigError(
            f"{section_of(config)}.precision={config.precision} is for GPUs; a CPU needs precision=float32"
        )
    path = resolve(choice.path, encoder.weights)[0] if choice.path or encoder.weights else ""
    more = (config.pixels, config.grid) if isinstance(config, AppearanceConfig) else ()
    load = _function(encoder)
    settings = config.precision, tuple(config.outputs), *more
    try:
        network = load(Request(encoder.name, path, choice.layers, device, *settings))
    except DeviceError as error:
        if config.device != "auto":
            raise
        warnings.warn(f"{section_of(config)} is computed on the CPU: {error}", RuntimeWarning, stacklevel=2)
        device = "cpu"
        network = load(Request(encoder.name, path, choice.layers, device, *settings))
    usual = CPU_BATCH if device == "cpu" else GPU_BATCH
    batch = (config.batch or usual[encoder.modality]) if encoder.batched else 1
    return Loaded(choice, network, batch)


def _function(encoder: Encoder) -> Callable[[Request], Any]:
    """Return the function that loads an encoder. Raises ConfigError where there is none."""
    module, _, name = encoder.load.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # of another package, which the module imports
        found = None
    if found is None:
        raise ConfigError(
            f"the encoder {encoder.name} is loaded by {encoder.load!r}, which does not exist: name a "
            "function in the field load of its record, as 'module:function', and install its package here"
        )
    function: Callable[[Request], Any] = found
    return function
