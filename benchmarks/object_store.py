"""Count the requests and bytes with which training would read caches from an object store.

    python -m benchmarks.object_store

Uses real shards (`benchmarks.feature_cache`) and the loader's own sampling over one epoch; the ranges are
those that the loader copies from the mapped files. No object store is involved: this counts requests and
bytes for three ways to request the same clips.

rows     one request per run of neighbouring rows (two rows less than GAP bytes apart are one run)
span     one request per clip and field, from its first row to its last
shard    the whole file, once per epoch, with all of its clips used
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.feature_cache import open_cache
from benchmarks.machine import describe
from deiii.data.config.load import load_config
from deiii.data.loader.gather import Sampled
from deiii.data.loader.loader import Loader

GAP = 64 * 1024  # bytes; a smaller gap is read instead of making another request
WAYS = ("rows", "span", "shard")


@dataclass
class Reads:
    """The requests and bytes of one way."""

    sizes: list[int] = field(default_factory=list)  # bytes of each request
    wanted: int = 0  # bytes that are used

    def summary(self, clips: int) -> dict[str, float]:
        """Return the figures of this way for an epoch of a number of clips."""
        return {
            "requests_per_clip": round(len(self.sizes) / clips, 3),
            "kb_per_request_median": round(median(self.sizes) / 1e3, 1),
            "mb_read_per_clip": round(sum(self.sizes) / clips / 1e6, 4),
            "share_used": round(self.wanted / sum(self.sizes), 3),
        }


def clip_rows(loader: Loader, sampled: Sampled, b: int) -> dict[str, np.ndarray]:
    """Return the rows of each large field that clip ``b`` of a batch reads, counted from the clip's start."""
    steps = np.unique(sampled.at[b])  # masked steps of a clip refer to its first frame
    start, count = sampled.runs["logmel"]
    hops = start[b] + np.arange(count[b])
    return {stage: hops if stage == "logmel" else steps for stage in loader.gather.large}


def runs(rows: np.ndarray, row_bytes: int, gap: int) -> list[int]:
    """Return the bytes of the requests for some rows, if rows less than ``gap`` bytes apart share a request.

    >>> runs(np.array([0, 1, 5]), row_bytes=10, gap=15)
    [20, 10]
    """
    cuts = np.flatnonzero((np.diff(rows) - 1) * row_bytes > gap) + 1
    return [int(part[-1] - part[0] + 1) * row_bytes for part in np.split(rows, cuts) if len(part)]


def measure(cache: Path, clips: int, frames: int, words: list[str]) -> dict[str, object]:
    """Return the requests and bytes of one epoch for each way."""
    features = open_cache(cache, clips, frames)
    config = load_config([w for w in words if w.endswith(".yaml")], [w for w in words if "=" in w])
    loader = Loader(features, np.arange(len(features.clips)), config.loader, training=True)
    found = {way: Reads() for way in WAYS}
    for rows in loader.batches(0):
        sampled = loader.gather.sample(rows, 0)
        for b, row in enumerate(rows):
            if row < 0:
                continue
            for stage, places in clip_rows(loader, sampled, b).items():
                stream = loader.gather.streams[stage]
                if not len(places) or not stream.length[row]:
                    continue
                size = stream.row_bytes
                found["rows"].sizes += runs(places, size, GAP)
                found["span"].sizes.append(int(places[-1] - places[0] + 1) * size)
                for way in WAYS:
                    found[way].wanted += len(places) * size
    files = sorted(path for stage in loader.gather.streams.values() for path in set(stage.paths))
    found["shard"].sizes = [path.stat().st_size for path in files]
    return {
        "clips": clips,
        "frames": frames,
        "shards": len(files),
        "mb_per_clip": round(sum(found["shard"].sizes) / clips / 1e6, 3),
        **{way: reads.summary(clips) for way, reads in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m benchmarks.object_store", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--clips", type=int, default=160, help="default: %(default)s, of 3.8 MB")
    parser.add_argument("--frames", type=int, default=60, help="of a clip (default: %(default)s)")
    parser.add_argument("--cache", help="folder for the shards (default: a temporary folder)")
    parser.add_argument("settings", nargs="*", default=["configs/base.yaml"], help="default: %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(args.cache or folder), args.clips, args.frames, args.settings)
    for way in WAYS:
        row = found[way]
        requests = (
            f"{row['requests_per_clip']:7.2f} requests per clip of {row['kb_per_request_median']:9.1f} kB"
        )
        print(f"{way:6} {requests}, {row['mb_read_per_clip']:6.2f} MB per clip, {row['share_used']:.0%} used")
    print("RESULT " + json.dumps({"bench": "object_store", **found, "gap": GAP, **describe("torch", "h5py")}))


if __name__ == "__main__":
    main()
