"""The record that describes a frozen encoder, and the arguments of the function that loads it.

A record states what the encoder reads and returns, and what a paper must state about it. Its ``load``
function makes the network in the process that uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

SAMPLE_RATE = 16_000  # Hz of every speech encoder
Modality = Literal["speech", "appearance"]


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder of speech or of face crops.

    Attributes:
        name: value of ``speech.encoder`` or ``appearance.encoder``.
        modality: ``speech`` or ``appearance``.
        load: ``module:function`` from a `Request` to the network. That of speech maps windows float32 [B,n]
            of samples in [-1,1] to float32 [B,R,L,D]; that of appearance maps RGB crops uint8 [B,S,S,3] to
            float32 [B,L,D]. A network of speech may have a method ``ragged`` that maps a list of windows
            float32 [n_i] of unequal lengths to a list of float32 [R_i,L,D], each what the window gives alone;
            without it a call holds windows of one length.
        width: features of a layer, D.
        layers: numbers of the layers that it can give.
        weights: its weights' name in the table of `deiii.data.tools.weights`; empty where a path is needed.
        parameters: number of its parameters; 0 if unknown.
        licence: licence of the weights.
        input: what it reads, in words.
        trained_on: the data of its training.
        emotion: emotion corpora in its training data, which a paper must state; empty for none, ``unknown``
            where it is not known.
        source: address of its publication.
        version: raise it when the code of ``load`` computes something else; it enters the stage key.
        hop: samples between two rows of speech.
        first: samples from the start of a window to the centre of its first row.
        shortest: smallest number of samples that gives a row.
        window: length in s of the audio that it reads at a time; shorter clips are read whole.
        step: time in s between two windows of longer audio.
        tokens: whether it keeps the places of a crop, so that ``appearance.grid`` can be set.
        whole: whether it gives one vector of a whole crop; without it ``appearance.grid`` must be set.
        runtime: what computes it: ``torch`` or ``onnx``.
        batched: whether several windows or crops in one call give what each gives alone.
        default_layers: the layers that are stored where the setting names none; empty for all.
        longest: largest length of a window in s; 0 for no limit.
    """

    name: str
    modality: Modality
    load: str
    width: int
    layers: tuple[int, ...]
    weights: str = ""
    parameters: int = 0
    licence: str = "unknown"
    input: str = ""
    trained_on: str = "unknown"
    emotion: str = "unknown"
    source: str = ""
    version: int = 1
    hop: int = 320
    first: int = 0
    shortest: int = 400
    window: float = 10.0
    step: float = 5.0
    tokens: bool = False
    whole: bool = True
    runtime: Literal["torch", "onnx"] = "torch"
    batched: bool = True
    default_layers: tuple[int, ...] = ()
    longest: float = 0.0

    @property
    def rate(self) -> float:
        """Rows per second of speech.

        >>> Encoder("mine", "speech", "package:load", 8, (1,), hop=160).rate
        100.0
        """
        return SAMPLE_RATE / self.hop


class Request(NamedTuple):
    """The argument of a ``load`` function.

    Attributes:
        name: name of the encoder's record.
        path: path of the weights: a file, or a folder of transformers; empty for an encoder without weights.
        layers: numbers of the layers to return, in this order.
        device: ``cpu``, or a CUDA device.
        precision: type of the computation: float32, bfloat16 or float16.
        outputs: names of an ONNX file's outputs, where the settings name them.
        pixels: values of an ONNX file's images (`deiii.data.config.schema_encoders.PIXELS`).
        grid: cells along each side to which tokens of a crop are averaged; 0 for one vector.
    """

    name: str
    path: str
    layers: tuple[int, ...]
    device: str = "cpu"
    precision: str = "float32"
    outputs: tuple[str, ...] = ()
    pixels: str = "imagenet"
    grid: int = 0
