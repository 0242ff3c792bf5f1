"""Find what a network of transformers returns by running it without weights.

The network is built from its settings on PyTorch's device ``meta``, where a tensor has a shape and no values,
so that a network of any size runs at once and needs no memory. Only networks that do not tell their rows or
tokens in their settings are run.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from math import isqrt, prod
from typing import Any, NamedTuple

import numpy as np

from deiii.data.encoders.record import SAMPLE_RATE
from deiii.data.encoders.transformers_input import AUDIO, IMAGES, INPUT_SETTINGS, load_preparer
from deiii.data.encoders.transformers_rows import first_centre
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.data.tools.weights import WeightsError

USUAL_SIDE = 224  # px of an image where neither file of settings names a size
PROBE = 2 * SAMPLE_RATE  # samples from which rows are counted
COUNTED = 8  # rows over which the distance of two rows is measured
AUDIO_INPUTS = ("input_values", "input_features")
# Names under which networks of texts and images keep the network that reads images alone.
IMAGE_PARTS = ("vision_model", "vision_encoder", "vision_tower", "image_encoder")


class NoEncoder(WeightsError):
    """A network is of a kind that cannot be an encoder; the message is the reason."""


class ImageShapes(NamedTuple):
    """What a network of images returns.

    Attributes:
        width: features of its last layer.
        cells: whether the last layer has a place for each part of the image.
    """

    width: int
    cells: bool


class TokenShapes(NamedTuple):
    """What the layers of a network of images give, where they are lists of tokens.

    Attributes:
        layers: number of hidden states, with the input of the first layer.
        whole: whether a class token, or another one for the whole image, comes before those of the patches.
        several: whether it keeps several images of a call apart.
    """

    layers: int
    whole: bool
    several: bool


class SpeechShapes(NamedTuple):
    """What a network of audio returns.

    Attributes:
        width: features of each layer.
        layers: number of hidden states, with the input of the first layer.
        hop: samples between two rows.
        reach: samples that one row needs; 0 where a row is computed before the first of its samples is there.
        first: samples from the start of the audio to the centre of those that the first row reads, as far as
            the settings tell them; otherwise half of ``reach``.
    """

    width: int
    layers: int
    hop: int
    reach: int
    first: int

    def rows(self, samples: int) -> int:
        """Return the number of rows of so many samples.

        >>> SpeechShapes(768, 13, 320, 400, 200).rows(16000)
        49
        """
        return (samples - self.reach) // self.hop + 1


def image_shapes(folder: str, settings: Any) -> ImageShapes:
    """Return what the last layer of a network of images gives.

    Args:
        folder: its folder, for ``preprocessor_config.json``.
        settings: its settings, an object of transformers.

    Raises:
        NoEncoder: it reads something else than one image, or its last layer is not a list or map of features.
        WeightsError: ``preprocessor_config.json`` cannot be used.
    """
    network = _built(settings, image_part, ("pixel_values",))
    found = _run(network, {"pixel_values": _image(folder, network.config)}, "one image alone")
    last = getattr(found, "last_hidden_state", None)
    if last is None or last.ndim not in (3, 4):
        raise NoEncoder("it returns no list or map of features of one image")
    channels, places = channels_and_places(tuple(last.shape))
    return ImageShapes(channels, places > 0)


def token_shapes(folder: str, settings: Any) -> TokenShapes | None:
    """Return what the layers of a network of images give; None if they are not lists of tokens of patches.

    Args:
        folder: its folder, for ``preprocessor_config.json``.
        settings: its settings, an object of transformers with ``patch_size``, or with a ``vision_config``
            that has it.

    Raises:
        NoEncoder: it reads something else than images.
        WeightsError: ``preprocessor_config.json`` cannot be used.
    """
    network = _built(settings, image_part, ("pixel_values",))
    images = _image(folder, network.config).repeat(2, 1, 1, 1)
    given = {"pixel_values": images}
    found = _run(network, given, "one image alone", output_hidden_states=True)
    shapes = [tuple(state.shape) for state in getattr(found, "hidden_states", None) or ()]
    if not shapes or any(len(shape) != 3 or shape != shapes[0] for shape in shapes):
        return None
    size = network.config.patch_size
    sides = (size, size) if isinstance(size, int) else size
    patches = prod(pixels // side for pixels, side in zip(images.shape[2:], sides, strict=True))
    several = shapes[0][0] == 2
    more = shapes[0][1] - (patches if several else 2 * patches)
    return TokenShapes(len(shapes), more > 0, several) if more >= 0 else None


def image_part(network: Any) -> Any:
    """Return the part of a network that reads images alone, or the whole network."""
    parts = (getattr(network, name, None) for name in IMAGE_PARTS)
    # A part that is no network of transformers by itself does not return its layers.
    return next((part for part in parts if hasattr(part, "main_input_name")), network)


def channels_and_places(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the width of a last layer, and the places on each side of its square map; 0 for no map.

    Args:
        shape: [B,P,D], P tokens of which the first may be a class token, or [B,D,H,W].

    >>> channels_and_places((1, 768, 7, 7)), channels_and_places((1, 50, 512))
    ((768, 7), (512, 7))
    """
    if len(shape) == 4:
        return shape[1], shape[2]
    tokens = shape[1] - is_class_first(shape)
    side = isqrt(tokens)
    return shape[2], side if side * side == tokens else 0


