"""One process of `benchmarks.gpu_parts.flow.part_stage`: compute flow shards for some seconds, count pairs.

    python -m benchmarks.gpu_parts.shards THREADS BEGIN [KEY=VALUE ...]

``BEGIN`` is the time, in s since 1970, at which all processes begin. The last line is a result in JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from benchmarks.feature_cache import KEYS
from benchmarks.gpu_parts.common import DATA, WEIGHTS, WORK, cache, cache_folder, small
from deiii.data.cache.index import read_index, stage_folder
from deiii.data.cache.recipes import recipes
from deiii.data.cache.shard_plan import ShardPlan
from deiii.data.config.load import load_config, to_yaml
from deiii.pipeline.stages.shard import ShardTask, run_shard

SECONDS = 4.0


def main() -> None:
    threads, begin, *words = sys.argv[1:]
    features = cache(32 if small() else 96)
    by_id = {clip.id: clip for clip in features.corpus.clips}
    faces = stage_folder(cache_folder(len(by_id)), features.corpus.name, "faces", KEYS["faces"])
    plans = [ShardPlan(s.name, tuple(by_id[r.id] for r in s.clips)) for s in read_index(faces).shards]
    weights = f"flow.weights={DATA / 'weights' / WEIGHTS['raft_small']}"
    config = load_config(
        overrides=["flow.method=raft", weights, "flow.device=cuda", "flow.precision=float16", *words]
    )
    out = WORK / f"flow-{os.getpid()}"
    out.mkdir(parents=True)
    recipe, text = recipes(config)["flow"], to_yaml(config)
    tasks = [ShardTask(recipe, plan, "/nowhere", str(out), str(faces), text) for plan in plans]
    for task in tasks[:2]:
        run_shard(task)
    late = max(0.0, time.time() - float(begin))
    time.sleep(max(0.0, float(begin) - time.time()))
    end = time.time() + SECONDS
    done: list[int] = []  # pairs of each shard

    def work(first: int) -> None:
        number = first
        while time.time() < end:
            record = run_shard(tasks[number % len(tasks)])
            if time.time() < end:
                done.append(sum(clip.stop - clip.start - 1 for clip in record.clips))
            number += int(threads)

    running = [threading.Thread(target=work, args=(n,)) for n in range(int(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    print(json.dumps({"pairs_per_s": round(sum(done) / SECONDS, 1), "late_s": round(late, 1)}))


if __name__ == "__main__":
    main()
