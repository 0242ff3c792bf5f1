"""Encoders of transformers, from tiny random networks saved on disk, against transformers' own output."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deiii.data.cache.recipes import recipes, stage_keys
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.load import load_encoder
from tests.helpers.own_settings import own_settings

transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'deiii[encoders]'")

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
CONVS = {"conv_dim": (16, 16), "conv_stride": (20, 16), "conv_kernel": (40, 24), "num_conv_pos_embeddings": 8,
         "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 2}  # fmt: skip
SAMPLES = np.random.default_rng(0).normal(scale=0.1, size=16000 * 3).astype(np.float32)


def network(kind: str):
    """A tiny random network, and what prepares its input."""
    torch.manual_seed(1)
    t = transformers
    if kind in ("WavLM", "Hubert", "Wav2Vec2"):
        config = getattr(t, f"{kind}Config")(**SIZES, **CONVS)
        return getattr(t, f"{kind}Model")(config).eval(), t.Wav2Vec2FeatureExtractor(do_normalize=True)
    if kind == "SEW":
        config = t.SEWConfig(**SIZES, **CONVS, squeeze_factor=2)
        return t.SEWModel(config).eval(), t.Wav2Vec2FeatureExtractor(do_normalize=True)
    if kind == "SiglipVision":
        return t.SiglipVisionModel(t.SiglipVisionConfig(**SIZES, image_size=32, patch_size=8)).eval(), None
    if kind == "Speech2Text":
        config = t.Speech2TextConfig(
            d_model=32, encoder_layers=1, encoder_attention_heads=4, encoder_ffn_dim=48, decoder_layers=1,
            decoder_attention_heads=4, decoder_ffn_dim=48, vocab_size=100, conv_channels=32,
        )  # fmt: skip
        return t.Speech2TextModel(config).eval(), None
    if kind == "Narrowband":
        return network("WavLM")[0], t.Wav2Vec2FeatureExtractor(sampling_rate=8000)
    if kind == "Whisper":
        config = t.WhisperConfig(
            d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48, decoder_layers=1,
            decoder_attention_heads=4, decoder_ffn_dim=48, vocab_size=100, max_source_positions=200,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        return t.WhisperModel(config).eval(), t.WhisperFeatureExtractor(chunk_length=4)
    if kind == "Dinov2":
        config = t.Dinov2Config(**SIZES, image_size=56, patch_size=14)
        return t.Dinov2Model(config).eval(), t.BitImageProcessor(
            size={"height": 56, "width": 56}, do_center_crop=False, do_convert_rgb=False,
            image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
        )  # fmt: skip
    if kind == "ViT":
        return t.ViTModel(t.ViTConfig(**SIZES, image_size=32, patch_size=8)).eval(), None
    vision = {**SIZES, "image_size": 32, "patch_size": 8}
    text = {**SIZES, "vocab_size": 50, "max_position_embeddings": 8}
    return t.CLIPModel(t.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)).eval(), None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """By kind: the folder, the network and what prepares its input."""
    made = {}

    def get(kind: str):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            model, prepare = network(kind)
            model.save_pretrained(folder)
            if prepare is not None:
                prepare.save_pretrained(folder)
            made[kind] = str(folder), model, prepare
        return made[kind]

    return get


def config_of(stage: str, folder: str, *words: str):
    return load_config(overrides=[f"stages=[{stage}]", f"{stage}.encoder={folder}", *words])


def speech(folder: str, *words: str):
    return load_encoder(config_of("speech", folder, "speech.rate=0", *words).speech)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["WavLM", "Hubert", "Wav2Vec2", "SEW", "Whisper"])
def test_speech_is_what_transformers_gives(saved, kind):
    folder, model, extractor = saved(kind)
    encoder = speech(folder)
    found = encoder.network(SAMPLES[None])[0]
    inputs = next(iter(extractor([SAMPLES], sampling_rate=16000, return_tensors="pt").values()))
    own = model.get_encoder() if kind == "Whisper" else model
    expected = torch.stack(own(inputs, output_hidden_states=True).hidden_states, dim=2)[0].numpy()
    if kind == "Whisper":
        expected = expected[:150]  # the rest is padding
    assert found.shape == expected.shape == (len(expected), len(encoder.choice.layers), 32)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_settings_of_the_calling_program_change_nothing(saved):
    """Features under a default type and autocast of the program's own, of voice and face."""
    crops = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    encoders = (
        (load_encoder(config_of("speech", saved("WavLM")[0]).speech), SAMPLES[None]),
        (load_encoder(config_of("appearance", saved("ViT")[0]).appearance), crops),
    )
    for encoder, given in encoders:
        wanted = encoder.network(given)
        with own_settings():
            found = encoder.network(given)
        np.testing.assert_array_equal(found, wanted)


