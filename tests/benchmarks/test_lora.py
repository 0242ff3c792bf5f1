"""The encoder of `benchmarks.lora`: its weights, its input, padding, and what LoRA trains."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from benchmarks import lora_encoder
from benchmarks.lora import compare, summary
from benchmarks.lora_encoder import (
    LOGMEL,
    WhisperInput,
    WhisperLogMel,
    dequantised,
    layer_states,
    whisper_encoder,
    with_lora,
)
from deiii.data.config.schema import ModelConfig
from deiii.data.encoders.onnx_session import open_session
from deiii.data.loader.augmentation.audio import DB_CENTRE, DB_SCALE
from deiii.data.tools.weights import SMART_TURN
from deiii.pipeline.encoders.whisper_mel import whisper_mel
from deiii.pipeline.logmel.stage import log_mel

WINDOW = 40


@pytest.fixture
def tiny():
    """A Whisper encoder of two layers with random weights, for a window of 40 hops."""
    transformers = pytest.importorskip("transformers", reason="pip install 'deiii[encoders]'")
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(0)
    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}
    config = transformers.WhisperConfig(
        num_mel_bins=80, max_source_positions=WINDOW // 2, dropout=0.0, **sizes
    )
    return WhisperEncoder(config).eval()


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_integers_become_what_dequantize_linear_of_onnxruntime_makes_of_them(axis):
    onnx = pytest.importorskip("onnx", reason="pip install 'deiii[onnx]'")
    rng = np.random.default_rng(0)
    places = () if axis is None else ((3, 5)[axis],)
    values = rng.integers(-128, 128, (3, 5)).astype(np.int8)
    scale = rng.uniform(0.01, 2, places).astype(np.float32)
    zero = rng.integers(-9, 9, places).astype(np.int8)
    own = {"values": values, "scale": scale, "zero": zero}
    held = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in own.items()]
    words = {} if axis is None else {"axis": axis}
    node = onnx.helper.make_node("DequantizeLinear", list(own), ["found"], **words)
    output = onnx.helper.make_tensor_value_info("found", onnx.TensorProto.FLOAT, [3, 5])
    graph = onnx.helper.make_graph([node], "one", [], [output], held)
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    (expected,) = open_session(model.SerializeToString(), 1).run(None, {})
    np.testing.assert_array_equal(dequantised(values, scale, zero, 1 if axis is None else axis), expected)


def voice(seconds: float) -> np.ndarray:
    """Return a gliding tone with overtones that comes and goes, and noise, float32 [n] at 16 kHz."""
    time = np.arange(round(16000 * seconds)) / 16000
    phase = 2 * np.pi * np.cumsum(150 + 60 * np.sin(3 * time)) / 16000
    tone = sum(np.sin(k * phase) / k for k in range(1, 20)) * (0.2 + np.sin(5 * time) ** 2)
    noise = np.random.default_rng(0).normal(size=len(time))
    return (0.05 * tone + 0.002 * noise).astype(np.float32)


@pytest.mark.parametrize("level", [0.02, 1.0])
def test_the_input_is_whispers_mel_of_the_audio_at_the_end_of_the_window(level):
    samples = level * voice(1.5)
    window = np.zeros(2 * 16000, np.float32)
    window[-len(samples) :] = samples / samples.std()
    expected = whisper_mel(window)  # [80,200]
    db = torch.from_numpy(log_mel(samples, LOGMEL))[None, :150]
    found, first = WhisperInput(200)(db, torch.ones(1, 150, dtype=torch.bool))
    assert first.tolist() == [50] and found.shape == (1, 80, 200)
    # Where sound and silence meet, Whisper's windows reach into both.
    gap = np.abs(found[0].numpy() - expected)
    assert gap[:, :48].max() < 0.02  # the floor, 8 decades below the largest value
    assert gap[:, 53:198].mean() < 0.02 < 0.3 < expected[:, 53:198].std()


def batch(lengths: list[int], hops: int, fill: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-mel in the loader's units, [B,L,80], with its mask; masked places hold one number."""
    x = torch.full((len(lengths), hops, 80), fill)
    mask = torch.zeros(len(lengths), hops, dtype=torch.bool)
    for row, length in enumerate(lengths):
        own = torch.randn(length, 80, generator=torch.Generator().manual_seed(length))
        x[row, :length], mask[row, :length] = own, True
    return x, mask


