"""Compare our loader with h5py in a DataLoader, LitData, WebDataset and memcpy, from warm caches.

    python -m benchmarks.loader [--runs 7] [--clips 320] [--cache bench-cache/loader]

Makes its own cache of about 1 GB first. All loaders deliver the same tensors of every clip (16 random
frames uint8, their int8 flow with scales, the log-mel) on the CPU, ours before casting and augmentation.
They run in turn, and medians over the runs are compared; clips/s are of whole epochs including their
start. `memcpy` copies the same number of bytes, one clip at a time, into the same number of buffers, with
one or two threads, of which the faster counts: once from the mapped shard files, and, as an upper limit,
from an array in memory, for which the system uses huge pages. Its ratios are medians of the ratios of the
runs. Cold: a fresh process whose shard files were dropped from the page cache reads one epoch. Opening is
measured on 10,000 clips in 625 shards per stage, without the check of every byte by training
(`check=bytes`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import loader_peers as peers
from benchmarks.feature_cache import KEYS, MADE_FROM, cache_settings, open_cache
from benchmarks.machine import describe
from deiii.data.cache.index import read_index, stage_folder, write_index, write_table
from deiii.data.config.schema import LoaderConfig
from deiii.data.corpora.clips import Corpus
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader

STEPS, BATCH, FRAMES = 16, 32, 50
EPOCHS = 5  # of our loader per run; one takes a few hundredths of a second
OPENED = 10_000  # clips of the cache whose opening is timed


def our_loader(features: FeatureSet) -> Loader:
    """Return our loader with the sizes of the benchmark."""
    hops = int(features.streams["logmel"].length.max())
    config = LoaderConfig(
        steps=STEPS, stride=1, audio_steps=hops, crop=112, batch=BATCH, residency="stream", threads=2
    )
    return Loader(features, range(len(features)), config, training=True)


def our_epoch(loader: Loader, number: int) -> tuple[int, int]:
    """Return the clips, and the bytes of the large fields, that one epoch delivered."""
    clips = nbytes = 0
    for batch in loader.compact(number):
        clips += int(batch.real.sum())
        nbytes += batch.frames.nbytes + batch.flow.nbytes + batch.logmel.nbytes
    return clips, nbytes


def peer_epoch(batches) -> int:
    """Return the number of clips that an epoch of another loader delivered."""
    return sum(len(batch["label"]) for batch in batches)


def memcpy_rate(loader: Loader, threads: int, source: str) -> float:
    """Return GB/s of copying the same bytes, one clip at a time, into as many buffers as the loader has.

    Args:
        loader: our loader.
        threads: number of threads that copy.
        source: ``mapped`` copies the pages of the shard files, which the loader reads, one after the
            other; ``array`` copies an array in memory, which has huge pages.
    """
    one = loader.gather.allocate(BATCH)
    size = (one.frames.nbytes + one.flow.nbytes + one.logmel.nbytes) // BATCH
    count, slots = len(loader) * BATCH, (loader.config.ahead + 1) * BATCH
    if source == "array":
        pieces = list(np.ones((count, size), np.uint8))
    else:
        streams = [loader.gather.streams[s] for s in ("faces", "flow")]
        fields = [t.whole(n).reshape(-1).view(np.uint8) for t in streams for n in range(len(t.paths))]
        pieces = [f[i : i + size] for f in fields for i in range(0, len(f) - size + 1, size)]
    ring = np.zeros((slots, size), np.uint8)

    def copy(first: int) -> None:
        for n in range(first, count * EPOCHS, threads):
            np.copyto(ring[n % slots], pieces[n % len(pieces)])

    workers = [threading.Thread(target=copy, args=(i,)) for i in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return size * count * EPOCHS / (time.perf_counter() - start) / 1e9


def drop_from_page_cache(features: FeatureSet) -> None:
    """Ask the system to remove the shard files from its page cache."""
    for stream in features.streams.values():
        for path in stream.paths:
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def cold_epoch(cache: Path) -> float:
    """Return GB/s of a fresh process's first epoch after its files left the page cache."""
    command = [sys.executable, "-m", "benchmarks.loader", "--cold", "--cache", str(cache)]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


def print_cold_rate(cache: Path) -> None:
    """Print the rate of one epoch; runs in the fresh process of `cold_epoch`."""
    features = open_cache(cache, **json.loads((cache / "made.json").read_text(encoding="utf-8")))
    drop_from_page_cache(features)
    loader = our_loader(features)
    started = time.perf_counter()
    _, nbytes = our_epoch(loader, 0)
    print(nbytes / (time.perf_counter() - started) / 1e9)


def opening_seconds(cache: Path) -> float:
    """Return the time to open a cache of many clips, whose shards are links to one, and set a loader up."""
    root = cache.with_name(f"{cache.name}-{OPENED}")
    if not root.is_dir():
        _many_clips(root, OPENED)
    config = cache_settings(root)
    start = time.perf_counter()
    features = FeatureSet.open(config, KEYS)
    loader = Loader(features, range(len(features)), LoaderConfig(crop=8), training=True)
    seconds = time.perf_counter() - start
    assert len(features) == OPENED and len(loader)
    return seconds


