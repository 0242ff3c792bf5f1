"""Networks of transformers whose rows or maps are measured, against transformers' own output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.chosen import sizes
from deiii.data.encoders.transformers_shapes import SpeechShapes, speech_shapes
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.appearance.stage import encode_crops
from deiii.pipeline.encoders.load import load_encoder
from deiii.pipeline.encoders.transformers_appearance import LastLayer

transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'deiii[encoders]'")
t = transformers

# An odd number of frames of 10 ms, of which wav2vec2-BERT joins two: a mask hides the last half of a row.
SAMPLES = np.random.default_rng(0).normal(scale=0.1, size=47_900).astype(np.float32)
CROPS = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
STAGES = {"hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1]}
HEADS = {"num_attention_heads": [1, 1, 2, 2]}
SPEECH = {
    "Moonshine": lambda: (
        t.MoonshineConfig(
            vocab_size=50, hidden_size=32, intermediate_size=48, encoder_num_hidden_layers=2,
            decoder_num_hidden_layers=1, encoder_num_attention_heads=4, decoder_num_attention_heads=4,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        ),
        t.Wav2Vec2FeatureExtractor(do_normalize=False),
    ),
    "Wav2Vec2Bert": lambda: (
        t.Wav2Vec2BertConfig(**SIZES, feature_projection_input_dim=160, conv_depthwise_kernel_size=5),
        t.SeamlessM4TFeatureExtractor(),
    ),
}  # fmt: skip
HOPS = {"Moonshine": 64 * 3 * 2, "Wav2Vec2Bert": 2 * 160}  # samples: products of strides
# Samples that the first row reads: of convolutions of 127, 7 and 3; and two windows of 400 every 160.
READ = {"Moonshine": 127 + 6 * 64 + 2 * 64 * 3, "Wav2Vec2Bert": 400 + 160}
IMAGES = {
    "ConvNext": lambda: t.ConvNextConfig(**STAGES),
    "ResNet": lambda: t.ResNetConfig(**STAGES, embedding_size=8, layer_type="basic"),
    "Swin": lambda: t.SwinConfig(
        image_size=64, patch_size=4, embed_dim=6, depths=[1, 1, 1], num_heads=[1, 1, 2], window_size=4
    ),
    "MobileNetV2": lambda: t.MobileNetV2Config(image_size=64, depth_multiplier=0.25),
    "PoolFormer": lambda: t.PoolFormerConfig(**STAGES, image_size=64),  # has no pooled output
    "Pvt": lambda: t.PvtConfig(**STAGES, **HEADS, image_size=64),  # has a class token
}


def save(folder: Path, kind: str, settings, prepare=None):
    """Save a random network of a class of transformers, and return it."""
    torch.manual_seed(1)
    model = getattr(t, kind)(settings).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)  # so that another mode than that of inference is seen
    model.save_pretrained(folder)
    if prepare is not None:
        prepare.save_pretrained(folder)
    return model


def load(stage: str, folder: Path, *words: str):
    words = (f"stages=[{stage}]", f"{stage}.encoder={folder}", "speech.rate=0", *words)
    return load_encoder(getattr(load_config(overrides=list(words)), stage))


@torch.no_grad()
@pytest.mark.parametrize("kind", sorted(SPEECH))
def test_layers_of_speech_are_those_of_transformers(tmp_path, kind):
    settings, extractor = SPEECH[kind]()
    model = save(tmp_path, f"{kind}Model", settings, extractor)
    loaded = load("speech", tmp_path)
    encoder, two = loaded.choice.encoder, np.stack([SAMPLES, SAMPLES[::-1]])
    inputs = extractor([SAMPLES], sampling_rate=16000, return_tensors="pt")
    own = model.get_encoder() if kind == "Moonshine" else model
    states = torch.stack(own(**inputs, output_hidden_states=True).hidden_states, dim=2)[0].numpy()
    found = loaded.network(two)
    assert (encoder.width, encoder.layers, loaded.choice.layers) == (32, (0, 1, 2), (0, 1, 2))
    np.testing.assert_allclose(found[0], states, atol=1e-5)
    np.testing.assert_allclose(loaded.network(two[1:])[0], found[1], atol=1e-5)
    some = load("speech", tmp_path, "speech.layers=[2,0]").network(SAMPLES[None])[0]
    np.testing.assert_allclose(some, states[:, [2, 0]], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", sorted(SPEECH))
def test_places_of_rows_are_those_of_the_whole_network(tmp_path, kind):
    """They are measured on a network without weights; here the real one counts rows of many lengths."""
    settings, extractor = SPEECH[kind]()
    model = save(tmp_path, f"{kind}Model", settings, extractor)
    shapes = speech_shapes(str(tmp_path), t.AutoConfig.from_pretrained(tmp_path))
    hop, reach = shapes.hop, shapes.reach
    assert hop == HOPS[kind]
    record = load("speech", tmp_path).choice.encoder
    assert (record.hop, record.first, record.shortest) == (hop, READ[kind] // 2, max(1, reach))
    own = model.get_encoder() if kind == "Moonshine" else model
    for samples in (reach + 9 * hop - 1, reach + 9 * hop, 20_001, 47_900):
        inputs = extractor([SAMPLES[:samples]], sampling_rate=16000, return_tensors="pt")
        assert own(**inputs).last_hidden_state.shape[1] == shapes.rows(samples)


def test_a_rate_that_does_not_fit_measured_rows_names_those_that_do(tmp_path):
    settings, extractor = SPEECH["Moonshine"]()
    save(tmp_path, "MoonshineModel", settings, extractor)
    with pytest.raises(ConfigError, match="gives 41.6667 rows per second.*20.8333.*0 means"):
        load("speech", tmp_path, "speech.rate=25")


def spectrogram_transformer(folder: Path) -> None:
    sizes = {"max_length": 128, "num_mel_bins": 40}
    save(folder, "ASTModel", t.ASTConfig(**SIZES, **sizes), t.ASTFeatureExtractor(**sizes))


def shortened_whisper(folder: Path) -> None:
    """Its last state has half the rows."""
    sizes = {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
    settings = t.Qwen2AudioEncoderConfig(d_model=32, **sizes, max_source_positions=200)
    save(folder, "Qwen2AudioEncoder", settings, t.WhisperFeatureExtractor(chunk_length=4, feature_size=128))


def text_network(folder: Path) -> None:
    save(folder, "BertModel", t.BertConfig(**SIZES, vocab_size=50))


def without_input_settings(folder: Path) -> None:
    save(folder, "MoonshineModel", SPEECH["Moonshine"]()[0])


def codec_of_24_khz(folder: Path) -> None:
    settings = t.EncodecConfig(num_filters=4, hidden_size=16, codebook_size=16, num_lstm_layers=1)
    save(folder, "EncodecModel", settings, t.EncodecFeatureExtractor(sampling_rate=24000))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (spectrogram_transformer, "not an encoder of speech: it gives as many rows for 4 s as for 2 s"),
        (shortened_whisper, r"layers are not 200 rows of 32 features.*\[1, 100, 32\]"),
        (text_network, "not an encoder of speech: it reads input_ids in place of input_values"),
        (without_input_settings, "no preprocessor_config.json.*write that file: AutoFeatureExtractor"),
        (codec_of_24_khz, "reads audio of 24000 Hz"),
    ],
)
def test_other_networks_of_audio_are_refused_before_work(tmp_path, make, says):
    make(tmp_path)
    with pytest.raises(WeightsError, match=says):
        load("speech", tmp_path)


def whole_image(kind: str, found) -> torch.Tensor:
    """The vector [B,D] that the classifier of this kind reads."""
    if kind == "PoolFormer":
        return found.last_hidden_state.mean(dim=(2, 3))
    return found.last_hidden_state[:, 0] if kind == "Pvt" else found.pooler_output.flatten(1)


@torch.no_grad()
@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("kind", sorted(IMAGES))
def test_the_last_layer_of_images_is_that_of_transformers(tmp_path, kind, prepared):
    how = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    processor = t.ViTImageProcessor(**how) if prepared else None
    settings = IMAGES[kind]()
    model = save(tmp_path, f"{kind}Model", settings, processor)
    side = 224 if not prepared and kind in ("ConvNext", "ResNet", "PoolFormer") else 64
    if kind == "PoolFormer" and not prepared:
        side = settings.image_size
    crops = CROPS.repeat(side // 64 + 1, axis=1).repeat(side // 64 + 1, axis=2)[:, :side, :side]
    mean, deviation = (how["image_mean"], how["image_std"]) if prepared else (
        [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # fmt: skip
    pixels = torch.from_numpy((crops / 255 - mean) / deviation).permute(0, 3, 1, 2).float()
    found = model(pixels)
    loaded = load("appearance", tmp_path)
    width = loaded.choice.encoder.width
    assert loaded.choice.layers == (1,)
    expected = whole_image(kind, found).numpy()
    assert expected.shape == (3, width)
    np.testing.assert_allclose(loaded.network(crops)[:, 0], expected, atol=1e-4)
    last = found.last_hidden_state
    if last.ndim == 3:
        last = (last[:, 1:] if kind == "Pvt" else last).transpose(1, 2)
        last = last.unflatten(2, (round(last.shape[2] ** 0.5),) * 2)
    cells = load("appearance", tmp_path, "appearance.grid=2").network(crops)
    half = -(-last.shape[2] // 2)
    right = last.shape[3] // 2
    np.testing.assert_allclose(cells[:, 1], last[:, :, :half, right:].mean(dim=(2, 3)), atol=1e-4)
    assert cells.shape == (3, 4, width)


@pytest.mark.parametrize(("kind", "layers"), [("ViT", 2), ("ConvNext", 1)])
def test_cells_of_a_grid_are_stored(tmp_path, kind, layers):
    """The stage had room for one cell and failed in each clip."""
    settings = t.ViTConfig(**SIZES, image_size=64, patch_size=16) if kind == "ViT" else IMAGES[kind]()
    save(tmp_path, f"{kind}Model", settings)
    words = [f"appearance.layers={list(range(1, layers + 1))}", "appearance.grid=2"]
    config = load_config(overrides=["stages=[appearance]", f"appearance.encoder={tmp_path}", *words])
    encoder = load_encoder(config.appearance)
    valid = np.array([True, False, True])
    clip = {"frames": CROPS, "valid": valid, "time": np.arange(3) / 25}
    (result,) = encode_crops([clip], config.appearance, encoder)
    states, numbers = result.arrays["states"], sizes(config.appearance)
    assert states.shape == (3, numbers["layers"], numbers["width"]) and numbers["layers"] == 4 * layers
    np.testing.assert_allclose(states[valid], encoder.network(CROPS[valid]), rtol=2e-3, atol=2e-3)
    assert not states[1].any()


def test_parameters_of_the_pooled_output_must_be_in_the_folder(tmp_path):
    from safetensors.torch import load_file, save_file

    stages = {"num_heads": [1, 1, 1, 1], "depths": [1, 1, 1, 1]}
    save(tmp_path, "HieraModel", t.HieraConfig(image_size=[64, 64], embed_dim=8, **stages))
    load("appearance", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: values for name, values in tensors.items() if "pooler." not in name}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks 2 parameters of its network, pooler.layernorm"):
        load("appearance", tmp_path)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("VideoMAE", {"num_frames": 4}), ("Timesformer", {"num_frames": 4}), ("Vivit", {"num_frames": 4})],
)
def test_networks_of_videos_are_refused_with_the_reason(tmp_path, kind, more):
    patch = {"tubelet_size": [2, 8, 8]} if kind == "Vivit" else {"patch_size": 8}
    save(tmp_path, f"{kind}Model", getattr(t, f"{kind}Config")(**SIZES, **patch, **more, image_size=32))
    with pytest.raises(
        WeightsError, match="not an encoder of appearance: it reads several images of a video"
    ):
        load("appearance", tmp_path)


def test_features_that_differ_each_time_are_refused(tmp_path, monkeypatch):
    """As of a network that hides parts of the image at random."""
    save(tmp_path, "ConvNextModel", IMAGES["ConvNext"]())
    random = np.random.default_rng(0)
    monkeypatch.setattr(LastLayer, "__call__", lambda self, crops: random.normal(size=(len(crops), 1, 24)))
    with pytest.raises(WeightsError, match="not an encoder of appearance: it gives other features each time"):
        load("appearance", tmp_path)


def test_rows_follow_from_hop_and_reach():
    shapes = SpeechShapes(8, 3, 160, 0, 0)
    assert [shapes.rows(n) for n in (0, 159, 160, 480)] == [1, 1, 2, 4]