def test_neither_padding_nor_the_other_clips_change_a_clip(tiny):
    encoder = WhisperLogMel(tiny, 16, WINDOW).eval()
    lengths = [1, 6, 13, 26, 39, 40]
    x, mask = batch(lengths, 40, fill=5.0)
    found = encoder(x, mask)
    assert found.shape == (6, 10, 16)
    for row, length in enumerate(lengths):
        steps = -(-length // 4)
        alone = encoder(*batch([length], length, fill=0.0))
        assert alone.shape == (1, steps, 16)
        torch.testing.assert_close(found[row, :steps], alone[0], rtol=1e-5, atol=1e-5)
    nothing = encoder(*batch([0, 6], 8, fill=3.0))
    assert nothing.isfinite().all()
    torch.testing.assert_close(nothing[1, :2], found[1, :2], rtol=1e-5, atol=1e-5)


def test_a_token_is_the_mean_of_the_states_of_its_four_hops(tiny):
    encoder = WhisperLogMel(tiny, 16, WINDOW).eval()
    x, mask = batch([24], 24, fill=0.0)
    states, _ = encoder.states(x, mask)
    mel, first = encoder.input(x * DB_SCALE + DB_CENTRE, mask)
    whole = layer_states(tiny, mel)  # [1,20,2,32]; the clip's first hop is hop 16, position 8
    assert first.tolist() == [16] and states.shape == (1, 6, 2, 32)
    torch.testing.assert_close(states, whole[:, 8:].unflatten(1, (6, 2)).mean(2))
    last = tiny(mel).last_hidden_state  # what transformers itself returns
    torch.testing.assert_close(whole[:, :, 1], last)


def test_clips_that_are_longer_than_the_window_are_refused(tiny):
    with pytest.raises(ValueError, match="loader.eval_audio_steps to 40 or less"):
        WhisperLogMel(tiny, 16, WINDOW)(*batch([41], 41, fill=0.0))


def test_lora_trains_its_matrices_alone_and_begins_with_the_states_of_the_frozen_encoder(tiny):
    pytest.importorskip("peft", reason="pip install peft")
    x, mask = batch([24, 40], 40, fill=0.0)
    frozen, _ = WhisperLogMel(tiny.requires_grad_(False), 16, WINDOW).states(x, mask)
    encoder = WhisperLogMel(with_lora(tiny), 16, WINDOW, trained=True)
    states, _ = encoder.states(x, mask)
    torch.testing.assert_close(states, frozen)
    states.square().sum().backward()
    trained = {name for name, p in encoder.encoder.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 4 * 2 and all("lora_" in name for name in trained)
    changed = {name for name, p in encoder.encoder.named_parameters() if p.grad is not None}
    assert changed == trained


def test_what_both_variants_have_begins_equal(tiny, monkeypatch):
    """Random numbers are drawn for the matrices of LoRA, and must not change those of the other parts."""
    pytest.importorskip("peft", reason="pip install peft")
    monkeypatch.setattr(lora_encoder, "resolve", lambda *_: ("", ""))
    monkeypatch.setattr(lora_encoder, "whisper_encoder", lambda *_: deepcopy(tiny))
    made, following = [], []
    for variant in (lora_encoder.frozen, lora_encoder.lora):
        torch.manual_seed(7)
        made.append(variant((80,), ModelConfig(width=16)))
        following.append(torch.rand(4))
    torch.testing.assert_close(following[0], following[1], rtol=0, atol=0)
    for name, value in made[0].rows.state_dict().items():
        torch.testing.assert_close(value, made[1].rows.state_dict()[name], rtol=0, atol=0)
    trained = [sum(p.requires_grad for p in own.encoder.parameters()) for own in made]
    assert trained == [0, 2 * 4 * 2]
    with pytest.raises(ValueError, match="set logmel.n_mels to that"):
        lora_encoder.frozen((40,), ModelConfig(width=16))


def test_the_weights_give_the_states_of_the_onnx_file_without_its_rounding(test_data):
    pytest.importorskip("transformers", reason="pip install 'deiii[encoders]'")
    pytest.importorskip("onnx", reason="pip install 'deiii[onnx]'")
    from benchmarks.lora_check import in_window, without_rounding

    path = str(test_data / "weights" / SMART_TURN)
    mel = whisper_mel(in_window(voice(2.0)))[None]
    with torch.no_grad():
        found = layer_states(whisper_encoder(path, 800).eval(), torch.from_numpy(mel)).numpy()
    for layer, expected in enumerate(without_rounding(path).run(None, {"input_features": mel})):
        # Sums of products with factors up to 300 are rounded differently; another matrix changes much more.
        assert np.linalg.norm(found[:, :, layer] - expected) < 1e-4 * np.linalg.norm(expected)


def runs() -> list[dict]:
    """Return the runs of two variants in two folds with two speakers each; all clips are of two classes."""
    rng = np.random.default_rng(1)
    made = []
    for variant in ("frozen", "lora"):
        for fold in (1, 2):
            labels = np.tile([0, 1], 20)
            wrong = rng.random(40) < (0.4 if variant == "frozen" else 0.2)
            speakers = np.repeat([f"{fold}a", f"{fold}b"], 20).tolist()
            own = {"labels": labels.tolist(), "predicted": np.where(wrong, 1 - labels, labels).tolist()}
            uar = float(1 - wrong.mean())  # both classes have the same number of clips
            made.append(
                {"variant": variant, "fold": fold, "seed": 0, "speakers": speakers, "uar": uar, **own}
            )
    return made


def test_variants_are_compared_clip_by_clip_over_speakers():
    made = runs()
    found = compare(made, "lora", "frozen")
    right: dict[str, dict[str, list[bool]]] = {"frozen": {}, "lora": {}}
    for run in made:
        for speaker, label, guess in zip(run["speakers"], run["labels"], run["predicted"], strict=True):
            right[run["variant"]].setdefault(speaker, []).append(label == guess)
    # With equal numbers of clips, the pseudo-values of the jackknife are the differences of the speakers if
    # classes are balanced too: then the UAR is the share of right clips.
    gaps = [np.mean(right["lora"][name]) - np.mean(right["frozen"][name]) for name in right["lora"]]
    expected = ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert found["uar"] == pytest.approx(np.mean(gaps), abs=1e-4)
    assert found["ci"] == pytest.approx([expected.low, expected.high], abs=1e-4)
    assert found["interval"] == "t interval over speakers"
    means = [np.mean([run["uar"] for run in made if run["variant"] == name]) for name in ("frozen", "lora")]
    assert [row["uar"] for row in summary(made)] == pytest.approx(means, abs=1e-4)
