"""What several processes do together; `test_two_ranks.py` starts this file once for each rank.

    python -m tests.helpers.two_ranks FOLDER      (with the variables that torchrun sets)

All checks that need a second process run in one start, because a start takes seconds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from deiii.data.config.schema import Config, TrainConfig
from deiii.model.distributed.devices import seed_all
from deiii.model.distributed.ranks import RankError, Ranks, joined
from deiii.model.network.deiii import DEIII
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.trainer import Diverged, Trainer, TrainingSetup
from tests.helpers.model_helpers import CLASSES, MELS, MemoryLoader, random_batch, small_config, take

BATCH = 8
STEPS = 4  # with 16 images a rank, PyTorch computes the gradients of 1x1 convolutions in another layout
IDS = [f"clip{i}" for i in range(60)]


def clips(n: int, seed: int):
    """Return clips with gaps: steps without a face or flow, short or no audio, no label, no attribute."""
    batch = random_batch(n, steps=STEPS, hops=24, size=16, seed=seed)
    g = torch.Generator().manual_seed(seed + 100)

    def chance(*shape):
        return torch.rand(*shape, generator=g)

    batch.frames += batch.label[:, None, None, None, None] - 2.0
    batch.video_mask &= chance(n, STEPS) > 0.3
    batch.flow_mask &= batch.video_mask & (chance(n, STEPS) > 0.2)
    batch.audio_mask &= torch.arange(24) < 4 * (1 + (6 * chance(n, 1)).long())
    batch.audio_mask[::7], batch.video_mask[3::9], batch.flow_mask[3::9] = False, False, False
    batch.soft[::11], batch.label[::11] = 0.0, -1
    batch.attributes[chance(n, 2) < 0.2] = float("nan")
    return batch


class PartLoader(MemoryLoader):
    """One rank's part of every batch of a `MemoryLoader`, divided as by `rank_share` of the loader."""

    def __init__(self, clips, training: bool, ranks: Ranks):
        super().__init__(clips, BATCH, training, seed=3)
        self.ranks, self.seen = ranks, []

    def __len__(self) -> int:
        return (len(self.clips) + self.batch - 1) // self.batch  # the last batch of an epoch is filled up

    def epoch(self, number: int, start: int = 0):
        for batch in super().epoch(number, start):
            part = take(batch, torch.arange(self.ranks.rank, BATCH, self.ranks.world))
            self.seen.append(part.index[part.real].tolist())
            yield part


WITHOUT_DROPOUT = {"dropout": 0.0}  # which draws other numbers for a batch in parts


def trainer(
    path: Path,
    ranks: Ranks,
    loader=PartLoader,
    statistics: float = 0.0,
    network: dict | None = None,
    **changes,
) -> Trainer:
    """Return a training with every setting on whose results could differ between worlds.

    ``statistics`` is added to the running statistics of rank 0, which alone reads the weights of another run;
    ``network`` are settings of another network.
    """
    settings = {"epochs": 2, "lr": 3e-4, "patience": 99, "ema": 0.9, "seed": 3, "modality_dropout": 0.3}
    full = {"dropout": 0.1, "audio_channels": [8, 16], "time_match": True}
    model = small_config(attributes=["valence", "arousal"], **{**full, **(network or {})})
    config = Config(model=model, train=TrainConfig(**{**settings, **changes}))
    config.loader.batch = BATCH
    run = RunFolder(path)
    info = {"keys": {}, "split": "x", "classes": ["a"]}
    if ranks.first:
        run.create(config, info, resume=True)
    seed_all(config.train.seed)
    built = DEIII(config.model, CLASSES, 2, MELS)
    for name, buffer in built.named_buffers():
        if ranks.first and name.endswith(("running_mean", "running_var")):
            buffer += statistics
    train, val = loader(clips(44, 1), True, ranks), PartLoader(clips(21, 2), False, ranks)
    weights = torch.linspace(0.5, 1.5, CLASSES)
    setup = TrainingSetup(train, val, config, run, ranks.device, IDS, {"corpus": "x"}, weights, ranks)
    return Trainer(built, setup)


def in_parts(path: Path, ranks: Ranks, told: dict) -> None:
    """Train with batches in parts, and count the exchanges of gradients."""
    parts = trainer(path, ranks, network=WITHOUT_DROPOUT, accumulate=2)
    told["exchanges"] = 0

    def counted(state, bucket):  # PyTorch refuses annotations that are text
        told["exchanges"] += 1
        return allreduce_hook(state, bucket)

    parts.training_step.learner.register_comm_hook(None, counted)
    parts.fit(progress=False)
    told["parts"], told["steps"] = parts.history, parts.step


class Poisoned(PartLoader):
    """One clip of rank 1's part of step 3 is infinite."""

    def epoch(self, number: int, start: int = 0):
        for i, batch in enumerate(super().epoch(number, start), start):
            if self.ranks.rank == self.ranks.world - 1 and (number, i) == (0, 3):
                batch.frames[:] = float("inf")
            yield batch


class Interrupted(PartLoader):
    """The last rank alone is asked to stop while it uses a batch of epoch 1."""

    def epoch(self, number: int, start: int = 0):
        import os
        import signal

        for i, batch in enumerate(super().epoch(number, start), start):
            if self.ranks.rank == self.ranks.world - 1 and (number, i) == (1, 1) and start == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined(BATCH, "cpu") as ranks:
        told = {"rank": ranks.rank}
        whole = trainer(folder / "whole", ranks)
        whole.fit(progress=False)
        told["seen"], told["history"] = whole.train.seen, whole.history
        told["weights"] = float(sum(p.double().sum() for p in whole.model.state_dict().values()))
        try:
            trainer(folder / "halted", ranks, Interrupted).fit(progress=False)
        except KeyboardInterrupt:
            told["halted"] = "stopped"
        began = trainer(folder / "begun_alone", ranks)  # by the test, in one process
        began.fit(resume=True, progress=False)
        told["resumed"] = began.history
        started = trainer(folder / "started", ranks, statistics=2.0, epochs=1)
        started.fit(progress=False)
        told["started"] = started.history
        told["statistics"] = float(sum(b.double().sum() for b in started.model.buffers()))
        in_parts(folder / "parts", ranks, told)
        try:
            trainer(folder / "poisoned", ranks, Poisoned).fit(progress=False)
        except Diverged as error:
            told["diverged"] = str(error)
        try:
            ranks.check_same({"settings": "same", "data": ranks.rank})
        except RankError as error:
            told["differs"] = str(error)
        (folder / f"told{ranks.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
