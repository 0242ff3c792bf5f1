"""A shard file of small frames, for the tests that write and read one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.shard_writer import ShardWriter

OK = Outcome(Status.OK)


def write(path: Path, clips: dict[str, np.ndarray]) -> Path:
    with ShardWriter(path, "faces", "k", {"size": 4}) as shard:
        for name, frames in clips.items():
            arrays = {
                "frames": frames,
                "time": np.arange(len(frames)) / 25,
                "valid": np.ones(len(frames), bool),
            }
            shard.add(name, OK, arrays, source="ab")
    return path


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
