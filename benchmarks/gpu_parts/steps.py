"""Part about one training step: its time by launch and batch, and the kernels that take it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.gpu_parts.common import HERE, cache, find, is_fake, small
from benchmarks.gpu_parts.training import meaningful

WARM_UP = 6  # steps before the timed ones: libraries choose kernels, and the fourth step is recorded
ROWS = 40  # kernels that are listed


def part_steps() -> None:
    """A training step of `base` on the clips in GPU memory: ms by launch and batch, then its kernels."""
    for words in (["train.launch=graph"], ["train.launch=graph", "loader.batch=128"]):
        try:
            one(words)
        except Exception as error:  # the other ways are still measured
            find(words=" ".join(words), error=f"{type(error).__name__}: {error}"[:300])


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
