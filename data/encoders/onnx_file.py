"""Find width, layers and rows of an encoder in an ONNX file by running it on zeros."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np

from deiii.data.encoders.onnx_session import OnnxNetwork
from deiii.data.encoders.record import SAMPLE_RATE, Encoder, Modality
from deiii.data.tools.weights import WeightsError

MEL_HOP = 160  # samples between two columns of Whisper's log-mel
MEL_BANDS = (80, 128)
PROBE_S = 4.0  # length of the windows that are tried if the file accepts any length
ROWS = 80  # samples: distances of rows are multiples of 5 ms
# This operation scales all windows or crops of a call together, so each of them needs its own call.
COUPLED = "DynamicQuantizeLinear"
FREE_SIDE = 224  # px; side of the images that are tried if the file accepts any size


def describe_onnx(modality: Modality, path: str, outputs: tuple[str, ...]) -> Encoder:
    """Return the record of an ONNX file.

    A speech file takes samples [B,n] or [B,1,n], or Whisper's log-mel [B,80,T]; an image file takes [B,S,S,C]
    or [B,C,S,S].

    Args:
        modality: ``speech`` or ``appearance``.
        path: path of the file.
        outputs: names of the values that become layers; empty for the last suitable output.

    Raises:
        WeightsError: the file is missing or damaged, lacks an output, or takes another input.
    """
    return _described(modality, path, outputs)[0]


def layer_names(modality: Modality, path: str, outputs: tuple[str, ...]) -> list[str]:
    """Return the names of the values of an ONNX file that are its layers; arguments as in `describe_onnx`.

    Raises:
        WeightsError: as `describe_onnx`.
    """
    return _described(modality, path, outputs)[1]


def _described(modality: Modality, path: str, outputs: tuple[str, ...]) -> tuple[Encoder, list[str]]:
    if not os.path.isfile(path):
        raise WeightsError(f"no such ONNX file: {path}; set {modality}.weights to its path")
    stat = os.stat(path)
    return _describe(modality, path, outputs, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _describe(
    modality: Modality, path: str, outputs: tuple[str, ...], size: int, mtime_ns: int
) -> tuple[Encoder, list[str]]:
    network = OnnxNetwork(path, outputs)
    if outputs or len(network.given) == 1:
        return _try(modality, path, network), network.outputs
    try:
        return _try(modality, path, network), network.outputs
    except UnsuitableOutput as error:
        for name in network.given[-2::-1]:
            try:
                network = OnnxNetwork(path, [name])
                return _try(modality, path, network), network.outputs
            except UnsuitableOutput:
                continue
        raise error


class UnsuitableOutput(WeightsError):
    """An output is not a layer; another one of the file may be."""


def _try(modality: Modality, path: str, network: OnnxNetwork) -> Encoder:
    """Return the record of a file with chosen outputs, which it runs on zeros."""
    rank = 3 if modality == "speech" else 2
    if isinstance(network.input_shape[0], int) and network.input_shape[0] > 1:
        raise WeightsError(
            f"{path} reads exactly {network.input_shape[0]} inputs at a time: export it with a first axis of "
            "any length (dynamic_axes of torch.onnx.export), or of length 1"
        )
    rows: dict[str, Any] = {}
    window = 10.0
    try:
        if modality == "speech":
            rows, window, found = _speech(network, path)
        else:
            found = network(np.zeros((1, *image_shape(network, path)), np.float32))
    except WeightsError:
        raise
    except Exception as error:  # onnxruntime raises many types, which have no common base of their own
        raise WeightsError(
            f"{path} does not run on {'4 s of silence' if modality == 'speech' else 'a black image'} "
            f"({str(error).splitlines()[0]:.200}); an encoder takes one input, samples or images"
        ) from None
    shapes = [_whole(value.shape) if modality == "appearance" else value.shape for value in found]
    if not shapes or any(len(shape) != rank or shape[1:] != shapes[0][1:] for shape in shapes):
        axes = "[B,rows,D] of as many rows and one width" if modality == "speech" else "[B,D] of one width"
        raise UnsuitableOutput(
            f"{path}: layers are outputs {axes}, but {', '.join(network.outputs)} are "
            f"{', '.join(str(list(v.shape)) for v in found)}; name others with {modality}.outputs=[...]"
        )
    return Encoder(
        "onnx",
        modality,
        f"deiii.pipeline.encoders.onnx_{'speech' if modality == 'speech' else 'faces'}:load",
        width=shapes[0][-1],
        layers=tuple(range(1, len(shapes) + 1)),
        input=f"{network.input_shape}",
        runtime="onnx",
        batched=COUPLED not in network.kinds and not isinstance(network.input_shape[0], int),
        window=window,
        step=window / 2,
        **rows,
    )


def _whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape [B,D,1,1] of pooled features without the axes of the place, and others as they are."""
    return shape[:2] if set(shape[2:]) == {1} else shape


