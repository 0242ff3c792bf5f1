"""Find width, layers and rows of an encoder in a folder of transformers from its settings."""

from __future__ import annotations

import json
import logging
import math
from functools import lru_cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from deiii.data.encoders.hub import complete_folder
from deiii.data.encoders.known import KNOWN
from deiii.data.encoders.record import SAMPLE_RATE, Encoder, Modality
from deiii.data.encoders.transformers_input import AUDIO, IMAGES, INPUT_SETTINGS
from deiii.data.encoders.transformers_shapes import (
    NoEncoder,
    image_shapes,
    refuse_told_speech,
    speech_shapes,
    token_shapes,
)
from deiii.data.tools.packages.requirements import install_command
from deiii.data.tools.weights import WeightsError

WHISPER_HOP = 320  # samples between two states of its encoder
# Implementations of layers in transformers and PyTorch. For others, also flash_attention_2 where its package
# is missing, transformers may take code from the Hub.
OWN_CODE = ("eager", "sdpa", "flex_attention")
# Settings of networks of images whose features of a crop cannot be used, and why.
_SEVERAL = "it reads several images of a video at a time, and the stage reads one crop at a time"
NOT_OF_CROPS = {
    "num_frames": _SEVERAL,
    "frames_per_clip": _SEVERAL,
    "tubelet_size": _SEVERAL,
    "num_detection_tokens": "its last tokens are those of detected objects instead of parts of the image",
}
# Kinds of networks that read more than a crop, and what to use.
OTHER_KINDS = {
    "siglip2_vision_model": "it reads lists of patches of images of any size (NaFlex); a SigLIP 2 of one "
    "size, such as google/siglip2-base-patch16-224, reads crops",
    "vilt": "it reads a text beside the image, and its layers mix both; ViT, DINOv2 and the image network of "
    "CLIP read crops",
}
# Kinds of networks whose settings are known to tell their layers; others are run without weights first. For
# images: whether a class token comes before the tokens of the patches.
SPEECH_KINDS = ("data2vec-audio", "hubert", "sew", "sew-d", "unispeech", "unispeech-sat", "wav2vec2",
                "wav2vec2-conformer", "wavlm", "whisper")  # fmt: skip
IMAGE_KINDS = {
    "beit": True, "chinese_clip_vision_model": True, "clip_vision_model": True, "data2vec-vision": True,
    "deit": True, "dinov2": True, "dinov2_with_registers": True, "dinov3_vit": True, "ijepa": False,
    "siglip_vision_model": False, "vit": True, "vit_mae": True,
}  # fmt: skip
_log = logging.getLogger(__name__)


def describe_folder(modality: Modality, folder: str, name: str = "") -> Encoder:
    """Return the record of a network of transformers in a folder.

    Args:
        modality: ``speech`` or ``appearance``.
        folder: folder with config.json and safetensors.
        name: its name on the Hub, if that is known.

    Raises:
        WeightsError: transformers is not installed, the folder is damaged, or its network is of another kind.
    """
    complete_folder(folder)
    stat = (Path(folder) / "config.json").stat()
    return _describe(modality, folder, name, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _describe(modality: Modality, folder: str, name: str, size: int, mtime_ns: int) -> Encoder:
    whole = read_settings(folder)
    config = getattr(whole, "vision_config", whole) if modality == "appearance" else whole
    kind = whole.model_type
    try:
        found = _told(modality, folder, whole, config) or _measured(modality, folder, whole, config)
    except NoEncoder as error:
        raise WeightsError(
            f"{folder} holds a network of the kind {kind}, which is not an encoder of {modality}: {error}; "
            "choose another one, or write a load function for it"
        ) from None
    if not (Path(folder) / INPUT_SETTINGS).is_file() and parent_process() is None:  # not in every worker
        _log_usual_input(modality, folder, config)
    return Encoder(
        f"transformers/{kind}",
        modality,
        source=f"https://huggingface.co/{name}" if name else "",
        input="16 kHz audio" if modality == "speech" else "RGB crop",
        **found,
        **KNOWN.get(name, {}),
    )


def _told(modality: Modality, folder: str, whole: Any, config: Any) -> dict[str, Any]:
    """Return the fields of a network whose settings tell its rows or tokens; empty for another one.

    Raises:
        NoEncoder: the network does not give what its settings tell.
    """
    if why := OTHER_KINDS.get(config.model_type):
        raise NoEncoder(why)
    width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None)
    count = getattr(config, "encoder_layers", None) or getattr(config, "num_hidden_layers", None)
    if not width or not count or not _reads(modality, config):
        return {}
    found = {
        "load": f"deiii.pipeline.encoders.transformers_{modality}:load",
        "width": int(width),
        "layers": tuple(range(int(count) + 1)),
        "tokens": modality == "appearance",
    }
    if modality == "speech":
        rows = _rows(config)
        if config.model_type not in SPEECH_KINDS:
            _refuse_other_rows(folder, whole, rows, int(width))
        return found | rows
    if config.model_type == "vit_mae":
        return found | {"version": 2}  # 1 gave the last layer, of networks whose settings hide nothing
    if (whole_image := IMAGE_KINDS.get(config.model_type)) is None:
        shapes = token_shapes(folder, whole)
        if shapes is None:
            return {}
        whole_image = shapes.whole
        found |= {"layers": tuple(range(shapes.layers)), "batched": shapes.several}
    return found | {"whole": whole_image}


