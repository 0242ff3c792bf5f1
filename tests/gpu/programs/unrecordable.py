"""A training step that waits for the device, as a package's encoder may, or that needs too much memory."""

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


def ask_for_much(module: torch.nn.Module, inputs: tuple[Batch]) -> None:
    """Ask for more memory than the device has, in the recording alone."""
    if torch.cuda.is_current_stream_capturing():
        torch.empty(1 << 45, dtype=torch.uint8, device="cuda")


HOOKS = {"waits": read_back, "memory": ask_for_much}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("launch")
    parser.add_argument("kind", nargs="?", choices=list(HOOKS), default="waits")
    options = parser.parse_args()
    config = load_config(["configs/tiny.yaml"], ["loader.batch=4", f"train.launch={options.launch}"])
    refused = ""
    with TemporaryDirectory() as folder:
        features = open_cache(Path(folder) / "cache", 40, FRAMES, SIZE)
        trainer = make_trainer(features, config, Path(folder))
        trainer.model.register_forward_pre_hook(HOOKS[options.kind])
        before = torch.cuda.memory_allocated()
        with own_stream(trainer.graphs.stream), recorded() as log:
            trainer.model.train()
            batches, unpack = trainer._batches(0, 0)
            try:
                for _ in range(8):
                    trainer._train_step(next(batches), unpack)
            except (ConfigError, torch.OutOfMemoryError) as error:
                refused = str(error)
    result = {"steps": trainer.step, "refused": refused, "why_eager": trainer.graphs.why_eager}
    print(json.dumps({**result, "forbidden": log.forbidden, "more": torch.cuda.memory_allocated() > before}))


if __name__ == "__main__":
    main()
