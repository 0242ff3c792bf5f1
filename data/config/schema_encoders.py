"""Settings of the stages that store features of frozen encoders: ``speech``, ``speech2``, ``appearance``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deiii.data.config.schema_fields import opt

PRECISIONS = ("float32", "bfloat16", "float16")
PIXELS = ("imagenet", "0..255", "0..1", "-1..1")  # values of the images that an ONNX file reads


# Settings that both stages have. Each call makes a field of its own, as a dataclass needs it.


def _encoder(default: str) -> Any:
    return opt(
        default,
        "Encoder: a name that `deiii encoders` lists, the path of an ONNX file, the path of a model folder "
        "of transformers, or the name of such a model on the Hugging Face Hub (owner/name).",
    )


def _weights() -> Any:
    return opt(
        None,
        "Path of the encoder's weights, a file or a folder of transformers; if empty, they are found or "
        "downloaded by their name.",
        operational=True,
        path=True,
    )


def _revision() -> Any:
    return opt(
        "main", "Revision of an encoder on the Hugging Face Hub: a branch, tag or commit.", operational=True
    )


def _outputs() -> Any:
    return opt(
        [], "Names of the values that an ONNX file gives as layers; if empty, its last suitable output."
    )


def _layers() -> Any:
    return opt(
        [],
        "Numbers of the layers to store, 1 for the first; 0 is the input of the first layer of transformers. "
        "If empty, all of them.",
        low=0,
        high=1000,
    )


def _precision() -> Any:
    return opt(
        "float32",
        "Type of the encoder's computation; bfloat16 and float16 are for GPUs.",
        choices=PRECISIONS,
    )


def _device() -> Any:
    return opt(
        "auto",
        "Device of the encoder: cpu, cuda, or auto for a GPU if there is one.",
        operational=True,
    )


@dataclass
class SpeechConfig:
    """Features of a frozen speech encoder."""

    encoder: str = _encoder("smart-turn")
    weights: str | None = _weights()
    revision: str = _revision()
    outputs: list[str] = _outputs()
    layers: list[int] = _layers()
    rate: float = opt(
        25.0,
        "Stored rows per second; neighbouring rows of the encoder are averaged. The encoder's own rate (50 "
        "or 100, depending on the encoder) must be a multiple of this number; 0 keeps the encoder's rate.",
        low=0,
        high=1000,
    )
    window: float = opt(
        0.0,
        "Audio in s that the encoder reads at a time; a longer clip is read in overlapping windows. "
        "0 uses the encoder's own value.",
        low=0,
        high=600,
    )
    step: float = opt(
        0.0,
        "Distance in s between two windows of a longer clip; a larger one is faster and gives less context. "
        "0 uses the encoder's own value.",
        low=0,
        high=600,
    )
    precision: str = _precision()
    device: str = _device()
    batch: int = opt(
        0,
        "Windows in one call of the encoder, also of several clips of a shard; 0 chooses 1 on a CPU and 16 "
        "on a GPU.",
        operational=True,
        low=0,
        high=4096,
    )


@dataclass
class Speech2Config(SpeechConfig):
    """Features of a second frozen speech encoder, beside those of the first."""

    encoder: str = _encoder("resemblyzer")


@dataclass
class AppearanceConfig:
    """Features of a frozen encoder of face crops."""

    encoder: str = _encoder("faceres-deep")
    weights: str | None = _weights()
    revision: str = _revision()
    outputs: list[str] = _outputs()
    layers: list[int] = _layers()
    grid: int = opt(
        0,
        "Cells along each side of the crop to which an encoder's tokens are averaged; each cell is stored as "
        "a layer of its own. 0 stores one vector of the whole crop.",
        low=0,
        high=16,
    )
    pixels: str = opt("imagenet", "Values of the images that an ONNX file reads.", choices=PIXELS)
    precision: str = _precision()
    device: str = _device()
    batch: int = opt(
        0,
        "Crops in one call of the encoder; 0 chooses 8 on a CPU and 64 on a GPU.",
        operational=True,
        low=0,
        high=65_536,
    )
