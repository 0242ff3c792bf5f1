"""Small caches with known content, made by the real writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deiii.data.cache.index import StageIndex, record_shard, stage_folder, write_index, write_table
from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.shard_plan import plan_shards
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.scan import cache_name

KEYS = {"faces": "f" * 12, "flow": "0" * 12, "logmel": "a" * 12}
CORPUS = "synthetic-cues"
SIZE, BANDS, FPS, HOP = 12, 8, 25.0, 0.01


def make_cache(
    root: Path,
    frames: list[int],
    hops: list[int],
    *,
    name: str = "synthetic",
    storage: str = "int8",
    bad_flow: tuple[int, ...] = (),
    clips_per_shard: int = 3,
    seed: int = 0,
    size: int = SIZE,
) -> Config:
    """Write a cache of ``len(frames)`` clips; 0 frames or hops make the stage unusable for that clip."""
    adapter, name = name, cache_name(load_config(overrides=[f"corpus.name={name}"]).corpus)
    rng = np.random.default_rng(seed)
    classes = ("calm", "angry", "happy")
    clips = tuple(
        Clip(
            f"s{i % 4}/c{i:03d}", f"c{i:03d}.mp4", f"s{i % 4}", classes[i % 3] if i % 5 else None,
            soft=(0.5, 0.25, 0.25) if i % 7 == 3 else None, attributes={"valence": i / 10} if i % 2 else {},
        )
        for i in range(len(frames))
    )  # fmt: skip
    order = tuple(sorted(clips, key=lambda c: c.id))
    corpus = Corpus(name, "/nowhere", classes, order, {"valence": (0.0, 10.0)})
    (root / name).mkdir(parents=True, exist_ok=True)
    write_table(root, corpus)
    number = {c.id: i for i, c in enumerate(clips)}
    arrays = {c.id: clip_arrays(rng, frames[number[c.id]], hops[number[c.id]], storage, size) for c in order}
    for stage, key in KEYS.items():
        folder = stage_folder(root, name, stage, key)
        folder.mkdir(parents=True)
        records = []
        for plan in plan_shards(corpus, clips_per_shard):
            path = folder / f"{plan.name}.h5"
            with ShardWriter(path, stage, key, {"made": "by a test"}) as writer:
                for clip in plan.clips:
                    found = arrays[clip.id][stage]
                    if stage == "flow" and number[clip.id] in bad_flow:
                        found = {}
                    outcome = Outcome(Status.OK) if found else Outcome(Status.UNREADABLE, "made so", 0.0)
                    writer.add(clip.id, outcome, found, "")
            records.append(record_shard(path))
        write_index(folder, StageIndex(stage, key, {}, records))
    return load_config(
        overrides=[
            f"corpus.name={adapter}", "corpus.root=/nowhere", f"cache={root}",
            "loader.steps=4", "loader.stride=2", "loader.audio_steps=20", f"loader.crop={size - 4}",
            "loader.batch=5", "loader.residency=stream",
        ]
    )  # fmt: skip


def clip_arrays(rng: np.random.Generator, n: int, m: int, storage: str, size: int) -> dict[str, dict]:
    """Return a clip's arrays by stage, random, with some frames marked invalid."""
    faces = {
        "frames": rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
        "time": 0.04 + np.arange(n) / FPS,
        "box": rng.random((n, 4), np.float32),
        "landmarks": rng.random((n, 5, 2), np.float32),
        "valid": rng.random(n) > 0.2,
    }
    valid = rng.random(n) > 0.1
    valid[-1:] = False
    flow = {
        "flow": rng.integers(-127, 128, (n, size, size, 2)).astype(storage),
        "valid": valid,
        "time": faces["time"],
    }
    if storage == "int8":
        flow["scale"] = rng.random(n, np.float32) / 10
    logmel = {
        "logmel": rng.uniform(-80, 0, (m, BANDS)).astype(np.float16),
        "time": 0.0125 + np.arange(m) * HOP,
    }
    return {"faces": faces if n else {}, "flow": flow if n else {}, "logmel": logmel if m else {}}
