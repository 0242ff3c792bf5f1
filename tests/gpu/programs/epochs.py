"""Whole epochs of a training on the fake GPU: how the reserved memory grows, streams, graphs.

Values on the device are meaningless, so the checks of the loss are replaced.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.model.training.trainer import Trainer
from tests.gpu.fake_gpu import recorded
from tests.gpu.programs.training import CLIPS, FRAMES, SIZE, make_trainer, without_checks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    config = load_config([f"configs/{options.preset}.yaml"], ["train.patience=0", *options.settings])
    reserved: list[float] = []
    validate = Trainer._validate

    def noting(self: Trainer, epoch: int) -> dict:
        row = validate(self, epoch)
        reserved.append(torch.cuda.memory_reserved() / 2**20)
        return row

    with (
        TemporaryDirectory() as folder,
        without_checks(),
        mock.patch.object(Trainer, "_validate", noting),
    ):
        features = open_cache(Path(folder) / "cache", CLIPS, FRAMES, SIZE)
        trainer = make_trainer(features, config, Path(folder))
        with recorded() as log:
            trainer.fit(progress=False)
        result = {
            "launch": trainer.launch,
            "steps": trainer.step,
            "reserved_mb": [round(x, 1) for x in reserved],
            "growth_mb": round(reserved[-1] - reserved[1], 1),
            "streams": len({call.stream for call in log.of("kernel", "copy", "graph-launch")}),
            "graphs": len(log.nodes),
            "graph_launches": len(log.of("graph-launch")),
            "forbidden": log.forbidden,
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
