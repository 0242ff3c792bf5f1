"""Measure the stall that loading causes: an epoch from the caches and the same steps from memory.

    python -m benchmarks.train [--preset configs/tiny.yaml] [--clips 640] [--size 72] [--runs 16]
    python -m benchmarks.train --device cuda --preset configs/base.yaml --clips 7442 --size 112 \\
        --residency stream ram device [--settings train.launch=eager]

Both ways run the trainer's own epoch (`deiii.model.training.trainer.Trainer`) with the same network, seeds
and number of steps. They alternate, and ``stall`` is the additional time as a share, median over the runs.
Only training steps are timed, without validation. ``--variants`` also times epochs in float32, in bfloat16,
compiled, and with freed memory returned to the system (`deiii.data.tools.processes.malloc`), on the batch in
memory; the last two are in float32. FLOPs are counted by PyTorch, forward and backward.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.feature_cache import open_cache
from benchmarks.machine import describe
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.loader.batch import Batch
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.data.tools.devices import pick_device
from deiii.data.tools.processes.malloc import keep_freed_memory
from deiii.model.distributed.devices import make_deterministic, seed_all
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.task import Task
from deiii.model.training.loaders import make_loader
from deiii.model.training.losses import total_loss
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.step.launch import choose_launch
from deiii.model.training.trainer import Trainer, TrainingSetup


class OneBatch:
    """A loader that repeats one batch in memory, already augmented."""

    def __init__(self, batch: Batch, count: int):
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batch once for each batch of an epoch, from batch ``start`` on."""
        for _ in range(start, self.count):
            yield self.batch


class OneSlab(OneBatch):
    """The same for a GPU: the block of bytes of a batch is in GPU memory, and each step augments it.

    On a GPU, augmentation is a part of the step and not of the loading.
    """

    def __init__(self, loader: Loader):
        super().__init__(next(loader.epoch(0)), len(loader))
        self.slab = next(loader.slabs(0)).clone()
        self.unpack = loader.unpack

    def slabs(self, number: int, start: int = 0) -> Iterator[torch.Tensor]:
        """Yield the block of bytes once for each batch of an epoch, from batch ``start`` on."""
        for _ in range(start, self.count):
            yield self.slab


def one_batch(loader: Loader, device: torch.device) -> OneBatch:
    """Return a loader that repeats the first batch of another one, with the same work in each step."""
    return OneSlab(loader) if device.type == "cuda" else OneBatch(next(loader.epoch(0)), len(loader))


def epoch_seconds(features: FeatureSet, config: Config, train: Loader | OneBatch, device) -> float:
    """Return seconds of the training steps of the last epoch, by a trainer set up as by ``deiii train``.

    On a GPU the second epoch is timed: in the first, libraries choose kernels and the step is recorded.
    """
    make_deterministic(device)
    if device.type == "cuda":
        config = replace(config, train=replace(config.train, epochs=max(2, config.train.epochs)))
    seed_all(config.train.seed)
    model = Task.of(features, config).network(config).to(device)
    few = make_loader(features, features.rows([features.clips[0].id]), config, device, training=False)
    with TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.create(config, {}, resume=False)
        ids = [c.id for c in features.clips]
        trainer = Trainer(model, TrainingSetup(train, few, config, run, device, ids, {}))
        trainer.fit(progress=False)
        return trainer.history[-1]["train_seconds"]


def step_flops(features: FeatureSet, config: Config, batch: Batch) -> int:
    """Return FLOPs of one step, forward and backward, as PyTorch counts them (a multiply-add is two)."""
    model = Task.of(features, config).network(config).to(batch.label.device)
    with FlopCounterMode(display=False) as counter:
        total_loss(model(batch), batch)[0].backward()
    return counter.get_total_flops()


