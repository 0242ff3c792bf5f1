"""Random batches, and a loader over tensors in memory with the real loader's interface."""

from __future__ import annotations

import torch

from deiii.data.cache.stages import ExtraInput
from deiii.data.config.schema import ModelConfig
from deiii.data.loader.batch import Batch, ExtraStream
from tests.helpers.extra_stages import EXTRA

CLASSES, MELS = 5, 24


def small_config(**changes) -> ModelConfig:
    """Return settings of a network that runs in milliseconds."""
    settings = {"width": 16, "blocks": 1, "ife_blocks": 1, "heads": 2, "conv_kernel": 3, "grid": 2}
    return ModelConfig(**{**settings, "channels": [8, 16], "dropout": 0.0, **changes})


def random_batch(
    clips: int = 4,
    steps: int = 5,
    hops: int = 32,
    size: int = 16,
    classes: int = CLASSES,
    attributes: int = 2,
    mels: int = MELS,
    seed: int = 0,
    extra: bool = False,
) -> Batch:
    """Return a random batch in which every input is present and valid."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    label = torch.randint(classes, (clips,), generator=g)
    return Batch(
        frames=normal(clips, steps, 3, size, size),
        flow=normal(clips, steps, 2, size, size),
        logmel=normal(clips, hops, mels),
        video_time=(0.08 * torch.arange(steps)).expand(clips, steps).clone(),
        audio_time=(0.01 * torch.arange(hops)).expand(clips, hops).clone(),
        video_mask=torch.ones(clips, steps, dtype=torch.bool),
        flow_mask=torch.ones(clips, steps, dtype=torch.bool),
        audio_mask=torch.ones(clips, hops, dtype=torch.bool),
        label=label,
        soft=torch.nn.functional.one_hot(label, classes).float(),
        attributes=torch.rand(clips, attributes, generator=g) * 2 - 1,
        index=torch.arange(clips),
        real=torch.ones(clips, dtype=torch.bool),
        extra={x.name: random_extra(x, clips, steps, hops, g) for x in EXTRA.values()} if extra else {},
    )


def random_extra(x: ExtraInput, clips: int, steps: int, hops: int, g: torch.Generator) -> ExtraStream:
    """Return a random extra stream of valid rows; those of an audio stage lie between the hops."""
    rows = x.rows(steps, hops)
    time = 0.08 * torch.arange(rows) if x.modality == "video" else 0.003 + 0.02 * torch.arange(rows)
    return ExtraStream(
        values=torch.randn(clips, rows, *x.shape, generator=g),
        time=time.expand(clips, rows).clone(),
        mask=torch.ones(clips, rows, dtype=torch.bool),
    )


def take(batch: Batch, rows) -> Batch:
    """Return these rows of a batch, in this order."""
    rows = torch.as_tensor(rows)
    return batch.map(lambda tensor: tensor[rows])


class MemoryLoader:
    """`deiii.data.loader.loader.Loader`'s interface over one big batch; order follows seed and epoch."""

    def __init__(self, clips: Batch, batch: int, training: bool, seed: int = 0):
        self.clips, self.batch, self.training, self.seed = clips, batch, training, seed

    def __len__(self) -> int:
        n = len(self.clips)
        return n // self.batch if self.training else -(-n // self.batch)

    def epoch(self, number: int, start: int = 0):
        n = len(self.clips)
        order = torch.arange(n)
        if self.training:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(1000 * self.seed + number))
        for i in range(start, len(self)):
            rows = order[i * self.batch : (i + 1) * self.batch]
            short = self.batch - len(rows)
            batch = take(self.clips, torch.cat([rows, rows[:1].expand(short)]))
            batch.real[len(rows) :] = False
            yield batch
