"""Measure the cost of scheduling: a simulated table of clips in the real graph, without computation.

    python -c "from benchmarks.overhead import measure; measure(100_000)"
    python -c "from benchmarks.overhead import measure; measure(1_000_000, clips_per_shard=100)"

`deiii.pipeline.preprocess.graph.preprocess` runs unchanged (plan, keys, cluster, tasks, indices,
summary), except for the function that makes a shard: it returns a record of the shard's clips at once and
writes no file.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time

from deiii.data.cache.index import ShardRecord
from deiii.data.cache.shards import ClipRow
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip, Corpus
from deiii.pipeline.preprocess import graph
from deiii.pipeline.stages.shard import ShardTask

CLIPS_A_SPEAKER = 100


def nothing(task: ShardTask) -> ShardRecord:
    """Return the record of a shard as a worker returns it, without any computation."""
    rows = tuple(ClipRow(c.id, 0, 0, "ok", "", 1.0, "") for c in task.plan.clips)
    return ShardRecord(task.plan.name, "0" * 64, 0, "0" * 64, {}, rows)


def table(clips: int) -> Corpus:
    """Return a simulated corpus, whose media files do not exist."""
    names = [(f"s{n // CLIPS_A_SPEAKER:05d}", f"{n % CLIPS_A_SPEAKER:03d}") for n in range(clips)]
    made = tuple(Clip(f"{s}/{c}", f"{s}/{c}.mp4", s, ("a", "b")[int(c) % 2]) for s, c in names)
    return Corpus("simulated", "/simulated", ("a", "b"), made)


def measure(clips: int, workers: int = 2, clips_per_shard: int = 16) -> None:
    """Run and print one line of JSON: seconds, ms per clip and per task, MB of this process."""
    graph.run_shard = nothing
    corpus = table(clips)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        config = Config(cache=cache, workers=workers)
        config.corpus.clips_per_shard = clips_per_shard
        summary = graph.preprocess(config, corpus, say=lambda line: None)
        seconds = time.perf_counter() - start
    assert all(count["ok"] == clips for count in summary.counts.values())
    found = {
        "clips": clips,
        "shards_and_stages": summary.computed,
        "seconds": round(seconds, 1),
        "ms_per_clip": round(seconds / clips * 1000, 3),
        "ms_per_task": round(seconds / summary.computed * 1000, 3),
        "main_process_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "main_process_mb_before": round(before),
    }
    print(json.dumps(found), file=sys.stdout, flush=True)
