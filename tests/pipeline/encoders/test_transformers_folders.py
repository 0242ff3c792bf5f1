"""Folders of transformers that tell something unusual, and those that are refused before any work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from deiii.data.cache.recipes import stage_keys
from deiii.data.config.load import load_config
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.load import load_encoder

transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'deiii[encoders]'")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONVS = {"conv_dim": (16, 16), "conv_stride": (20, 16), "conv_kernel": (40, 24), "num_conv_pos_embeddings": 8,
         "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 2}  # fmt: skip
WHISPER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48,
           "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "vocab_size": 100,
           "max_source_positions": 200, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
           "decoder_start_token_id": 1}  # fmt: skip
SAMPLES = np.random.default_rng(0).normal(scale=0.1, size=16000 * 2).astype(np.float32)
CROPS = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def save(folder: Path, kind: str, settings, prepare=None):
    """Save a random network of a class of transformers, and return it."""
    torch.manual_seed(1)
    model = getattr(transformers, kind)(settings).eval()
    model.save_pretrained(folder)
    if prepare is not None:
        prepare.save_pretrained(folder)
    return model


def load(stage: str, folder: Path, *words: str):
    words = (*words, "speech.rate=0")
    config = load_config(overrides=[f"stages=[{stage}]", f"{stage}.encoder={folder}", *words])
    return stage_keys(config)[stage], load_encoder(getattr(config, stage)).network


def states_of(model, values: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.stack(model(values, output_hidden_states=True).hidden_states, dim=2)[0].numpy()


@pytest.mark.parametrize("positions", ["relative", "rotary"])
def test_wav2vec2_conformer_reads_samples(tmp_path, positions):
    """It has max_source_positions as Whisper has, and was taken for one."""
    settings = transformers.Wav2Vec2ConformerConfig(**SIZES, **CONVS, position_embeddings_type=positions)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    model = save(tmp_path, "Wav2Vec2ConformerModel", settings, extractor)
    values = extractor([SAMPLES], sampling_rate=16000, return_tensors="pt")["input_values"]
    found = load("speech", tmp_path)[1](SAMPLES[None])[0]
    np.testing.assert_allclose(found, states_of(model, values), atol=1e-5)


def test_whisper_with_a_classifier_in_place_of_its_decoder(tmp_path):
    """Whisper that was tuned to tell emotions is such a network; it was refused as damaged."""
    extractor = transformers.WhisperFeatureExtractor(chunk_length=4)
    settings = transformers.WhisperConfig(**WHISPER)
    model = save(tmp_path, "WhisperForAudioClassification", settings, extractor)
    values = extractor([SAMPLES], sampling_rate=16000, return_tensors="pt")["input_features"]
    found = load("speech", tmp_path)[1](SAMPLES[None])[0]
    np.testing.assert_allclose(found, states_of(model.encoder, values)[:100], atol=1e-5)
    weights = tmp_path / "model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    tensors.pop(next(name for name in tensors if "layers.0.fc1.weight" in name))
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks 1 parameters"):
        load("speech", tmp_path)


def test_mel_bands_that_do_not_fit_the_network_are_refused(tmp_path):
    settings = transformers.WhisperConfig(**WHISPER, num_mel_bins=128)
    save(tmp_path, "WhisperModel", settings, transformers.WhisperFeatureExtractor(chunk_length=4))
    with pytest.raises(WeightsError, match="gives 80 mel bands, and the network reads 128"):
        load("speech", tmp_path)


def test_sizes_may_be_given_as_height_and_width(tmp_path):
    sizes = {"image_size": 32, "patch_size": 8}
    save(tmp_path / "one", "ViTModel", transformers.ViTConfig(**SIZES, **sizes))
    pairs = {name: [size, size] for name, size in sizes.items()}
    save(tmp_path / "two", "ViTModel", transformers.ViTConfig(**SIZES, **pairs))
    for words in ((), ("appearance.grid=2",)):
        one, two = (load("appearance", tmp_path / name, *words)[1](CROPS) for name in ("one", "two"))
        np.testing.assert_array_equal(two, one)
    save(tmp_path / "wide", "ViTModel", transformers.ViTConfig(**SIZES, image_size=[16, 32], patch_size=8))
    with pytest.raises(WeightsError, match="of images of 32x16 px"):
        load("appearance", tmp_path / "wide")


@pytest.mark.parametrize("words", [(), ("appearance.grid=2",)])
def test_networks_of_other_inputs_are_refused_before_work(tmp_path, words):
    settings = transformers.ViltConfig(**SIZES, image_size=32, patch_size=8, vocab_size=50)
    save(tmp_path / "vilt", "ViltModel", settings)  # reads a text, too
    with pytest.raises(WeightsError, match="reads a text beside the image.*ViT, DINOv2"):
        load("appearance", tmp_path / "vilt", *words)
    settings = transformers.YolosConfig(**SIZES, image_size=[32, 32], patch_size=8)
    save(tmp_path / "yolos", "YolosModel", settings)  # its last tokens are not those of patches
    with pytest.raises(WeightsError, match="not an encoder of appearance"):
        load("appearance", tmp_path / "yolos", *words)


@pytest.fixture
def vit(tmp_path) -> Path:
    save(tmp_path / "vit", "ViTModel", transformers.ViTConfig(**SIZES, image_size=32, patch_size=8))
    load("appearance", tmp_path / "vit")
    return tmp_path / "vit"


def test_an_adapter_is_refused(vit):
    """With peft, transformers applies it; its settings were not part of the key."""
    (vit / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    with pytest.raises(WeightsError, match="holds an adapter .*merge_and_unload"):
        load("appearance", vit)


@pytest.mark.parametrize("place", ["parts/model.safetensors", "../other.safetensors"])
def test_weights_outside_the_folder_are_refused(vit, place):
    """The key did not change with them."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(vit / "model.safetensors")
    (vit / place).parent.mkdir(exist_ok=True)
    shutil.move(vit / "model.safetensors", vit / place)
    save_file({"unused": torch.zeros(1)}, vit / "unused.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, place)}
    (vit / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=f"takes weights from {place}, which is not a file beside"):
        load("appearance", vit)
    shutil.copy(vit / place, vit / "part-1.safetensors")
    index["weight_map"] = dict.fromkeys(tensors, "part-1.safetensors")
    (vit / "model.safetensors.index.json").write_text(json.dumps(index))
    load("appearance", vit)


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", ["someone/attention", {"vision_config": "someone/attention"}])
def test_implementations_of_the_hub_are_refused(vit, name, value):
    """With the package kernels, transformers downloads and runs them."""
    settings = json.loads((vit / "config.json").read_text())
    (vit / "config.json").write_text(json.dumps({**settings, name: "eager"}))
    load("appearance", vit)
    (vit / "config.json").write_text(json.dumps({**settings, name: value}))
    with pytest.raises(WeightsError, match="asks for 'someone/attention', which may be code of the Hub"):
        load("appearance", vit)


def change(path: Path, **settings) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def hubert(tmp_path) -> Path:
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    save(tmp_path / "hubert", "HubertModel", transformers.HubertConfig(**SIZES, **CONVS), extractor)
    return tmp_path / "hubert"


def test_parts_of_a_network_in_several_files_give_what_one_file_gives(hubert):
    (whole,) = (load("speech", hubert)[1](SAMPLES[None]),)
    network = transformers.HubertModel.from_pretrained(hubert)
    (hubert / "model.safetensors").unlink()
    network.save_pretrained(hubert, max_shard_size="20KB")
    parts = sorted(hubert.glob("model-*.safetensors"))
    assert len(parts) > 2
    np.testing.assert_array_equal(load("speech", hubert)[1](SAMPLES[None]), whole)
    parts[1].unlink()
    with pytest.raises(WeightsError, match=f"cannot be loaded by transformers .*{parts[1].name}"):
        load("speech", hubert)


def other_shape(folder: Path) -> None:
    change(folder / "config.json", intermediate_size=40)


def other_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")


def pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def input_settings_cut_off(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("{not json")


def input_settings_with_code(folder: Path) -> None:
    own = {"auto_map": {"AutoFeatureExtractor": "own.Extractor"}, "feature_extractor_type": "Extractor"}
    change(folder / "preprocessor_config.json", **own)
    (folder / "own.py").write_text("raise SystemExit('code of the folder ran')")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (other_shape, r"has 6 parameters of other shapes .*\[48.*in place of \[40"),
        (other_name, "holds weights.safetensors, and transformers reads model.safetensors or"),
        (pickle_alone, "holds no safetensors.*write safetensors with AutoModel.from_pretrained"),
        (input_settings_cut_off, "preprocessor_config.json cannot be used .*Write the file again"),
        (input_settings_with_code, "preprocessor_config.json cannot be used .*code of its own"),
    ],
)
def test_damaged_folders_are_refused_with_what_to_do(hubert, damage, says):
    damage(hubert)
    with pytest.raises(WeightsError, match=says):
        load("speech", hubert)