def _refuse_other_rows(folder: str, whole: Any, rows: dict[str, Any], width: int) -> None:
    """Raise NoEncoder if a network of speech gives other rows than its settings tell."""
    if is_whisper(whole):
        count = whole.max_source_positions
        refuse_told_speech(folder, whole, (1, whole.num_mel_bins, 2 * count), count, width)
    else:
        count = (SAMPLE_RATE - rows["shortest"]) // rows["hop"] + 1
        refuse_told_speech(folder, whole, (1, SAMPLE_RATE), count, width)


def _measured(modality: Modality, folder: str, whole: Any, config: Any) -> dict[str, Any]:
    """Return the fields of a network from the shapes that it returns without weights. Raises NoEncoder."""
    if modality == "speech":
        speech = speech_shapes(folder, whole)
        return {
            "load": "deiii.pipeline.encoders.transformers_speech:load_measured",
            "width": speech.width,
            "layers": tuple(range(speech.layers)),
            "hop": speech.hop,
            "first": speech.first,
            "shortest": max(1, speech.reach),
            # 1 dated the rows to half of the samples that the first one needs.
            "version": 2 if speech.first != speech.reach // 2 else 1,
        }
    for name, why in NOT_OF_CROPS.items():
        if hasattr(config, name):
            raise NoEncoder(why)
    images = image_shapes(folder, whole)
    return {
        "load": "deiii.pipeline.encoders.transformers_appearance:load_last",
        "width": images.width,
        "layers": (1,),
        "tokens": images.cells,
    }


def _log_usual_input(modality: Modality, folder: str, config: Any) -> None:
    """Warn that a folder does not state its network's input, which may then be another one than in training.

    The Hub's client keeps such folders where only ``AutoModel`` was loaded, and processors of several inputs
    save their settings in ``processor_config.json``, which is not read.
    """
    if modality == "appearance":
        usual, preparer = "with the mean and deviation of ImageNet", IMAGES
    else:
        usual = "as Whisper's log-mel" if is_whisper(config) else "with mean 0 and variance 1 in each window"
        preparer = AUDIO
    _log.warning(
        "%s has no %s, so its input is prepared %s; if it was trained on another input, write that file: "
        "%s.from_pretrained(ITS_NAME).save_pretrained(%r) of transformers",
        folder,
        INPUT_SETTINGS,
        usual,
        preparer,
        folder,
    )


def read_settings(folder: str) -> Any:
    """Return the settings of a network as an object of transformers. Raises WeightsError."""
    try:
        from transformers import AutoConfig
    except ImportError:
        raise WeightsError(
            f"{folder} holds a network of transformers, which is not installed: {install_command('encoders')}"
        ) from None
    own_code = False
    try:
        settings = json.loads((Path(folder) / "config.json").read_bytes())
        own_code = "auto_map" in settings
        _refuse_kernels(folder, settings)
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if own_code:
            raise WeightsError(
                f"{folder}: networks that bring code of their own (auto_map of config.json) are not loaded: "
                "choose a network that is part of transformers, export this one to an ONNX file, or write a "
                "load function for it"
            ) from None
        raise WeightsError(
            f"{folder}/config.json cannot be used ({str(error).splitlines()[0]:.200}); networks that bring "
            "code of their own are not loaded"
        ) from None


def _refuse_kernels(folder: str, settings: Any, named: bool = False) -> None:
    """Raise WeightsError for settings that name an implementation of a layer outside transformers.

    With the package kernels, transformers downloads such an implementation from the Hub and runs it.
    """
    if isinstance(settings, dict):
        for name, value in settings.items():
            _refuse_kernels(folder, value, named or name.endswith("_implementation"))
    elif named and isinstance(settings, str) and settings not in OWN_CODE:
        raise WeightsError(
            f"{folder}/config.json asks for {settings!r}, which may be code of the Hub; code that is not "
            "part of transformers is not loaded: remove this entry"
        )


def is_whisper(config: Any) -> bool:
    """Return whether the settings of a speech encoder are those of Whisper, which reads log-mel.

    Other encoders read samples, with convolutions. wav2vec 2.0 Conformer also has ``max_source_positions``.
    """
    return not hasattr(config, "conv_stride")


def _reads(modality: Modality, config: Any) -> bool:
    """Return whether a network's settings are those of an encoder of audio, or of images."""
    if modality == "speech":
        if not is_whisper(config):
            return not config.is_encoder_decoder  # SpeechT5 has a network of its own before its encoder
        return hasattr(config, "max_source_positions") and hasattr(config, "num_mel_bins")
    # Swin's layers differ in width.
    other = any(hasattr(config, name) for name in ("depths", *NOT_OF_CROPS))
    return hasattr(config, "image_size") and hasattr(config, "patch_size") and not other


def _rows(config: Any) -> dict[str, Any]:
    """Return the distance and place of the rows of speech, from the convolutions that make them."""
    if is_whisper(config):
        longest = config.max_source_positions * WHISPER_HOP
        window = min(10.0, longest / SAMPLE_RATE)
        rows = {"hop": WHISPER_HOP, "first": 0, "shortest": WHISPER_HOP, "window": window, "step": window / 2}
        return rows | {"longest": longest / SAMPLE_RATE}
    hop = math.prod(config.conv_stride)
    reach = 1
    between = 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        reach += (kernel - 1) * between
        between *= stride
    joined = getattr(config, "squeeze_factor", 1)  # SEW averages neighbouring rows before its layers
    reach += (joined - 1) * hop
    return {"hop": hop * joined, "first": reach // 2, "shortest": reach}