def _many_clips(root: Path, clips: int) -> None:
    """Write ``clips`` clips of 8 px in shards of 16, each shard a hard link to the first."""
    small = root.with_name(f"{root.name}-one")
    one = open_cache(small, 16, frames=8, size=8, speakers=1)
    name = one.corpus.name
    shards = clips // 16

    def rename(clip, n):
        return replace(clip, id=f"{n:04d}-{clip.id}")

    table = tuple(rename(c, n) for n in range(shards) for c in one.corpus.clips)
    (root / name).mkdir(parents=True)
    write_table(root, Corpus(name, MADE_FROM, one.classes, table, {}))
    for stage, key in KEYS.items():
        source, target = (stage_folder(r, name, stage, key) for r in (small, root))
        target.mkdir()
        index = read_index(source)
        records = []
        for n in range(shards):
            (record,) = index.shards
            rows = tuple(rename(c, n) for c in record.clips)
            records.append(replace(record, name=f"{n:05d}", clips=rows))
            os.link(source / f"{record.name}.h5", target / f"{n:05d}.h5")
        write_index(target, replace(index, shards=records))


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--cache", type=Path, default=Path("bench-cache/loader"))
    parser.add_argument("--cold", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cold:
        return print_cold_rate(options.cache)
    features = open_cache(options.cache, options.clips, FRAMES)
    ours = our_loader(features)
    peer_loaders = make_peers(features, options.cache)

    rates: dict[str, list[float]] = {name: [] for name in ("ours", *peer_loaders)}
    copies: dict[tuple[int, str], list[float]] = {(t, s): [] for s in ("mapped", "array") for t in (1, 2)}
    gb_per_s: list[float] = []
    for start in peer_loaders.values():  # workers start, files enter the page cache
        peer_epoch(start())
    our_epoch(ours, 0)
    for run in range(options.runs):
        started = time.perf_counter()
        done = [our_epoch(ours, 1 + run * EPOCHS + n) for n in range(EPOCHS)]
        seconds = time.perf_counter() - started
        rates["ours"].append(sum(c for c, _ in done) / seconds)
        gb_per_s.append(sum(n for _, n in done) / seconds / 1e9)
        for way, found in copies.items():
            found.append(memcpy_rate(ours, *way))
        for name, start in peer_loaders.items():
            started = time.perf_counter()
            clips = peer_epoch(start())
            rates[name].append(clips / (time.perf_counter() - started))
    middle = {name: statistics.median(r) for name, r in rates.items()}
    for name, rate in middle.items():
        low, high = min(rates[name]), max(rates[name])
        print(f"{name:22s} {rate:8.0f} clips/s  (from {low:.0f} to {high:.0f})")
    memcpy = {f"{s}, {t} threads": round(statistics.median(found), 2) for (t, s), found in copies.items()}
    ratio = {
        source: statistics.median(
            ours / max(both)
            for ours, *both in zip(gb_per_s, copies[1, source], copies[2, source], strict=True)
        )
        for source in ("mapped", "array")
    }
    print(f"memcpy                 {memcpy} GB/s")
    cold = statistics.median(cold_epoch(options.cache) for _ in range(3))
    opening = statistics.median(opening_seconds(options.cache) for _ in range(3))
    print(f"cold cache             {cold:.2f} GB/s; opening {OPENED:,} clips {opening:.2f} s")

    same_job = {n: r for n, r in middle.items() if n.endswith("whole")}
    easier = {n: r for n, r in middle.items() if n.endswith("sampled")}
    best_h5py = max(r for n, r in middle.items() if n.startswith("h5py"))
    best, best_easier = max(same_job, key=same_job.get), max(easier, key=easier.get)
    result = {
        "bench": "loader",
        "clips_per_s": round(middle["ours"]),
        "gb_per_s": round(statistics.median(gb_per_s), 2),
        "ratio_memcpy": round(ratio["mapped"], 3),
        "ratio_memcpy_array": round(ratio["array"], 3),
        "ratio_h5py_dataloader": round(middle["ours"] / best_h5py, 2),
        "ratio_best_peer": round(middle["ours"] / same_job[best], 2),
        "best_peer": best,
        "ratio_best_peer_sampled": round(middle["ours"] / easier[best_easier], 2),
        "best_peer_sampled": best_easier,
        "memcpy_gb_per_s": memcpy,
        "cold_gb_per_s": round(cold, 2),
        "open_10000_clips_s": round(opening, 3),
        "runs": options.runs,
        **describe("torch", "h5py", "litdata", "webdataset", "numpy"),
    }
    print("RESULT " + json.dumps(result))


def make_peers(features: FeatureSet, cache: Path) -> dict[str, Callable]:
    """Return the other loaders, keyed by name; writes their formats beside our cache."""
    made: dict[str, Callable] = {
        "h5py slab": peers.h5py_loader(features, STEPS, BATCH, slab=True),
        "h5py by frame": peers.h5py_loader(features, STEPS, BATCH, slab=False),
    }
    for kind, steps in (("whole", None), ("sampled", STEPS)):
        folder = cache.with_name(f"{cache.name}-litdata-{kind}")
        peers.write_litdata(features, folder, steps)
        made[f"litdata {kind}"] = peers.litdata_loader(folder, STEPS, BATCH)
        folder = cache.with_name(f"{cache.name}-webdataset-{kind}")
        peers.write_webdataset(features, folder, steps)
        like = peers.clip_sample(features, 0, steps)
        made[f"webdataset {kind}"] = peers.webdataset_loader(folder, like, STEPS, BATCH)
    return made


if __name__ == "__main__":
    main()
