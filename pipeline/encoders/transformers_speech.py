"""Speech encoders of transformers: wav2vec 2.0, HuBERT, WavLM and others on samples, and Whisper's encoder.

Other networks whose layers are rows over time are encoders, too, such as Moonshine and wav2vec2-BERT.

Sources: Baevski et al. 2020 (arXiv 2006.11477), Hsu et al. 2021 (2106.07447), Chen et al. 2022 (2110.13900),
Radford et al. 2022 (2212.04356).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from deiii.data.encoders.record import SAMPLE_RATE, Request
from deiii.data.encoders.transformers_folder import WHISPER_HOP, describe_folder, is_whisper
from deiii.data.encoders.transformers_input import AUDIO, INPUT_SETTINGS, load_preparer
from deiii.data.encoders.transformers_shapes import encoder_of, prepared
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.torch_network import exact, load_pretrained, placed, to_device, to_host, tried

# Networks of samples whose layers read no row beyond the attention mask, if each frame of the convolutions is
# normalised for itself. Those of Conformer, SEW and data2vec have further convolutions after the mask.
MASKED = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")


class SpeechNetwork:
    """Encodes audio with a network of transformers, from samples or Whisper's log-mel; see `load`."""

    def __init__(self, network: Any, extractor: Any, request: Request, padded: int):
        self._network = network
        self._extractor = extractor
        self._layers = request.layers
        self._padded = padded  # samples to which windows are padded; 0 for none
        # The extractor of Whisper pads each window by itself.
        self.ragged = (
            self._encode_padded if padded else self._encode_masked if _masks(network.config) else None
        )

    @usual_defaults()
    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Encode windows float32 [B,n] as hidden states float32 [B,R,L,D]."""
        rows = _rows_of_whisper(windows.shape[1]) if self._padded else None
        return self._encode(self._prepared(list(windows)), rows)

    @usual_defaults()
    @torch.inference_mode()
    def _encode_padded(self, windows: list[np.ndarray]) -> list[np.ndarray]:
        """Encode windows float32 [n_i] with Whisper as float32 [R_i,L,D]."""
        counts = [_rows_of_whisper(len(window)) for window in windows]
        states = self._encode(self._prepared(windows), max(counts))
        return [rows[:count] for rows, count in zip(states, counts, strict=True)]

    @usual_defaults()
    @torch.inference_mode()
    def _encode_masked(self, windows: list[np.ndarray]) -> list[np.ndarray]:
        """Encode windows float32 [n_i] with a network that hides their padding as float32 [R_i,L,D]."""
        prepared = [self._prepared([window])[0] for window in windows]
        lengths = torch.tensor([len(values) for values in prepared])
        values = torch.nn.utils.rnn.pad_sequence(prepared, batch_first=True)
        mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
        with warnings.catch_warnings():  # WavLM gives torch its mask and its positions in two types
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)
            states = self._encode(values, mask=mask)
        counts = self._network._get_feat_extract_output_lengths(lengths).tolist()
        return [rows[:count] for rows, count in zip(states, counts, strict=True)]

    def _prepared(self, windows: list[np.ndarray]) -> torch.Tensor:
        """Return the input of the network for windows of one length, or of any lengths for Whisper."""
        how: dict[str, Any] = {"sampling_rate": SAMPLE_RATE, "return_tensors": "pt"}
        if self._padded:
            how |= {"padding": "max_length", "max_length": self._padded, "truncation": True}
        return next(iter(self._extractor(windows, **how).values()))

    def _encode(
        self, inputs: torch.Tensor, rows: int | None = None, mask: torch.Tensor | None = None
    ) -> np.ndarray:
        """Return the first rows of the chosen hidden states float32 [B,R,L,D].

        ``mask`` int64 [B,n] is 0 for padding.
        """
        device = self._network.device
        values = to_device(inputs, device, self._network.dtype)
        more = {} if mask is None else {"attention_mask": mask.to(device)}
        with exact(device):
            states = self._network(values, output_hidden_states=True, **more).hidden_states
        return to_host(torch.stack([states[layer][:, :rows] for layer in self._layers], dim=2))


class MeasuredNetwork:
    """Encodes audio with any network of transformers whose layers are rows over time; see `load_measured`."""

    def __init__(self, network: Any, extractor: Any, layers: Sequence[int]):
        self._network = network
        self._extractor = extractor
        self._layers = layers

    @usual_defaults()
    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Encode windows float32 [B,n] as hidden states float32 [B,R,L,D]."""
        device, dtype = self._network.device, self._network.dtype
        inputs = {
            name: to_device(values, device, dtype if values.is_floating_point() else values.dtype)
            for name, values in prepared(self._extractor, list(windows), self._network).items()
        }
        with exact(device):
            states = self._network(**inputs, output_hidden_states=True).hidden_states
        return to_host(torch.stack([states[layer] for layer in self._layers], dim=2))


