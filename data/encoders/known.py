"""Facts on well-known encoders of the Hugging Face Hub that a paper must state, by their names.

Figures and licences are those of the publications and model cards. ``emotion`` names the emotion corpora in
the training data; the field stays "unknown" for every encoder that is not listed here.
"""

from __future__ import annotations

from typing import Any

_LIBRI = "LibriSpeech, 960 h of read English"
_WAVLM = "94,000 h of English: Libri-Light, GigaSpeech, VoxPopuli"
_WAVLM_LICENCE = "CC BY-SA 3.0 by its model card, MIT by its authors' repository"
_WHISPER = "680,000 h of transcribed speech from the web"
_DINO = "LVD-142M, images from the web"


def _row(parameters: int, licence: str, trained_on: str, emotion: str = "") -> dict[str, Any]:
    return {"parameters": parameters, "licence": licence, "trained_on": trained_on, "emotion": emotion}


KNOWN: dict[str, dict[str, Any]] = {
    "microsoft/wavlm-base": _row(94_700_000, _WAVLM_LICENCE, _LIBRI),
    "microsoft/wavlm-base-plus": _row(94_700_000, _WAVLM_LICENCE, _WAVLM),
    "microsoft/wavlm-large": _row(316_600_000, _WAVLM_LICENCE, _WAVLM),
    "facebook/hubert-base-ls960": _row(94_700_000, "Apache-2.0", _LIBRI),
    "facebook/hubert-large-ll60k": _row(316_600_000, "Apache-2.0", "Libri-Light, 60,000 h of read English"),
    "facebook/wav2vec2-base": _row(95_000_000, "Apache-2.0", _LIBRI),
    "openai/whisper-tiny": _row(39_000_000, "Apache-2.0", _WHISPER),
    "openai/whisper-base": _row(74_000_000, "Apache-2.0", _WHISPER),
    "openai/whisper-small": _row(244_000_000, "Apache-2.0", _WHISPER),
    "facebook/dinov2-small": _row(22_000_000, "Apache-2.0", _DINO),
    "facebook/dinov2-base": _row(86_000_000, "Apache-2.0", _DINO),
    "openai/clip-vit-base-patch32": _row(151_000_000, "MIT", "400 million images with texts from the web"),
    "google/vit-base-patch16-224": _row(86_000_000, "Apache-2.0", "ImageNet-21k, then ImageNet-1k"),
    "superb/wav2vec2-base-superb-er": _row(
        95_000_000, "Apache-2.0", f"{_LIBRI}; tuned on IEMOCAP", "IEMOCAP (labels of emotion)"
    ),
    "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim": _row(
        165_000_000, "CC BY-NC-SA 4.0", "wav2vec2-large-robust, tuned on MSP-Podcast",
        "MSP-Podcast (ratings of emotion)",
    ),
    "trpakov/vit-face-expression": _row(
        86_000_000, "Apache-2.0", "ViT of ImageNet-21k, tuned on FER-2013", "FER-2013 (labels of emotion)"
    ),
}  # fmt: skip