def compare(
    features: FeatureSet, config: Config, device: torch.device, runs: int, clips: int | None = None
) -> dict[str, float]:
    """Return medians of an epoch from the caches and of the same steps from memory, and the stall.

    The speed of a machine varies by more than the stall. Each epoch is therefore compared with its neighbour
    in time, and the order alternates.

    Args:
        features: the cache.
        config: settings of the training.
        device: device of the training.
        runs: pairs of epochs.
        clips: clips of an epoch, those of the cache again and again; each once where not given.
    """
    rows = np.resize(features.rows([c.id for c in features.clips]), clips or len(features))
    loader = make_loader(features, rows, config, device, True)
    memory = one_batch(loader, device)
    epoch_seconds(features, config, loader, device)  # selects kernels, fills the page cache
    cached, held = [], []
    for run in range(runs):
        pair = [(held, memory), (cached, loader)]
        for times, source in pair if run % 2 else pair[::-1]:
            times.append(epoch_seconds(features, config, source, device))
    stalls = [(c - h) / c for c, h in zip(cached, held, strict=True)]
    low, stall, high = statistics.quantiles(stalls, n=4)
    seconds = statistics.median(cached)
    flops = step_flops(features, config, memory.batch) * len(loader)
    return {
        "residency": loader.residency,
        "launch": choose_launch(config.train, device, Ranks()),
        "stall": round(stall, 4),
        "stall_quartiles": [round(low, 4), round(high, 4)],
        "clips_per_s": round(len(rows) / seconds, 1),
        "epoch_s": round(seconds, 3),
        "epoch_in_memory_s": round(statistics.median(held), 3),
        "gflop_per_clip": round(flops / len(rows) / 1e9, 3),
        "gflop_per_s": round(flops / seconds / 1e9, 1),
    }


def variants(features: FeatureSet, config: Config, device: torch.device, runs: int) -> dict[str, float]:
    """Return seconds of the second epoch's steps from memory, for each variant; the first epoch compiles."""
    loader = make_loader(features, features.rows([c.id for c in features.clips]), config, device, True)
    memory = OneBatch(next(loader.epoch(0)), len(loader))
    ways = {
        "float32": {"amp": "off"},
        "memory_returned": {"amp": "off"},
        "bfloat16": {"amp": "bfloat16"},
        "compiled": {"amp": "off", "compile": True},
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, changes in ways.items():
            other = replace(config, train=replace(config.train, epochs=2, **changes))
            keep = name != "memory_returned"
            with mock.patch(
                "deiii.model.training.trainer.keep_freed_memory", lambda keep=keep: keep_freed_memory(keep)
            ):
                times[name].append(epoch_seconds(features, other, memory, device))
    return {name: round(statistics.median(found), 3) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="configs/tiny.yaml")
    parser.add_argument("--clips", type=int, default=640)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, default=72)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--residency", nargs="+", default=["stream"])
    parser.add_argument(
        "--variants", action="store_true", help="also time other precisions, compilation and memory settings"
    )
    parser.add_argument("--cache", type=Path, default=Path("bench-cache"))
    parser.add_argument(
        "--settings", "--set", dest="set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings"
    )
    options = parser.parse_args()
    if options.runs < 2:
        parser.error("--runs must be at least 2, for the quartiles")
    cache = options.cache / f"train-{options.clips}-{options.frames}-{options.size}"
    features = open_cache(cache, options.clips, options.frames, options.size)
    device = pick_device(options.device)
    config = load_config([options.preset], ["train.epochs=1", *options.set])
    found = []
    for residency in options.residency:
        config.loader.residency = residency
        found.append(compare(features, config, device, options.runs))
        print(found[-1], flush=True)
    result = {
        "bench": "train",
        **found[0],
        "others": found[1:],
        "preset": options.preset,
        "set": options.set,
        "clips": options.clips,
        "runs": options.runs,
        **describe("torch"),
    }
    if device.type == "cuda":
        result["gpu"] = torch.cuda.get_device_name(device)
    if options.variants:
        result["variants_epoch_s"] = variants(features, config, device, max(3, options.runs // 4))
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
