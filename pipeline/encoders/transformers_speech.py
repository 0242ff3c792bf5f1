"""Speech encoders of transformers: wav2vec 2.0, HuBERT, WavLM and others on samples, and Whisper's encoder.

Sources: Baevski et al. 2020 (arXiv 2006.11477), Hsu et al. 2021 (2106.07447), Chen et al. 2022 (2110.13900),
Radford et al. 2022 (2212.04356).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from deiii.data.encoders.record import SAMPLE_RATE, Request
from deiii.data.encoders.transformers_folder import WHISPER_HOP, is_whisper
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.torch_network import exact, load_pretrained, placed, to_device, to_host, tried


class SpeechNetwork:
    """Encodes audio with a network of transformers, from samples or Whisper's log-mel; see `load`."""

    def __init__(self, network: Any, extractor: Any, request: Request, padded: int):
        self._network = network
        self._extractor = extractor
        self._layers = request.layers
        self._padded = padded  # samples to which windows are padded; 0 for none

    @usual_defaults()
    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Encode windows float32 [B,n] as hidden states float32 [B,R,L,D]."""
        how: dict[str, Any] = {"sampling_rate": SAMPLE_RATE, "return_tensors": "pt"}
        if self._padded:
            how |= {"padding": "max_length", "max_length": self._padded, "truncation": True}
        inputs = self._extractor(list(windows), **how)
        values = to_device(next(iter(inputs.values())), self._network.device, self._network.dtype)
        with exact(self._network.device):
            states = self._network(values, output_hidden_states=True).hidden_states
        rows = -(-windows.shape[1] // WHISPER_HOP) if self._padded else None
        chosen = torch.stack([states[layer][:, :rows] for layer in self._layers], dim=2)
        return to_host(chosen)


def load(request: Request) -> SpeechNetwork:
    """Return a speech encoder from a folder of transformers. Raises WeightsError."""
    # Whisper's decoder is not used, and networks that tell classes of audio have none.
    network = load_pretrained(request, needless=("decoder.",))
    config = network.config
    whisper = is_whisper(config)
    if whisper:
        network = network.get_encoder()
    extractor = _extractor(request.path, config)
    padded = config.max_source_positions * WHISPER_HOP if whisper else 0
    encoder = SpeechNetwork(placed(network, request), extractor, request, padded)
    if not whisper:
        with tried(request.path, "1 s of silence"):
            encoder(np.zeros((1, SAMPLE_RATE), np.float32))
    return encoder


def _extractor(folder: str, config: Any) -> Any:
    """Return the feature extractor of the folder, or else the usual one of this kind of network."""
    from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    if os.path.isfile(os.path.join(folder, "preprocessor_config.json")):
        found = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if found.sampling_rate != SAMPLE_RATE:
            raise WeightsError(
                f"{folder} reads audio of {found.sampling_rate} Hz (preprocessor_config.json); deiii gives "
                f"{SAMPLE_RATE} Hz: choose another encoder"
            )
        if is_whisper(config) and found.feature_size != config.num_mel_bins:
            raise WeightsError(
                f"{folder}: preprocessor_config.json gives {found.feature_size} mel bands, and the network "
                f"reads {config.num_mel_bins}: the files belong to different networks"
            )
        return found
    if is_whisper(config):
        return WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    return Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=True)
