"""Families of image networks: their layers are those of transformers, or they are refused from settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deiii.data.config.load import load_config
from deiii.data.encoders.chosen import chosen
from deiii.data.encoders.transformers_folder import IMAGE_KINDS, read_settings
from deiii.data.encoders.transformers_shapes import token_shapes
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.load import load_encoder

t = pytest.importorskip("transformers", reason="needs the extra: pip install 'deiii[encoders]'")

SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
}  # fmt: skip
IMAGES: dict[str, Any] = SIZES | {"image_size": 32, "patch_size": 8}
TEXTS: dict[str, Any] = SIZES | {"vocab_size": 60, "projection_dim": 16, "max_position_embeddings": 16}
BOTH: dict[str, Any] = {"vision_config": IMAGES, "text_config": TEXTS, "projection_dim": 16}
SAM: dict[str, Any] = {
    "hidden_size": 32, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_dim": 48,
    "image_size": 64, "patch_size": 8, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 8,
}  # fmt: skip
CROPS = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
# Class, settings, and the part that reads images. All have a class token and 4x4 patches.
LAYERED: dict[str, tuple[str, Callable[[], Any], str]] = {
    "BLIP": ("BlipModel", lambda: t.BlipConfig(**BOTH), "vision_model"),
    "BLIP, images alone": ("BlipVisionModel", lambda: t.BlipVisionConfig(**IMAGES), ""),
    "InstructBLIP, images": ("InstructBlipVisionModel", lambda: t.InstructBlipVisionConfig(**IMAGES), ""),
    "FLAVA, images alone": ("FlavaImageModel", lambda: t.FlavaImageConfig(**IMAGES), ""),
    "GIT": ("GitModel", lambda: t.GitConfig(**SIZES, vocab_size=60, vision_config=IMAGES), "image_encoder"),
    "OWL-ViT": ("OwlViTModel", lambda: t.OwlViTConfig(**BOTH), "vision_model"),
    "CLIP, images alone": ("CLIPVisionModel", lambda: t.CLIPVisionConfig(**IMAGES), ""),
    "ViT-MSN": ("ViTMSNModel", lambda: t.ViTMSNConfig(**IMAGES), ""),
    "DINOv2, registers": (
        "Dinov2WithRegistersModel", lambda: t.Dinov2WithRegistersConfig(**IMAGES, num_register_tokens=3), "",
    ),
}  # fmt: skip
# Every kind of `IMAGE_KINDS`.
TOLD: dict[str, Callable[[], Any]] = {
    "beit": lambda: t.BeitConfig(**IMAGES),
    "chinese_clip_vision_model": lambda: t.ChineseCLIPVisionConfig(**IMAGES),
    "clip_vision_model": lambda: t.CLIPVisionConfig(**IMAGES),
    "data2vec-vision": lambda: t.Data2VecVisionConfig(**IMAGES),
    "deit": lambda: t.DeiTConfig(**IMAGES),
    "dinov2": lambda: t.Dinov2Config(**IMAGES),
    "dinov2_with_registers": lambda: t.Dinov2WithRegistersConfig(**IMAGES),
    "dinov3_vit": lambda: t.DINOv3ViTConfig(**IMAGES, num_register_tokens=4),
    "ijepa": lambda: t.IJepaConfig(**IMAGES),
    "siglip_vision_model": lambda: t.SiglipVisionConfig(**IMAGES),
    "vit": lambda: t.ViTConfig(**IMAGES),
    "vit_mae": lambda: t.ViTMAEConfig(**IMAGES, mask_ratio=0.0),
}


def save(folder: Path, kind: str, settings: Any) -> Any:
    """Save a random network of a class of transformers, and return it."""
    torch.manual_seed(1)
    model = getattr(t, kind)(settings).eval()
    model.save_pretrained(folder)
    return model


def settings_alone(folder: Path, settings: Any) -> None:
    """Save settings beside a file that holds no weights, so that anything that reads it would fail."""
    settings.save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"not read")


def config_of(folder: Path, grid: int = 0) -> Any:
    words = ["stages=[appearance]", f"appearance.encoder={folder}", f"appearance.grid={grid}"]
    return load_config(overrides=words).appearance


def pixels(side: int = 32) -> torch.Tensor:
    """The crops, enlarged to ``side``, with mean and deviation of ImageNet, float32 [B,3,S,S]."""
    crops = CROPS.repeat(side // 32, axis=1).repeat(side // 32, axis=2)
    values = (crops / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(values).permute(0, 3, 1, 2).float()


def cells(tokens: torch.Tensor) -> torch.Tensor:
    """Means of tokens [B,16,D] of 4x4 patches in 2x2 cells [B,4,D]."""
    return tokens.reshape(len(tokens), 2, 2, 2, 2, -1).mean(dim=(2, 4)).flatten(1, 2)


@torch.no_grad()
@pytest.mark.parametrize("family", sorted(LAYERED))
def test_layers_are_those_of_transformers(tmp_path, family):
    kind, settings, part = LAYERED[family]
    model = save(tmp_path, kind, settings())
    own = getattr(model, part) if part else model
    states = own(pixels(), output_hidden_states=True).hidden_states
    loaded = load_encoder(config_of(tmp_path))
    assert (loaded.choice.encoder.width, loaded.choice.layers) == (32, (0, 1, 2))
    wanted = torch.stack([state[:, 0] for state in states], dim=1).numpy()
    np.testing.assert_allclose(loaded.network(CROPS), wanted, atol=1e-5)
    wanted = torch.cat([cells(state[:, -16:]) for state in states], dim=1).numpy()
    np.testing.assert_allclose(load_encoder(config_of(tmp_path, 2)).network(CROPS), wanted, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ViTMAEModel", "ViTMAEForPreTraining"])
def test_mae_hides_nothing_and_keeps_the_places(tmp_path, kind):
    """In transformers, it hides 75 % of the patches, and returns the others in a random order."""
    decoder = {f"decoder_{name}": size for name, size in SIZES.items()}
    model = save(tmp_path, kind, t.ViTMAEConfig(**IMAGES, **decoder))
    own = model.vit if kind == "ViTMAEForPreTraining" else model
    own.config.mask_ratio = 0.0
    found = own(pixels(), output_hidden_states=True)
    there = found.ids_restore[..., None].expand(-1, -1, 32)
    states = [
        torch.cat([state[:, :1], state[:, 1:].gather(1, there)], dim=1) for state in found.hidden_states
    ]
    loaded = load_encoder(config_of(tmp_path))
    assert loaded.choice.encoder.version == 2
    wanted = torch.stack([state[:, 0] for state in states], dim=1).numpy()
    np.testing.assert_allclose(loaded.network(CROPS), wanted, atol=1e-5)
    wanted = torch.cat([cells(state[:, 1:]) for state in states], dim=1).numpy()
    np.testing.assert_allclose(load_encoder(config_of(tmp_path, 2)).network(CROPS), wanted, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["SamVisionModel", "SamModel"])
def test_sam_gives_its_last_map(tmp_path, kind):
    """Its layers are maps with the channels last, of which the first row was taken for the class token."""
    prompts = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    masks = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    settings = t.SamVisionConfig(**SAM)
    if kind == "SamModel":
        parts = {"prompt_encoder_config": prompts, "mask_decoder_config": masks}
        settings = t.SamConfig(vision_config=SAM, **parts)
    model = save(tmp_path, kind, settings)
    own = model.vision_encoder if kind == "SamModel" else model
    last = own(pixels(64)).last_hidden_state
    loaded = load_encoder(config_of(tmp_path))
    crops = CROPS.repeat(2, axis=1).repeat(2, axis=2)
    assert (loaded.choice.encoder.width, loaded.choice.layers) == (16, (1,))
    np.testing.assert_allclose(loaded.network(crops)[:, 0], last.mean(dim=(2, 3)), atol=1e-5)
    found = load_encoder(config_of(tmp_path, 2)).network(crops)
    np.testing.assert_allclose(found[:, 1], last[:, :, :4, 4:].mean(dim=(2, 3)), atol=1e-5)


@torch.no_grad()
def test_images_that_a_network_joins_come_one_at_a_time(tmp_path):
    """Pixtral joins the patches of all images of a call, and gave the features of one crop for three."""
    model = save(tmp_path, "PixtralVisionModel", t.PixtralVisionConfig(**IMAGES))
    config = config_of(tmp_path, 1)
    loaded = load_encoder(config)
    assert loaded.batch == 1
    for number, crop in enumerate(CROPS):
        image = pixels()[number : number + 1]
        states = model(image, output_hidden_states=True).hidden_states
        wanted = torch.cat([state.mean(dim=1) for state in states]).numpy()
        np.testing.assert_allclose(loaded.network(crop[None])[0], wanted, atol=1e-5)


def test_settings_of_the_table_tell_the_layers(tmp_path):
    """The kinds that are not run without weights before they are used, against that run."""
    assert set(TOLD) == set(IMAGE_KINDS)
    for kind, settings in TOLD.items():
        settings_alone(tmp_path / kind, settings())
        found = token_shapes(str(tmp_path / kind), read_settings(str(tmp_path / kind)))
        assert found is not None and found.several, kind
        assert (found.layers, found.whole) == (3, IMAGE_KINDS[kind]), kind
        encoder = chosen(config_of(tmp_path / kind, grid=1)).encoder
        assert (encoder.layers, encoder.width, encoder.whole) == ((0, 1, 2), 32, IMAGE_KINDS[kind])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (lambda: t.ViltConfig(**IMAGES, vocab_size=60), "reads a text beside the image.*ViT, DINOv2"),
        (
            lambda: t.FlavaConfig(image_config=IMAGES, text_config=TEXTS, hidden_size=32),
            r"reads a text \(input_ids\) beside pixel_values",
        ),
        (lambda: t.Siglip2VisionConfig(**SIZES, patch_size=8, num_patches=16), "SigLIP 2 of one size"),
        (
            lambda: t.Siglip2Config(vision_config=SIZES | {"patch_size": 8}, text_config=TEXTS),
            "SigLIP 2 of one size",
        ),
        (lambda: t.VideoMAEConfig(**IMAGES, num_frames=4), "several images of a video"),
        (lambda: t.TimesformerConfig(**IMAGES, num_frames=4), "several images of a video"),
        (lambda: t.VivitConfig(**SIZES, image_size=32, tubelet_size=[2, 8, 8]), "several images of a video"),
        (lambda: t.VJEPA2Config(**SIZES, crop_size=32, patch_size=8), "several images of a video"),
        (lambda: t.YolosConfig(**SIZES, image_size=[32, 32], patch_size=8), "detected objects"),
        (lambda: t.SiglipVisionConfig(**IMAGES), "without a class token.*set appearance.grid=1"),
        (lambda: t.IJepaConfig(**IMAGES), "without a class token.*set appearance.grid=1"),
        (lambda: t.Aimv2VisionConfig(**IMAGES), "without a class token.*set appearance.grid=1"),
        (lambda: t.PixtralVisionConfig(**IMAGES), "without a class token.*set appearance.grid=1"),
    ],
)
def test_others_are_refused_from_their_settings_alone(tmp_path, settings, says):
    settings_alone(tmp_path, settings())
    with pytest.raises(WeightsError, match=says):
        chosen(config_of(tmp_path))