def test_rows_lie_at_the_centre_of_the_samples_that_they_read(saved):
    encoder = speech(saved("WavLM")[0]).choice.encoder
    assert (encoder.hop, encoder.shortest, encoder.first) == (320, 40 + 23 * 20, 250)


def test_rows_that_a_network_joins_are_as_far_apart_as_it_joins_them(saved):
    encoder = speech(saved("SEW")[0])
    assert (encoder.choice.encoder.hop, encoder.choice.encoder.first) == (640, 410)
    assert encoder.network(SAMPLES[None]).shape[1] == (len(SAMPLES) - 180) // 640


@pytest.mark.parametrize(
    ("stage", "kind", "says"),
    [
        ("speech", "Speech2Text", "not an encoder of speech"),
        ("speech", "Narrowband", "reads audio of 8000 Hz"),
        ("appearance", "SiglipVision", "without a class token.*set appearance.grid=1"),
    ],
)
def test_networks_that_cannot_be_used_are_refused_before_work(saved, stage, kind, says):
    with pytest.raises(WeightsError, match=says):
        load_encoder(getattr(config_of(stage, saved(kind)[0]), stage))


def test_without_a_class_token_cells_can_be_stored(saved):
    encoder = load_encoder(config_of("appearance", saved("SiglipVision")[0], "appearance.grid=1").appearance)
    assert encoder.network(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 4, 32)


def test_windows_of_whisper_are_at_most_as_long_as_it_reads(saved):
    with pytest.raises(ConfigError, match="reads at most 4 s"):
        speech(saved("Whisper")[0], "speech.window=8", "speech.step=4")


def test_chosen_layers_are_those_of_all_layers(saved):
    folder = saved("Hubert")[0]
    every = speech(folder).network(SAMPLES[None])
    np.testing.assert_array_equal(
        speech(folder, "speech.layers=[3,1]").network(SAMPLES[None]), every[:, :, [3, 1]]
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", ["Dinov2", "ViT", "CLIP"])
def test_appearance_is_what_transformers_gives(saved, kind):
    folder, model, processor = saved(kind)
    side = 56 if kind == "Dinov2" else 32
    crops = np.random.default_rng(2).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    encoder = load_encoder(config_of("appearance", folder).appearance)
    if processor is not None:
        pixels = processor(list(crops), return_tensors="pt")["pixel_values"]
    else:
        values = (crops / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        pixels = torch.from_numpy(values).permute(0, 3, 1, 2).float()
    own = model.vision_model if kind == "CLIP" else model
    states = own(pixels, output_hidden_states=True).hidden_states
    expected = torch.stack([s[:, 0] for s in states], dim=1).numpy()
    np.testing.assert_allclose(encoder.network(crops), expected, atol=1e-5)
    cells = load_encoder(
        config_of("appearance", folder, "appearance.grid=2", "appearance.layers=[2]").appearance
    )
    quarter = states[2][:, 1:].unflatten(1, (4, 4))[:, :2, 2:].mean(dim=(1, 2)).numpy()  # above, right
    np.testing.assert_allclose(cells.network(crops)[:, 1], quarter, atol=1e-5)


def test_key_is_that_of_the_weights_wherever_they_lie(saved, tmp_path, monkeypatch):
    import shutil

    folder, model, _ = saved("WavLM")
    key = stage_keys(config_of("speech", folder))["speech"]
    moved = tmp_path / "lab" / "tiny"
    shutil.copytree(folder, moved)
    assert stage_keys(config_of("speech", str(moved)))["speech"] == key
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(tmp_path))
    assert stage_keys(config_of("speech", "lab/tiny"))["speech"] == key
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(moved)
    assert stage_keys(config_of("speech", str(moved)))["speech"] != key
    params = recipes(config_of("speech", folder, "speech.layers=[1]"))["speech"].provenance["params"]
    assert params["encoder"] == "transformers/wavlm" and params["layers"] == [1] and params["rate"] == 25


@pytest.mark.parametrize(("stage", "kind"), [("appearance", "Dinov2"), ("speech", "WavLM")])
def test_key_follows_the_file_from_which_the_settings_of_the_input_are_taken(saved, tmp_path, stage, kind):
    """transformers prefers the settings in processor_config.json, which the key did not contain."""
    import json
    import shutil

    folder = shutil.copytree(saved(kind)[0], tmp_path / "own")
    own = json.loads((folder / "preprocessor_config.json").read_text())
    part, change = {
        "appearance": ("image_processor", {"image_mean": [0.1, 0.1, 0.1]}),
        "speech": ("feature_extractor", {"do_normalize": False}),
    }[stage]

    def with_processor(settings: dict | None):
        path = folder / "processor_config.json"
        if settings is None:
            path.unlink()
        else:
            path.write_text(json.dumps(settings))
        config = config_of(stage, str(folder))
        given = SAMPLES[None] + 0.1 if stage == "speech" else np.full((1, 56, 56, 3), 99, np.uint8)
        return load_encoder(getattr(config, stage)).network(given), stage_keys(config)[stage]

    kinds = {"processor_class": "Mine", f"{part}_type": own.get(f"{part}_type")}
    values, key = with_processor({"processor_class": "Mine"})
    same_values, same_key = with_processor({part: own | kinds})
    assert np.array_equal(same_values, values) and same_key == key
    other_values, other_key = with_processor({part: own | change})
    assert not np.allclose(other_values, values) and other_key != key
    assert with_processor(None)[1] == key


@pytest.mark.parametrize(
    ("stage", "kind", "words"),
    [
        ("appearance", "Dinov2", "with the mean and deviation of ImageNet; .*AutoImageProcessor"),
        ("speech", "WavLM", "with mean 0 and variance 1 in each window; .*AutoFeatureExtractor"),
        ("speech", "Whisper", "as Whisper's log-mel; .*AutoFeatureExtractor"),
    ],
)
def test_an_input_that_the_folder_does_not_state_is_named(saved, tmp_path, caplog, stage, kind, words):
    """The Hub's cache lacks the file where only AutoModel was loaded; the usual input was taken silently."""
    import re
    import shutil

    folder = shutil.copytree(saved(kind)[0], tmp_path / "whole")
    load_encoder(getattr(config_of(stage, str(folder)), stage))
    assert not caplog.messages
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "preprocessor_config.json").rename(bare / "processor_config.json")
    for _ in range(2):
        load_encoder(getattr(config_of(stage, str(bare)), stage))
    (told,) = caplog.messages  # once
    assert re.match(f"{bare} has no preprocessor_config.json, so its input is prepared {words}", told)


