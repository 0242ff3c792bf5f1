"""A training step that waits for the device, as an encoder of a package may, on the fake GPU."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch
from deiii.model.training.step.graphs import own_stream
from tests.gpu.fake_gpu import recorded
from tests.gpu.programs.training import FRAMES, SIZE, make_trainer


def read_back(module: torch.nn.Module, inputs: tuple[Batch]) -> None:
    """Wait for the device, as a step must not."""
    inputs[0].logmel.sum().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("launch")
    options = parser.parse_args()
    config = load_config(["configs/tiny.yaml"], ["loader.batch=4", f"train.launch={options.launch}"])
    refused = ""
    with TemporaryDirectory() as folder:
        features = open_cache(Path(folder) / "cache", 40, FRAMES, SIZE)
        trainer = make_trainer(features, config, Path(folder))
        trainer.model.register_forward_pre_hook(read_back)
        before = torch.cuda.memory_allocated()
        with own_stream(trainer.graphs.stream), recorded() as log:
            trainer.model.train()
            batches, unpack = trainer._batches(0, 0)
            try:
                for _ in range(8):
                    trainer._train_step(next(batches), unpack)
            except ConfigError as error:
                refused = str(error)
    result = {"steps": trainer.step, "refused": refused, "why_eager": trainer.graphs.why_eager}
    print(json.dumps({**result, "forbidden": log.forbidden, "more": torch.cuda.memory_allocated() > before}))


if __name__ == "__main__":
    main()
