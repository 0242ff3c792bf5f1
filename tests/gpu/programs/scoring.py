"""Scoring without autocast, as evaluation and prediction do it: what cuDNN may round float32 to."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.model.training.scoring import in_full_precision, score
from tests.gpu.programs.training import FRAMES, SIZE, make_trainer


def main() -> None:
    config = load_config(["configs/tiny.yaml"], ["loader.batch=4"])
    found: dict[str, set[Any]] = {"dtypes": set(), "tf32": set()}

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        found["dtypes"].add(str(output.dtype))
        found["tf32"].add(torch.backends.cudnn.allow_tf32)

    with TemporaryDirectory() as folder:
        features = open_cache(Path(folder) / "cache", 8, FRAMES, SIZE)
        trainer = make_trainer(features, config, Path(folder))
        for module in trainer.model.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                module.register_forward_hook(note)
        score(trainer.model, trainer.val.epoch(0), trainer.device, in_full_precision(config.train))
    kept = torch.backends.cudnn.allow_tf32
    print(json.dumps({**{name: sorted(values) for name, values in found.items()}, "afterwards": kept}))


if __name__ == "__main__":
    main()