def test_what_cannot_be_trusted_or_is_damaged_is_refused(saved, tmp_path):
    import json
    import shutil

    from safetensors.torch import load_file, save_file

    folder = saved("Hubert")[0]

    def copy(name: str):
        there = tmp_path / name
        shutil.copytree(folder, there)
        return there

    pickled = copy("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="no safetensors"):
        stage_keys(config_of("speech", str(pickled)))
    coded = copy("coded")
    settings = json.loads((coded / "config.json").read_text())
    settings |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}
    (coded / "config.json").write_text(json.dumps(settings))
    (coded / "mine.py").write_text("raise SystemExit('code of the folder ran')")
    with pytest.raises(WeightsError, match="code of their own"):
        speech(str(coded))
    lacking = copy("lacking")
    tensors = load_file(lacking / "model.safetensors")
    tensors.pop(next(name for name in tensors if "attention.k_proj.weight" in name))
    save_file(tensors, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks 1 parameters"):
        speech(str(lacking))
    cut = copy("cut")
    bytes_ = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(bytes_[: len(bytes_) // 2])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        speech(str(cut))
    with pytest.raises(WeightsError, match="not an encoder of appearance"):
        load_encoder(config_of("appearance", folder).appearance)


def test_a_name_of_the_hub_is_downloaded_once_without_pickles(saved, tmp_path, monkeypatch):
    import huggingface_hub

    from deiii.data.encoders.hub import hub_folder

    asked = []

    def snapshot(name, revision, allow_patterns, local_files_only=False):
        asked.append((name, revision, local_files_only))
        assert not any("bin" in pattern or "*.py" in pattern for pattern in allow_patterns)
        if local_files_only:
            raise OSError("not in the cache")
        return saved("WavLM")[0]

    monkeypatch.delenv("DEIII_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    hub_folder.cache_clear()
    for _ in range(2):
        assert hub_folder("microsoft/wavlm-base-plus", "main") == saved("WavLM")[0]
    assert asked == [
        ("microsoft/wavlm-base-plus", "main", True),
        ("microsoft/wavlm-base-plus", "main", False),
    ]
    hub_folder.cache_clear()
