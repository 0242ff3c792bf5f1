"""Times of the rows of speech networks: they follow impulses at known times, in every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

from deiii.data.config.load import load_config
from deiii.pipeline.encoders.load import Loaded, load_encoder

t = pytest.importorskip("transformers", reason="needs the extra: pip install 'deiii[encoders]'")

SIZES: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64,
}  # fmt: skip
POSITIONS = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 1}
CONVS: dict[str, Any] = SIZES | POSITIONS | {"conv_dim": (32,) * 7}
SQUEEZED: dict[str, Any] = SIZES | POSITIONS | {"conv_dim": (32,) * 13, "squeeze_factor": 2}
CONFORMER: dict[str, Any] = SIZES | {"subsampling_conv_channels": 16, "conv_kernel_size": 9}
WORDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
HALVES: dict[str, Any] = {
    f"{part}_{name}": number
    for part in ("encoder", "decoder")
    for name, number in (("layers", 1), ("attention_heads", 4), ("ffn_dim", 64))
} | {"d_model": 64, "vocab_size": 50, **WORDS}
SHORT = {"feature_size": 128, "chunk_length": 4}


def _moonshine() -> Any:
    sizes = {"hidden_size": 64, "intermediate_size": 64, "vocab_size": 50}
    layers = {f"{part}_num_hidden_layers": 1 for part in ("encoder", "decoder")}
    heads = {f"{part}_num_attention_heads": 4 for part in ("encoder", "decoder")}
    return t.MoonshineConfig(**sizes, **layers, **heads, **WORDS)


def _gemma() -> Any:
    sizes = {name: number for name, number in SIZES.items() if name != "intermediate_size"}
    return t.Gemma4AudioConfig(**sizes, output_proj_dims=64)


# Class, settings and what prepares the input. Those whose class is not in every release of transformers that
# the project supports are left out where it is missing.
FAMILIES: dict[str, tuple[str, Callable[[], Any], Callable[[], Any]]] = {
    "wav2vec2": ("Wav2Vec2Model", lambda: t.Wav2Vec2Config(**CONVS), lambda: t.Wav2Vec2FeatureExtractor()),
    "wav2vec2, normalised by layer": (
        "Wav2Vec2Model", lambda: t.Wav2Vec2Config(**CONVS, feat_extract_norm="layer"),
        lambda: t.Wav2Vec2FeatureExtractor(),
    ),
    "conformer": (
        "Wav2Vec2ConformerModel", lambda: t.Wav2Vec2ConformerConfig(**CONVS),
        lambda: t.Wav2Vec2FeatureExtractor(),
    ),
    "hubert": ("HubertModel", lambda: t.HubertConfig(**CONVS), lambda: t.Wav2Vec2FeatureExtractor()),
    "wavlm": ("WavLMModel", lambda: t.WavLMConfig(**CONVS), lambda: t.Wav2Vec2FeatureExtractor()),
    "unispeech": ("UniSpeechModel", lambda: t.UniSpeechConfig(**CONVS), lambda: t.Wav2Vec2FeatureExtractor()),
    "unispeech-sat": (
        "UniSpeechSatModel", lambda: t.UniSpeechSatConfig(**CONVS), lambda: t.Wav2Vec2FeatureExtractor(),
    ),
    "data2vec": (
        "Data2VecAudioModel", lambda: t.Data2VecAudioConfig(**CONVS), lambda: t.Wav2Vec2FeatureExtractor(),
    ),
    "sew": ("SEWModel", lambda: t.SEWConfig(**SQUEEZED), lambda: t.Wav2Vec2FeatureExtractor()),
    "sew-d": ("SEWDModel", lambda: t.SEWDConfig(**SQUEEZED), lambda: t.Wav2Vec2FeatureExtractor()),
    "whisper": (
        "WhisperModel", lambda: t.WhisperConfig(**HALVES, max_source_positions=200),
        lambda: t.WhisperFeatureExtractor(chunk_length=4),
    ),
    "voxtral": (
        "VoxtralEncoder", lambda: t.VoxtralEncoderConfig(**SIZES, max_source_positions=200),
        lambda: t.WhisperFeatureExtractor(**SHORT),
    ),
    "voxtral realtime": (
        "VoxtralRealtimeEncoder", lambda: t.VoxtralRealtimeEncoderConfig(**SIZES, head_dim=16),
        lambda: t.VoxtralRealtimeFeatureExtractor(),
    ),
    "moonshine": ("MoonshineModel", _moonshine, lambda: t.Wav2Vec2FeatureExtractor(do_normalize=False)),
    "wav2vec2-bert": (
        "Wav2Vec2BertModel",
        lambda: t.Wav2Vec2BertConfig(**SIZES, feature_projection_input_dim=160, conv_depthwise_kernel_size=5),
        lambda: t.SeamlessM4TFeatureExtractor(),
    ),
    "parakeet": (
        "ParakeetEncoder", lambda: t.ParakeetEncoderConfig(**CONFORMER, num_mel_bins=80),
        lambda: t.ParakeetFeatureExtractor(feature_size=80),
    ),
    "nemotron": (
        "NemotronAsrStreamingEncoder", lambda: t.NemotronAsrStreamingEncoderConfig(**CONFORMER),
        lambda: t.NemotronAsrStreamingFeatureExtractor(feature_size=80),
    ),
    "lasr": (
        "LasrEncoder", lambda: t.LasrEncoderConfig(**CONFORMER),
        lambda: t.LasrFeatureExtractor(),
    ),
    "speech to text": (
        "Speech2TextModel", lambda: t.Speech2TextConfig(**HALVES, conv_channels=32),
        lambda: t.Speech2TextFeatureExtractor(normalize_vars=False),
    ),
    "gemma 4": ("Gemma4AudioModel", _gemma, lambda: t.Gemma4AudioFeatureExtractor()),
}  # fmt: skip
THERE = [family for family, (kind, _, _) in FAMILIES.items() if hasattr(t, kind)]


@torch.no_grad()
def made_symmetric(network: torch.nn.Module) -> torch.nn.Module:
    """Give each convolution one value over time, so that a row's answer has its centre in what it reads.

    Positional convolutions are set to 0: they mix rows, as attention does.
    """
    for name, part in network.named_modules():
        if not isinstance(part, (torch.nn.Conv1d, torch.nn.Conv2d)):
            continue
        if "pos_conv" in name:
            for parameter in part.parameters():  # also the lengths of normalised weights
                if not parametrize.is_parametrized(part) or parameter.shape != part.weight.shape:
                    parameter.zero_()
        else:  # the third axis is the time, in both kinds
            part.weight.copy_(part.weight.mean(dim=2, keepdim=True).expand_as(part.weight))
    return network


def encoder_of(tmp_path, family: str) -> Loaded:
    kind, settings, extractor = FAMILIES[family]
    torch.manual_seed(3)
    made_symmetric(getattr(t, kind)(settings())).save_pretrained(tmp_path)
    extractor().save_pretrained(tmp_path)
    words = ["stages=[speech]", f"speech.encoder={tmp_path}", "speech.rate=0", "speech.layers=[0]"]
    return load_encoder(load_config(overrides=words).speech)


def centres(network: Callable[[np.ndarray], np.ndarray], hop: int, rows: range) -> np.ndarray:
    """Return the samples to which rows answer: the centre of those where an impulse changes the row."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=40_000).astype(np.float32)
    places = np.arange((rows.start - 3) * hop, (rows.stop + 3) * hop, hop // 16)
    shifted = np.repeat(noise[None], len(places), axis=0)
    shifted[np.arange(len(places)), places] += 0.3
    silent = network(noise[None])[0, rows.start : rows.stop, 0]
    parts = np.array_split(shifted, -(-len(shifted) // 16))
    answers = np.concatenate([network(part)[:, rows.start : rows.stop, 0] for part in parts])
    energy = np.square(answers - silent).sum(axis=2)
    energy[energy < 0.02 * energy.max(axis=0)] = 0  # normalisation over the whole window
    return (places[:, None] * energy).sum(axis=0) / energy.sum(axis=0)


@pytest.mark.parametrize("family", THERE)
def test_rows_are_dated_to_the_samples_that_they_read(tmp_path, family):
    loaded = encoder_of(tmp_path, family)
    record = loaded.choice.encoder
    middle = 20_000 // record.hop
    rows = range(middle - 2, middle + 3)
    dated = record.first + np.array(rows) * record.hop
    off = (centres(loaded.network, record.hop, rows) - dated) / record.hop
    # Single rows vary with the noise around the impulse; a wrong time shifts all of them equally.
    assert abs(off.mean()) < 0.1, off