def is_class_first(shape: tuple[int, ...]) -> bool:
    """Return whether the tokens [B,P,D] are one class token and those of a square.

    >>> is_class_first((1, 50, 512)), is_class_first((1, 49, 512))
    (True, False)
    """
    return shape[1] > 1 and isqrt(shape[1] - 1) ** 2 == shape[1] - 1


def speech_shapes(folder: str, settings: Any) -> SpeechShapes:
    """Return width, number and places of the rows of a network of audio, measured with lengths of audio.

    Args:
        folder: its folder with ``preprocessor_config.json``.
        settings: its settings, an object of transformers.

    Raises:
        NoEncoder: it reads something else than audio alone, or its layers are not rows over time of one
            width.
        WeightsError: ``preprocessor_config.json`` is missing or cannot be used.
    """
    network = _built(settings, encoder_of, AUDIO_INPUTS)
    if not os.path.isfile(os.path.join(folder, INPUT_SETTINGS)):
        raise NoEncoder(
            f"it is none of those whose input deiii knows, and the folder has no {INPUT_SETTINGS}, which "
            "says what it reads. For an encoder of audio, write that file: "
            f"{AUDIO}.from_pretrained(ITS_NAME).save_pretrained({folder!r}) of transformers"
        )
    extractor = load_preparer(folder, AUDIO)
    noise = np.random.default_rng(0).normal(scale=0.1, size=4 * PROBE).astype(np.float32)

    def states(samples: int) -> list[tuple[int, ...]]:
        inputs = prepared(extractor, [noise[:samples]], network)
        found = _run(network, inputs, "audio alone", output_hidden_states=True)
        return [tuple(state.shape) for state in getattr(found, "hidden_states", None) or ()]

    shapes = states(PROBE)
    if not shapes or any(len(shape) != 3 or shape != shapes[0] for shape in shapes):
        told = ", ".join(str(list(shape)) for shape in shapes) or "none"
        raise NoEncoder(f"its layers are not rows over time of one number and one width, but {told}")
    hop, reach = _places(lambda samples: states(samples)[0][1])
    first = first_centre(network.config, extractor, hop)
    return SpeechShapes(shapes[0][2], len(shapes), hop, reach, reach // 2 if first is None else first)


def refuse_told_speech(folder: str, settings: Any, inputs: tuple[int, ...], rows: int, width: int) -> None:
    """Raise NoEncoder if a network of audio does not give the rows that its settings tell.

    Args:
        folder: its folder, for ``preprocessor_config.json``.
        settings: its settings, an object of transformers.
        inputs: axes of its input: [1,n] samples, or [1,M,T] columns of log-mel.
        rows: number of rows of this input.
        width: features of a layer.
    """
    import torch

    network = _built(settings, lambda whole: whole.get_encoder() if len(inputs) == 3 else whole, AUDIO_INPUTS)
    given = {AUDIO_INPUTS[len(inputs) - 2]: torch.zeros(inputs)}
    if len(inputs) == 2 and os.path.isfile(os.path.join(folder, INPUT_SETTINGS)):
        silence = [np.zeros(inputs[1], np.float32)]
        found = load_preparer(folder, AUDIO)(silence, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        given = {"input_values": next(iter(found.values()))}
    found = _run(network, given, "audio alone", output_hidden_states=True)
    shapes = [tuple(state.shape) for state in getattr(found, "hidden_states", None) or ()]
    if not shapes or any(shape != (1, rows, width) for shape in shapes):
        told = ", ".join(str(list(shape)) for shape in shapes) or "none"
        raise NoEncoder(
            f"its layers are not {rows} rows of {width} features, as config.json says, but {told}"
        )


def encoder_of(network: Any) -> Any:
    """Return the encoder of a network of encoder and decoder, or the whole network."""
    return network.get_encoder() if network.config.is_encoder_decoder else network


def prepared(extractor: Any, windows: list[np.ndarray], network: Any) -> dict[str, Any]:
    """Return the inputs of a network for windows of audio of one length, tensors by name."""
    named = inspect.signature(network.forward).parameters
    found = extractor(windows, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    return {name: values for name, values in found.items() if name in named}


def _image(folder: str, settings: Any) -> Any:
    """Return the input of a network for one black crop [1,3,H,W]."""
    import torch

    if not os.path.isfile(os.path.join(folder, INPUT_SETTINGS)):
        side = usual_side(settings)
        return torch.zeros(1, 3, side, side)
    black = np.zeros((USUAL_SIDE, USUAL_SIDE, 3), np.uint8)
    values = load_preparer(folder, IMAGES)([black], return_tensors="pt").get("pixel_values")
    if values is None or values.ndim != 4:
        raise NoEncoder(f"{INPUT_SETTINGS} makes something else than one image [3,H,W] of a crop")
    return values


def usual_side(settings: Any) -> int:
    """Return the side in px of the images of a network without ``preprocessor_config.json``."""
    size = getattr(settings, "image_size", None) or USUAL_SIDE
    return int(size if isinstance(size, int) else size[0])


def _built(settings: Any, part: Callable[[Any], Any], inputs: tuple[str, ...]) -> Any:
    """Return a part of a network without weights. Raises NoEncoder, also if it reads none of the inputs."""
    import torch

    with usual_defaults(), torch.inference_mode(), torch.device("meta"):
        try:
            own = own_class(settings)
            whole = own._from_config(settings) if own else _auto_model(settings)
            network = part(whole).eval()
        except ImportError:  # of a package that transformers needs
            raise
        except Exception as error:  # transformers raises many types for settings that it cannot build
            raise NoEncoder(f"transformers cannot build it alone ({_first_line(error):.150})") from None
    named = inspect.signature(network.forward).parameters
    there = [name for name in inputs if name in named]
    if there and "input_ids" in named:
        raise NoEncoder(f"it reads a text (input_ids) beside {there[0]}")
    if not there:
        raise NoEncoder(f"it reads {network.main_input_name} in place of {' or '.join(inputs)}")
    return network


def own_class(settings: Any) -> Any:
    """Return the class of transformers that config.json names, where ``AutoModel`` knows none; or None.

    Networks of images that were saved without the network of texts beside them need it, such as BLIP's.
    """
    import transformers

    if type(settings) in transformers.MODEL_MAPPING:
        return None
    for name in settings.architectures or ():
        found: Any = getattr(transformers, str(name), None)
        own = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
        if own and found.config_class is type(settings):
            return found
    return None


def _auto_model(settings: Any) -> Any:
    from transformers import AutoModel

    return AutoModel.from_config(settings, trust_remote_code=False)


def _run(network: Any, inputs: Mapping[str, Any], given: str, **more: bool) -> Any:
    """Return what a network without weights gives for tensors by name; ``given`` are they in words."""
    import torch

    # Masks hide nothing of one window, and their values are not known on this device.
    there = {name: values.to("meta") for name, values in inputs.items() if values.is_floating_point()}
    with usual_defaults(), torch.inference_mode():
        try:
            return network(**there, **more)
        except Exception as error:  # networks raise many types for an input that they do not read
            raise NoEncoder(f"it does not run on {given} ({_first_line(error):.150})") from None


def _places(count: Callable[[int], int]) -> tuple[int, int]:
    """Return the distance of two rows and the samples that one row needs, from a function that counts rows.

    Raises:
        NoEncoder: the number of rows does not grow with the length, or not regularly.
    """
    rows = count(PROBE)
    if count(2 * PROBE) == rows:
        raise NoEncoder("it gives as many rows for 4 s as for 2 s of audio, so they do not follow the time")

    def begin(number: int) -> int:
        """Return the least number of samples that give so many rows more."""
        low, high = PROBE, 4 * PROBE
        if count(high) < rows + number:
            raise NoEncoder(f"it gives less than {rows + number} rows for 8 s of audio")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if count(middle) >= rows + number else (middle, high)
        return high

    first = begin(1)
    hop, left = divmod(begin(1 + COUNTED) - first, COUNTED)
    if left or hop < 1:
        raise NoEncoder("the distance of its rows is not a whole number of samples")
    return hop, max(0, first - rows * hop)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
