"""Part about training steps: their time by launch and batch, the kernels that take it, and the GPU's use."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.gpu_parts.common import HERE, cache, find, is_fake, small
from benchmarks.gpu_parts.training import CREMA_D, meaningful
from benchmarks.gpu_parts.whole import gpu_use, mean_of, working
from deiii.model.training.trainer import Trainer

WARM_UP = 6  # steps before the timed ones: libraries choose kernels, and the fourth step is recorded
ROWS = 40  # kernels that are listed
LOADED_S = 4.0  # s of steps on loaded batches during which the use of the GPU is read


def part_steps() -> None:
    """A training step of `base` on the clips in GPU memory: ms by launch and batch, then its kernels.

    Before them, the use of the GPU in epochs of CREMA-D's size, from mapped files and from GPU memory.
    """
    for residency in ("stream", "device"):
        try:
            use_of_gpu(residency)
        except Exception as error:  # the steps are still measured
            find(run="training", residency=residency, error=f"{type(error).__name__}: {error}"[:300])
    for words in (["train.launch=graph"], ["train.launch=graph", "loader.batch=128"]):
        try:
            one(words)
        except Exception as error:  # the other ways are still measured
            find(words=" ".join(words), error=f"{type(error).__name__}: {error}"[:300])


def use_of_gpu(residency: str) -> None:
    """Read the use of the GPU, as nvidia-smi reports it, while steps train on batches of the loader."""
    import torch

    from deiii.data.config.load import load_config
    from deiii.model.training.loaders import make_loader
    from deiii.model.training.step.graphs import own_stream
    from tests.gpu.programs.training import make_trainer

    features = cache(64 if small() else 512)
    words = [f"loader.residency={residency}", "train.epochs=2", "train.launch=auto"]
    config = load_config([str(HERE / "configs/base.yaml")], words)
    with TemporaryDirectory() as folder, meaningful():
        trainer = make_trainer(features, config, Path(folder))
        rows = np.resize(features.rows([clip.id for clip in features.clips]), 128 if small() else CREMA_D)
        trainer.train = make_loader(features, rows, config, trainer.device, True)
        stream = trainer.graphs.stream if trainer.graphs is not None else torch.cuda.current_stream()
        with own_stream(stream):
            trainer.model.train()
            train_epoch(trainer, 0)  # libraries choose kernels, the step is recorded, the files are read
            end = time.monotonic() + (0.5 if small() else LOADED_S)
            epochs = 0
            with gpu_use() as busy:
                while time.monotonic() < end:
                    epochs += 1
                    train_epoch(trainer, epochs)
    find(
        run="training", residency=residency, launch=trainer.launch, epochs=epochs,
        gpu_busy_working=mean_of(working(busy)),
    )  # fmt: skip


def train_epoch(trainer: Trainer, number: int) -> None:
    """Do the steps of an epoch, and wait for the GPU once at its end."""
    import torch

    batches, unpack = trainer._batches(number, 0)
    for batch in batches:
        trainer._train_step(batch, unpack)
    torch.cuda.synchronize()


def one(words: list[str]) -> None:
    """Time steps of one way, and print its kernels by time."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from deiii.data.config.load import load_config
    from deiii.model.training.step.graphs import own_stream
    from tests.gpu.programs.training import make_trainer

    features = cache(64 if small() else 512)
    config = load_config(
        [str(HERE / "configs/base.yaml")], ["loader.residency=device", "train.epochs=2", *words]
    )
    steps = max(1, (12 if small() else 384) // config.loader.batch)
    with TemporaryDirectory() as folder, meaningful():
        trainer = make_trainer(features, config, Path(folder))
        stream = trainer.graphs.stream if trainer.graphs is not None else torch.cuda.current_stream()
        with own_stream(stream):
            trainer.model.train()
            batches, unpack = trainer._batches(0, 0)
            batch = next(batches)
            for _ in range(WARM_UP):
                trainer._train_step(batch, unpack)
            torch.cuda.synchronize()
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record(stream)
            for _ in range(steps):
                trainer._train_step(batch, unpack)
            ended.record(stream)
            torch.cuda.synchronize()
            ms = began.elapsed_time(ended) / steps
            if is_fake():
                return find(words=" ".join(words), ms_a_step=round(ms, 3))
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                for _ in range(4):
                    trainer._train_step(batch, unpack)
                torch.cuda.synchronize()
            batches.close()
    kernels: dict[str, list[float]] = defaultdict(list)
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            kernels[event.name].append(event.device_time)
    busy = sum(map(sum, kernels.values())) / 4e3
    count = sum(map(len, kernels.values())) / 4
    find(
        words=" ".join(words), ms_a_step=round(ms, 3), kernels=count, kernel_ms_a_step=round(busy, 3),
        clips_per_s=round(1e3 * config.loader.batch / ms, 1),
        peak_mib=torch.cuda.max_memory_allocated() >> 20,
    )  # fmt: skip
    for name, times in sorted(kernels.items(), key=lambda item: -sum(item[1]))[:ROWS]:
        print(f"{sum(times) / 4:9.1f} us {len(times) / 4:7.1f} x {name[:150]}")
