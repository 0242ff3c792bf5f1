"""A training of one process that exchanges with itself through NCCL, as torchrun starts it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch.distributed as dist

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.distributed.ranks import joined
from tests.gpu.fake_gpu import Log, recorded
from tests.gpu.programs.training import FRAMES, SIZE, make_trainer, without_checks

BROADCASTS = ("ncclBcast", "ncclBroadcast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*")
    words = ["loader.batch=4", "train.device=cuda", "train.epochs=1", *parser.parse_args().settings]
    config = load_config(["configs/tiny.yaml"], words)
    refused = ""
    with (
        TemporaryDirectory() as folder,
        without_checks(),
        joined(config.loader.batch, config.train.device) as ranks,
    ):
        backend = str(dist.get_backend_config()) if dist.is_initialized() else ""
        features = open_cache(Path(folder) / "cache", 24, FRAMES, SIZE)
        found: dict[str, Any] = {}
        exchanges: dict[str, list[str]] = {"made": [], "trained": []}
        try:
            with recorded() as made:
                trainer = make_trainer(features, config, Path(folder), ranks)
            with recorded() as trained:
                trainer.fit(progress=False)
            found = {"launch": trainer.launch, "steps": trainer.step}
            exchanges = {"made": calls_of_nccl(made), "trained": calls_of_nccl(trained)}
        except ConfigError as error:
            refused = str(error)
    broadcasts = {name: sum(call in BROADCASTS for call in calls) for name, calls in exchanges.items()}
    found |= {"backend": backend, "exchanges": len(exchanges["trained"]), "refused": refused}
    print(json.dumps({**found, "broadcasts": broadcasts}))


def calls_of_nccl(log: Log) -> list[str]:
    """Return the names of NCCL's functions that were called."""
    return [call.name for call in log.of("lib") if call.name.startswith("nccl")]


if __name__ == "__main__":
    main()