def _rows_of_whisper(n: int) -> int:
    """Return how many states belong to n samples; the others are those of padding."""
    return -(-n // WHISPER_HOP)


def _masks(config: Any) -> bool:
    """Return whether a network gives a padded window with its mask the rows that the window has alone."""
    return (
        config.model_type in MASKED
        and config.feat_extract_norm == "layer"
        and not getattr(config, "conv_pos_batch_norm", False)  # shifts the zeros of the padding
    )


def load(request: Request) -> SpeechNetwork:
    """Return a speech encoder from a folder of transformers. Raises WeightsError."""
    # Whisper's decoder is not used, and networks that classify audio have none.
    network = load_pretrained(request, needless=("decoder.",))
    config = network.config
    whisper = is_whisper(config)
    if whisper:
        network = network.get_encoder()
    extractor = _extractor(request.path, config)
    padded = config.max_source_positions * WHISPER_HOP if whisper else 0
    encoder = SpeechNetwork(placed(network, request), extractor, request, padded)
    if config.model_type != "whisper":  # known to run, and it always computes a whole window
        # A whole window, because layers that lack rows at its end are seen there alone.
        samples = padded or SAMPLE_RATE
        with tried(request.path, f"{samples / SAMPLE_RATE:g} s of silence"):
            encoder(np.zeros((1, samples), np.float32))
    return encoder


def load_measured(request: Request) -> MeasuredNetwork:
    """Return a speech encoder whose rows were measured, from a folder. Raises WeightsError."""
    record = describe_folder("speech", request.path)
    network = encoder_of(load_pretrained(request, needless=("decoder.",)))
    extractor = load_preparer(request.path, AUDIO)
    encoder = MeasuredNetwork(placed(network, request), extractor, request.layers)
    samples = round(record.window * SAMPLE_RATE)
    given = f"{record.window:g} s of silence"
    with tried(request.path, given):
        found = encoder(np.zeros((1, samples), np.float32)).shape[1]
    expected = (samples - record.shortest) // record.hop + 1
    if abs(found - expected) > 1:  # the padding of the ends may give a row more
        raise WeightsError(
            f"{request.path} holds a network that gives {found} rows for {given} in place of {expected}, so "
            "that their times are unknown; write a load function for it"
        )
    return encoder


def _extractor(folder: str, config: Any) -> Any:
    """Return the feature extractor of the folder, or else the usual one of this kind of network."""
    from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    if os.path.isfile(os.path.join(folder, INPUT_SETTINGS)):
        found = load_preparer(folder, AUDIO)
        if is_whisper(config) and found.feature_size != config.num_mel_bins:
            raise WeightsError(
                f"{folder}: preprocessor_config.json gives {found.feature_size} mel bands, and the network "
                f"reads {config.num_mel_bins}: the files belong to different networks"
            )
        return found
    if is_whisper(config):
        return WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    return Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=True)
