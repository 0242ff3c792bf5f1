"""The LoRA encoder of docs/howto-new-backbone.md, on a tiny DINOv2 with random weights."""

from __future__ import annotations

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
