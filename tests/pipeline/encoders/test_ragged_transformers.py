"""Networks of transformers on windows of unequal lengths in a call, against each window alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deiii.data.config.load import load_config
from deiii.pipeline.encoders.load import load_encoder
from tests.helpers.own_settings import own_settings
from tests.pipeline.encoders.test_transformers import CONVS, SIZES, network

transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'deiii[encoders]'")

LENGTHS = (16_000, 7_531, 24_000, 700, 15_999, 24_001)
RNG = np.random.default_rng(3)
# Loud and quiet ones, so that a common mean or deviation would be seen.
WINDOWS = [RNG.normal(0.1 * i, 0.02 * 3**i, n).astype(np.float32) for i, n in enumerate(LENGTHS)]


def saved(folder, kind: str, **more):
    """Write a random network; returns it and its words of configuration."""
    torch.manual_seed(1)
    if kind == "Whisper":
        model, extractor = network(kind)
    else:
        config = getattr(transformers, f"{kind}Config")(**{**SIZES, **CONVS, **more})
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
        model = getattr(transformers, f"{kind}Model")(config).eval()
    for parameter in model.parameters():  # biases are zero at first, which would hide what padding adds
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.5)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    section = load_config(overrides=["stages=[speech]", f"speech.encoder={folder}", "speech.rate=0"]).speech
    return model, extractor, load_encoder(section).network


@torch.no_grad()
def alone(model, extractor, window):
    inputs = next(iter(extractor([window], sampling_rate=16000, return_tensors="pt").values()))
    return torch.stack(model(inputs, output_hidden_states=True).hidden_states, dim=2)[0].numpy()


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("kind", ["WavLM", "Hubert", "Wav2Vec2", "UniSpeech", "UniSpeechSat"])
def test_networks_with_layer_normalised_convolutions(tmp_path, kind, stable):
    model, extractor, network = saved(
        tmp_path, kind, feat_extract_norm="layer", do_stable_layer_norm=stable, conv_bias=True
    )
    found = network.ragged(WINDOWS)
    for window, rows in zip(WINDOWS, found, strict=True):
        expected = alone(model, extractor, window)
        assert rows.shape == expected.shape
        assert np.abs(rows - expected).max() < 1e-4 * np.abs(expected).max()
    with own_settings():
        for rows, same in zip(network.ragged(WINDOWS), found, strict=True):
            np.testing.assert_array_equal(rows, same)


def test_whisper_pads_each_window_by_itself(tmp_path):
    model, extractor, network = saved(tmp_path, "Whisper")
    for window, rows in zip(WINDOWS, network.ragged(WINDOWS), strict=True):
        expected = alone(model.get_encoder(), extractor, window)[: -(-len(window) // 320)]
        assert rows.shape == expected.shape
        np.testing.assert_allclose(rows, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("WavLM", {}),
        ("Hubert", {}),
        ("Hubert", {"feat_extract_norm": "layer", "conv_pos_batch_norm": True}),
        ("SEW", {"feat_extract_norm": "layer", "squeeze_factor": 2}),
        ("Wav2Vec2Conformer", {"feat_extract_norm": "layer"}),
        ("Data2VecAudio", {"conv_pos_kernel_size": 9, "num_conv_pos_embeddings": 3}),
    ],
)
def test_networks_that_would_see_the_padding_get_windows_of_one_length(tmp_path, kind, more):
    """With the mask, padding does change their rows, or adds some."""
    model, extractor, network = saved(tmp_path, kind, **more)
    assert network.ragged is None
    windows = WINDOWS[:3]
    found, worst = network._encode_masked(windows), 0.0
    for window, rows in zip(windows, found, strict=True):
        expected = alone(model, extractor, window)
        other_rows = rows.shape != expected.shape
        worst = max(worst, 1.0 if other_rows else np.abs(rows - expected).max() / np.abs(expected).max())
    assert worst > 1e-3
