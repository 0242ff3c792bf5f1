"""Limits of the loader: memory, file handles, and a disk that does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deiii.data.cache.index import read_index, stage_folder, write_index, write_table
from deiii.data.config.load import to_yaml
from deiii.data.corpora.clips import Corpus
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.data.loader.mapped_files import Maps
from deiii.data.loader.prefetch import Prefetcher, Stuck
from tests.helpers.caches import CORPUS, KEYS, make_cache
from tests.helpers.waiting import PATIENCE_S

ROOT = Path(__file__).parents[3]


def environment() -> dict[str, str]:
    """Of processes that import the tests' modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


# In a process of its own: threads and caches of other tests are part of the memory of theirs.
FIFTY_EPOCHS = """
import sys, threading
import psutil
from deiii.data.config.load import load_config
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from tests.data.loader.test_loader_limits import open_files
from tests.helpers.caches import KEYS
config = load_config([sys.argv[1]])
features = FeatureSet.open(config, KEYS)
loader = Loader(features, range(24), config.loader, training=True)
def run(epochs):
    for n in epochs:
        for _ in loader.epoch(n):
            pass
    return psutil.Process().memory_info().rss
settled = run(range(10))
files, threads = open_files(), set(threading.enumerate())
print(run(range(10, 60)) - settled, len(open_files() - files), len(set(threading.enumerate()) - threads))
"""


def test_memory_stays_flat_over_fifty_epochs(tmp_path):
    config = make_cache(tmp_path, [40] * 24, [60] * 24, size=48)
    config.loader.batch = 4
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    done = subprocess.run(
        [sys.executable, "-c", FIFTY_EPOCHS, str(tmp_path / "config.yaml")],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown, files, threads = map(int, done.stdout.split())
    assert grown < 8 << 20
    assert files == threads == 0


def open_files() -> Counter[str]:
    """The targets of this process's file descriptors, each with the number of its descriptors."""
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since the folder was read
            found[os.readlink(link)] += 1
    return found


def many_shards(root: Path, shards: int):
    """A cache of ``shards`` shards a stage, all hard links to one file; returns its settings."""
    config = make_cache(root / "one", [2] * 4, [4] * 4)
    one = FeatureSet.open(config, KEYS)
    first = one.clips[0]

    def rename(clip, n):
        return replace(clip, id=f"{n:05d}-{first.id}")

    (root / "many" / CORPUS).mkdir(parents=True)
    table = tuple(rename(first, n) for n in range(shards))
    write_table(root / "many", Corpus(CORPUS, "/nowhere", one.classes, table, one.ranges))
    for stage, key in KEYS.items():
        source, target = (stage_folder(r, CORPUS, stage, key) for r in (root / "one", root / "many"))
        target.mkdir()
        index = read_index(source)
        (record,) = [r for r in index.shards if r.clips[0].id == first.id]
        records = []
        for n in range(shards):
            os.link(source / f"{record.name}.h5", target / f"{n:05d}.h5")
            records.append(replace(record, name=f"{n:05d}", clips=(rename(record.clips[0], n),)))
        write_index(target, replace(index, shards=records))
    config.cache = str(root / "many")
    return config


def test_a_thousand_shards_cost_no_file_handles(tmp_path):
    config = many_shards(tmp_path, 1000)
    features = FeatureSet.open(config, KEYS)
    assert len(features.streams["faces"].paths) == 1000
    before = open_files()
    rows = range(len(features))
    seen = [
        i for b in Loader(features, rows, config.loader, training=True).epoch(0) for i in b.index.tolist()
    ]
    assert sorted(i for i in seen if i >= 0) == list(rows)
    assert not open_files() - before


def test_maps_are_bounded_and_old_views_stay_valid(tmp_path):
    maps = Maps(most=2)
    views = []
    for n in range(5):
        path = tmp_path / f"{n}.bin"
        path.write_bytes(bytes([n]) * 5000)
        views.append(maps.file(path, 5000))
    assert len(maps) == 2 and all((v == n).all() for n, v in enumerate(views))


def test_a_disk_that_hangs_is_an_error_that_names_the_folder(tmp_path, monkeypatch):
    config = make_cache(tmp_path, [8] * 6, [9] * 6)
    config.loader.timeout = 0.3
    loader = Loader(FeatureSet.open(config, KEYS), range(6), config.loader, training=True)
    free, answered = threading.Event(), []

    def hang(*_):
        free.wait(PATIENCE_S)
        answered.append(True)

    monkeypatch.setattr(loader.gather, "copy", hang)
    with pytest.raises(Stuck, match=r"(?s)loader.timeout=0.3 s.*faces-f+.*reachable"):
        list(loader.epoch(0))
    assert not answered  # the error waits for no answer of the disk
    free.set()


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_threads_that_hang_are_waited_for_together(error):
    """Else the error about a disk that hangs would come after the time limit, times the threads."""
    free, begun = threading.Event(), time.monotonic()
    with pytest.raises(error or Stuck):
        with Prefetcher(
            [0] * 16, lambda slot, n: free.wait(PATIENCE_S), 99, threads=16, patience=0.25
        ) as items:
            if error:
                raise error
            next(iter(items))
    assert time.monotonic() - begun < 2  # one after the other, they would take four seconds
    free.set()


def test_a_read_that_hangs_cannot_change_a_later_epoch(tmp_path, monkeypatch):
    config = make_cache(tmp_path, [8] * 6, [9] * 6)
    config.loader.timeout, config.loader.threads = 0.3, 1
    config.loader.ahead, config.loader.batch = 1, 3  # two buffers, for two batches
    loader = Loader(FeatureSet.open(config, KEYS), range(6), config.loader, training=False)
    right = [batch.label for batch in loader.epoch(0)]
    copy, free, wrote = loader.gather.copy, threading.Event(), threading.Event()

    def late(out, *_):
        free.wait(PATIENCE_S)
        out["label"][:] = 99
        wrote.set()

    monkeypatch.setattr(loader.gather, "copy", late)
    with pytest.raises(Stuck):
        list(loader.epoch(0))
    monkeypatch.setattr(loader.gather, "copy", copy)
    stored = [batch.label for batch in loader.compact(0)]
    free.set()
    assert wrote.wait(PATIENCE_S)
    assert torch.equal(torch.cat(stored), torch.cat(right))


READ = """
import sys
from tests.helpers.caches import KEYS
from deiii.data.config.load import load_config
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
config = load_config(overrides=sys.argv[1:])
features = FeatureSet.open(config, KEYS)
loader = Loader(features, range(len(features)), config.loader, training=True)
print(sum(float(b.frames.double().sum()) for n in range(3) for b in loader.epoch(n)))
"""


def test_trainers_share_a_cache(tmp_path):
    """Two processes that read one read-only cache at once get the same batches."""
    config = make_cache(tmp_path, [8] * 12, [9] * 12)
    for path in tmp_path.rglob("*.h5"):
        path.chmod(0o444)
    words = [
        f"cache={tmp_path}",
        "corpus.root=/nowhere",  # that of make_cache; the default one is there after `make demo`
        "loader.steps=4",
        "loader.audio_steps=9",
        f"loader.crop={config.loader.crop}",
    ]
    command = [sys.executable, "-c", READ, *words]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert printed[0] == printed[1] and np.isfinite(float(printed[0]))
