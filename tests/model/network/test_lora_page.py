"""The LoRA encoder of docs/howto-new-backbone.md, on tiny networks of images with random weights."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest
import torch

from deiii.__main__ import main
from deiii.data.config import load, plugins
from deiii.data.config.schema import ModelConfig
from deiii.model.training import checkpoint
from deiii.model.training.run_folder import RunFolder

transformers = pytest.importorskip("transformers", reason="pip install 'deiii[encoders]'")
pytest.importorskip("peft", reason="pip install peft")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES |= {"image_size": 56, "patch_size": 14}
FAMILIES = {
    "ViT": lambda: transformers.ViTConfig(**SIZES),
    "DeiT": lambda: transformers.DeiTConfig(**SIZES),  # two tokens before those of patches
    "Dinov2WithRegisters": lambda: transformers.Dinov2WithRegistersConfig(**SIZES),
    "DINOv3ViT": lambda: transformers.DINOv3ViTConfig(**SIZES, num_register_tokens=4),
    "CLIPVision": lambda: transformers.CLIPVisionConfig(**SIZES),
    "SiglipVision": lambda: transformers.SiglipVisionConfig(**SIZES),  # no class token
    "IJepa": lambda: transformers.IJepaConfig(**SIZES),
}
PAGE = Path(__file__).parents[3] / "docs/howto-new-backbone.md"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The page's module as an installed package, with weights that are saved to disk."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.Dinov2Config(**sizes, image_size=56, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "dinov2")
    (block,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    code = block.replace("/models/dinov2-small", (tmp_path / "dinov2").as_posix())
    (tmp_path / "lora_package.py").write_text(code, encoding="utf-8")
    info = tmp_path / "lora_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lora-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[deiii.encoders]\nlora = lora_package:LoraFaces\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    remembered = (plugins.installed, load.config_class, load._keys)
    for function in remembered:
        function.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    sys.modules.pop("lora_package", None)
    for function in remembered:
        function.cache_clear()


def test_before_training_the_tokens_are_those_of_the_pretrained_network(package):
    from lora_package import LoraFaces

    encoder = LoraFaces((3,), ModelConfig(width=16, grid=2)).eval()
    images = torch.randn(3, 3, 56, 56)
    found = encoder(images)
    assert found.shape == (3, 4, 16)
    base = transformers.Dinov2Model.from_pretrained(package / "dinov2").eval()
    map_NCHW = base(pixel_values=images).last_hidden_state[:, 1:].transpose(1, 2).reshape(3, 32, 4, 4)
    torch.testing.assert_close(found, encoder.tokens(map_NCHW))
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.startswith("tokens.") for name in trained)
    linear = [name for name, part in base.named_modules() if isinstance(part, torch.nn.Linear)]
    assert len(linear) >= 2 * 6  # query, key, value, output and the two of the MLP in each layer
    assert sum("lora_" in name for name in trained) == 2 * len(linear)


def test_a_training_changes_the_matrices_of_low_rank_alone(package, seen_run, tmp_path):
    run = tmp_path / "run"
    words = [(seen_run / "run/config.yaml").as_posix(), f"train.run={run}", "--quiet", "loader.crop=56"]
    words += ["model.encoders=[faces:lora]", "train.epochs=1", "train.ema=0"]
    assert main(["train", *words]) == 0
    assert main(["evaluate", str(run)]) == 0
    tensors, _ = checkpoint.load(RunFolder(run).best)
    before = transformers.Dinov2Model.from_pretrained(package / "dinov2").state_dict()
    own = {name: value for name, value in tensors.items() if "frame_encoder.encoder." in name}
    assert own
    changed = 0
    for name, value in own.items():
        if "lora_B" in name:
            changed += bool(value.abs().max() > 0)  # zero before the first step
        elif "lora_A" not in name:
            plain = name.split(".encoder.")[1].replace(".base_layer", "")
            torch.testing.assert_close(value, before[plain], rtol=0, atol=0)
    assert changed == sum("lora_B" in name for name in own) >= 2 * 6


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families_of_images_can_be_tuned(package, monkeypatch, family, precision):
    import lora_package

    torch.manual_seed(0)
    getattr(transformers, f"{family}Model")(FAMILIES[family]()).save_pretrained(package / "other")
    monkeypatch.setattr(lora_package, "WEIGHTS", str(package / "other"))
    encoder = lora_package.LoraFaces((3,), ModelConfig(width=16, grid=2))
    images, wanted = torch.randn(4, 3, 56, 56), torch.tensor([0, 1, 2, 1])
    base = transformers.AutoModel.from_pretrained(package / "other").eval()
    patches = base(pixel_values=images).last_hidden_state[:, -16:]
    found = encoder.eval()(images)
    map_NCHW = patches.transpose(1, 2).reshape(4, 32, 4, 4)
    torch.testing.assert_close(found, encoder.tokens(map_NCHW), rtol=1e-4, atol=1e-5)
    head = torch.nn.Linear(16, 3)
    learned = [p for p in encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW([*learned, *head.parameters()], lr=1e-2)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", dtype=precision, enabled=precision is not torch.float32):
            scores = head(encoder(images).mean(dim=1))
        loss = torch.nn.functional.cross_entropy(scores.float(), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0] - 0.1
    moved = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved and all("lora_" in name or name.startswith("tokens.") for name in moved)
    assert any("lora_A" in name for name in moved) and any(name.startswith("tokens.") for name in moved)
    again = lora_package.LoraFaces((3,), ModelConfig(width=16, grid=2))
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.eval()(images), encoder.eval()(images), rtol=0, atol=0)
