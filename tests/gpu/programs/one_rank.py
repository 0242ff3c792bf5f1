"""A training of one process that exchanges with itself through NCCL, as torchrun starts it."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch.distributed as dist

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.model.distributed.ranks import joined
from tests.gpu.fake_gpu import recorded
from tests.gpu.programs.training import FRAMES, SIZE, make_trainer, without_checks


def main() -> None:
    config = load_config(["configs/tiny.yaml"], ["loader.batch=4", "train.device=cuda", "train.epochs=1"])
    with (
        TemporaryDirectory() as folder,
        without_checks(),
        recorded() as log,
        joined(config.loader.batch, config.train.device) as ranks,
    ):
        backend = str(dist.get_backend_config()) if dist.is_initialized() else ""
        features = open_cache(Path(folder) / "cache", 24, FRAMES, SIZE)
        trainer = make_trainer(features, config, Path(folder), ranks)
        trainer.fit(progress=False)
    exchanges = [call.name for call in log.of("lib") if call.name.startswith("nccl")]
    found = {"backend": backend, "launch": trainer.launch, "steps": trainer.step, "exchanges": len(exchanges)}
    print(json.dumps({**found, "broadcasts": sum("Broadcast" in name for name in exchanges)}))


if __name__ == "__main__":
    main()
