"""Measure the pairs/s that the host's work of the flow stage allows, however fast the GPU is.

    python -m benchmarks.stage_host [--clips 128] [--runs 5] [--folder /dev/shm]

Shards of faces are read, pairs are chosen and gathered into batches, an engine that computes nothing returns
stored flow, and shards of flow are written, hashed, read back and published, all by the stage's own
`deiii.pipeline.stages.shard.run_shard`: first one shard at a time, then as many as a GPU worker has in flight
(`deiii.pipeline.preprocess.cluster_kinds.GPU_THREADS`). The launches of RAFT are not part of it. Both ways
run in turn, ``--runs`` times; medians are reported. The shards lie in ``--folder``: on a disk its speed is
part of the figure (25 kB are written for a pair), in memory (/dev/shm) it is not. The last line is RESULT and
JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.feature_cache import KEYS, open_cache
from benchmarks.machine import describe
from deiii.data.cache.index import ShardRecord, read_index, stage_folder
from deiii.data.cache.recipes import recipes
from deiii.data.cache.shard_plan import ShardPlan
from deiii.data.cache.stages import get_stage
from deiii.data.config.load import load_config, to_yaml
from deiii.data.tools.counts import counted
from deiii.pipeline.flow.engine import Stored
from deiii.pipeline.preprocess.cluster_kinds import GPU_THREADS
from deiii.pipeline.stages import clip
from deiii.pipeline.stages.shard import ShardTask, run_shard

FRAMES, SIZE, BATCH = 60, 112, 512


class NoEngine:
    """An engine that computes nothing and returns flow as RAFT would: int8 with a scale."""

    batch = BATCH

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        flow = rng.integers(-127, 128, (BATCH, SIZE, SIZE, 2), dtype=np.int8)
        self._stored = {"flow": flow, "scale": np.ones(BATCH, np.float32), "finite": np.ones(BATCH, bool)}

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """See `deiii.pipeline.flow.engine.Engine.buffer`."""
        return np.empty(shape, np.uint8)

    def submit(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        """Return a function that returns the same flow for each batch."""
        stored = {name: values[: len(first)] for name, values in self._stored.items()}
        return lambda: stored


def tasks_of(root: Path, clips: int) -> tuple[list[ShardTask], int]:
    """Return the flow tasks of a cache, with `NoEngine` as the stage's model, and their number of pairs."""
    features = open_cache(root / "cache", clips, FRAMES, SIZE, max(1, clips // 16))
    folder = stage_folder(root / "cache", features.corpus.name, "faces", KEYS["faces"])
    config = load_config(overrides=["flow.method=dis"])
    clip._loaded["flow"] = (repr(get_stage("flow").section(config)), NoEngine())
    by_id = {c.id: c for c in features.corpus.clips}
    out = root / "flow"
    recipe, settings = recipes(config)["flow"], to_yaml(config)
    tasks = []
    for shard in read_index(folder).shards:
        plan = ShardPlan(shard.name, tuple(by_id[row.id] for row in shard.clips))
        tasks.append(ShardTask(recipe, plan, "/nowhere", str(out), str(folder), settings))
    return tasks, clips * (FRAMES - 1)


def seconds(tasks: list[ShardTask], threads: int) -> tuple[float, list[ShardRecord]]:
    """Return the time of all shards, computed by a number of threads, and their records."""
    out = Path(tasks[0].folder)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        records = list(pool.map(run_shard, tasks))
    return time.perf_counter() - start, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--folder", help="where the shards are written (default: the folder of temporary files)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tasks, pairs = tasks_of(Path(folder), options.clips)
        expected = seconds(tasks, 1)[1]
        took: dict[int, list[float]] = {1: [], GPU_THREADS: []}
        for _ in range(options.runs):
            for threads, times in took.items():
                spent, records = seconds(tasks, threads)
                assert records == expected
                times.append(spent)
    rates = {threads: pairs / statistics.median(times) for threads, times in took.items()}
    for threads, rate in rates.items():
        print(
            f"{counted(threads, 'shard')} at a time: {rate:,.0f} pairs/s, "
            f"{1e3 * pairs / len(tasks) / rate:.1f} ms a shard"
        )
    result = {
        "bench": "stage_host",
        "pairs_per_s": round(rates[GPU_THREADS]),
        "one_at_a_time": round(rates[1]),
        "folder": options.folder or tempfile.gettempdir(),
        "ratio": round(rates[GPU_THREADS] / rates[1], 2),
        "pairs_a_shard": round(pairs / len(tasks)),
        **describe("numpy", "h5py"),
    }
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