def takes_mel(network: OnnxNetwork) -> bool:
    """Return whether an ONNX file of speech reads Whisper's log-mel instead of samples."""
    return len(network.input_shape) == 3 and network.input_shape[1] in MEL_BANDS


def image_shape(network: OnnxNetwork, path: str) -> tuple[int, int, int]:
    """Return the axes of an image that an ONNX file reads: [S,S,C] or [C,S,S].

    Raises:
        WeightsError: it reads no images of one or three channels.
    """
    shape = network.input_shape[1:]
    if len(shape) == 3:
        sides = shape[1:] if shape[0] in (1, 3) else shape[:2]
        if all(isinstance(side, int) for side in sides) and sides[0] != sides[1]:
            raise WeightsError(f"{path} reads images of {sides[1]}x{sides[0]} px, and crops are square")
        if shape[0] in (1, 3):
            side = shape[1] if isinstance(shape[1], int) else FREE_SIDE
            return shape[0], side, side
        if shape[2] in (1, 3):
            side = shape[0] if isinstance(shape[0], int) else FREE_SIDE
            return side, side, shape[2]
    raise WeightsError(
        f"{path} reads {list(network.input_shape)}: images are [B,S,S,C] or [B,C,S,S], C of 1 or 3"
    )


def _speech(network: OnnxNetwork, path: str) -> tuple[dict[str, Any], float, list[np.ndarray]]:
    """Return rows, window in s and the outputs for zeros."""
    shape = network.input_shape
    mel = takes_mel(network)
    if network.type is np.uint8 or (not mel and len(shape) != 2):
        raise WeightsError(
            f"{path} reads {list(shape)}: a speech encoder takes samples [B,n] or [B,1,n], or Whisper's "
            "log-mel [B,80,T]"
        )
    unit = MEL_HOP if mel else 1
    fixed = isinstance(shape[-1], int)
    samples = shape[-1] * unit if fixed else round(PROBE_S * SAMPLE_RATE)

    def run(n: int) -> list[np.ndarray]:
        return network(np.zeros((1, shape[1], n // unit) if mel else (1, n), np.float32))

    found = run(samples)
    count = found[0].shape[1] if found[0].ndim == 3 else 1
    if fixed:
        hop = max(ROWS, round(samples / count / ROWS) * ROWS)
        longest = samples / SAMPLE_RATE
        return {"hop": hop, "first": 0, "shortest": hop, "longest": longest}, longest, found
    if found[0].ndim != 3:
        return {}, 10.0, found  # refused by its shape
    twice = run(2 * samples)[0]
    new = twice.shape[1] - count
    if new < 1 or twice.shape[-1] != found[0].shape[-1]:
        raise UnsuitableOutput(
            f"{path}: {network.outputs[0]} is {list(found[0].shape)} for {PROBE_S:g} s and "
            f"{list(twice.shape)} for {2 * PROBE_S:g} s; layers are outputs [B,rows,D] with more rows for "
            "longer audio: name others with speech.outputs=[...]"
        )
    hop = max(ROWS, round(samples / new / ROWS) * ROWS)
    if not samples / (new + 1) <= hop <= samples / max(1, new - 1):
        raise WeightsError(
            f"{path} gives a row every {samples / new:.0f} samples; the distance must be a multiple of "
            f"{ROWS} samples (5 ms): write a load function for this file"
        )
    reach = max(hop, samples - (count - 1) * hop) if not mel else hop
    return {"hop": hop, "first": 0 if mel else reach // 2, "shortest": reach}, 10.0, found