def test_a_package_that_the_weights_need_is_named(hubert, monkeypatch):
    """transformers raises an ImportError without a name for it; it was taken for a broken transformers."""

    def lacks(error: ImportError):
        def raises(*_, **__):
            raise error

        monkeypatch.setattr(transformers.AutoModel, "from_pretrained", raises)

    lacks(ImportError("8-bit quantization requires accelerate"))
    with pytest.raises(WeightsError, match="needs a package .*requires accelerate.*not quantised"):
        load("speech", hubert)
    lacks(ImportError("libx.so cannot be opened", name="transformers.x"))
    with pytest.raises(ImportError, match="libx.so"):
        load("speech", hubert)


def test_loading_prints_nothing(hubert, capfd):
    """transformers drew a bar of progress in the middle of that of the command."""
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    load("speech", hubert)
    assert "".join(capfd.readouterr()) == "" and logging.is_progress_bar_enabled()


def test_paths_that_are_no_folder_of_transformers_are_refused(hubert):
    """A file of parameters was called an unknown name."""
    with pytest.raises(WeightsError, match="model.safetensors is a file of parameters, which does not say"):
        load("speech", hubert / "model.safetensors")
    (hubert / "model.safetensors").rename(hubert / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="files other than safetensors may run code: name a folder"):
        load("speech", hubert / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="no such ONNX file or folder of transformers: .*missing"):
        load("speech", hubert / "missing")
    (hubert / "config.json").unlink()
    with pytest.raises(WeightsError, match="holds no config.json"):
        load("speech", hubert)


def test_input_settings_of_another_network_are_named_as_the_cause(vit):
    transformers.ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(vit)
    with pytest.raises(
        WeightsError, match="does not run on a crop .*if preprocessor_config.json is not that"
    ):
        load("appearance", vit)
