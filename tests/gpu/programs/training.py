"""Training steps of a preset on the fake GPU: launches, waits and memory."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from unittest import mock

import torch

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.loader.feature_set import FeatureSet
from deiii.model.distributed.devices import autocast, make_deterministic, seed_all
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.task import Task
from deiii.model.training.loaders import make_loader
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.step.graphs import own_stream
from deiii.model.training.trainer import Trainer, TrainingSetup
from tests.gpu.fake_gpu import recorded

CLIPS, FRAMES, SIZE = 80, 40, 112
WARM_UP = 5  # steps before the first that is counted: the allocator's blocks, lazy loading, a capture
COUNTED = 4  # steps that are counted, with their loading


@contextmanager
def without_checks() -> Iterator[None]:
    """Train on meaningless values: the checks of the losses do nothing."""
    with (
        mock.patch.object(Trainer, "_check", lambda self, pending: pending.clear()),
        mock.patch("deiii.model.training.trainer.math", SimpleNamespace(isfinite=lambda number: True)),
    ):
        yield


def make_trainer(features: FeatureSet, config: Config, folder: Path, ranks: Ranks | None = None) -> Trainer:
    """Return a trainer that is set up as ``deiii train`` sets it up, on the fake GPU."""
    ranks = ranks or Ranks(device=torch.device("cuda", 0))
    device = ranks.device
    make_deterministic(device)
    seed_all(config.train.seed)
    model = Task.of(features, config).network(config).to(device)
    rows = features.rows([clip.id for clip in features.clips])
    loaders = [make_loader(features, rows, config, device, training, ranks) for training in (True, False)]
    run = RunFolder(folder / "run")
    run.create(config, {}, resume=False)
    ids = [clip.id for clip in features.clips]
    return Trainer(model, TrainingSetup(*loaders, config, run, device, ids, {}, None, ranks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--most", action="store_true", help="print the most frequent launches")
    options = parser.parse_args()
    config = load_config([f"configs/{options.preset}.yaml"], ["loader.batch=8", *options.settings])
    with TemporaryDirectory() as folder:
        features = open_cache(Path(folder) / "cache", CLIPS, FRAMES, SIZE)
        trainer = make_trainer(features, config, Path(folder))
        stream = trainer.graphs.stream if trainer.graphs is not None else torch.cuda.current_stream()
        with own_stream(stream):
            trainer.model.train()
            batches, unpack = trainer._batches(0, 0)
            with recorded() as before:
                for _ in range(WARM_UP):
                    trainer._train_step(next(batches), unpack)
            with recorded() as log:
                began = time.perf_counter()
                for _ in range(COUNTED):
                    trainer._train_step(next(batches), unpack)
                host = (time.perf_counter() - began) / COUNTED
            batches.close()
            trainer.model.eval()
            scored = trainer.val.epoch(0)
            with torch.no_grad(), autocast(config.train.amp, trainer.device):
                trainer.forward(next(scored))
                with recorded() as evaluation:
                    trainer.forward(next(scored))
            scored.close()
        if options.most:
            for line in log.most(60):
                print(*line)
        allocations = [call.name for call in log.of("malloc", "hostalloc", "free")]
        result = {
            "launch": trainer.launch,
            "launches": log.launches / COUNTED,
            "syncs": log.syncs,
            "allocations": allocations,
            "nodes": before.nodes,
            "beside": sorted(Counter(c.stream for c in before.of("kernel", "lib") if c.captured).values()),
            "forbidden": before.forbidden,
            "evaluation": evaluation.launches,
            "evaluation_syncs": evaluation.syncs,
            "host_ms": round(1e3 * host, 3),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
