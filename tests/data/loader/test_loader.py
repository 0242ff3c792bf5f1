"""Batches against a naive h5py reader; order, ranks, resuming, memory and handles."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deiii.data.cache.index import CacheError, stage_folder
from deiii.data.corpora.scan import cache_name
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.data.loader.mapped_files import MapError
from tests.helpers.caches import CORPUS, HOP, KEYS, make_cache

FRAMES = [30, 20, 0, 3, 50, 9, 12, 1, 8, 40, 41, 0]
HOPS = [40, 15, 30, 0, 60, 20, 20, 20, 20, 80, 10, 0]


@pytest.fixture(params=["int8", "float16"])
def opened(request, tmp_path):
    config = make_cache(tmp_path, FRAMES, HOPS, storage=request.param, bad_flow=(1, 6))
    return config, FeatureSet.open(config, KEYS)


@pytest.fixture
def small(tmp_path):
    config = make_cache(tmp_path, FRAMES, HOPS)
    return config, FeatureSet.open(config, KEYS)


def naive(config, clip_id: str) -> dict[str, dict[str, np.ndarray]]:
    """A clip's arrays through h5py alone, found by walking all files."""
    found = {}
    for stage, key in KEYS.items():
        for path in stage_folder(config.cache, cache_name(config.corpus), stage, key).glob("*.h5"):
            with h5py.File(path) as file:
                ids = [i.decode() for i in file["clip_id"]]
                if clip_id in ids:
                    low, high = file["offsets"][ids.index(clip_id) : ids.index(clip_id) + 2]
                    names = [n for n in file if file[n].ndim and n not in
                             ("offsets", "clip_id", "status", "reason", "fraction", "source")]  # fmt: skip
                    if high > low:
                        found[stage] = {n: file[n][low:high] for n in names}
    return found


def same(a, b) -> bool:
    return all(
        torch.equal(torch.nan_to_num(x, 9e9), torch.nan_to_num(y, 9e9))
        for x, y in zip(a.tensors().values(), b.tensors().values(), strict=True)
    )


@pytest.mark.parametrize("residency", ["stream", "ram"])
@pytest.mark.parametrize("training", [False, True])
def test_values_equal_a_naive_reader_bit_for_bit(opened, training, residency):
    config, features = opened
    config.loader.residency = residency
    loader = Loader(features, range(len(features)), config.loader, training=training, attributes=["valence"])
    assert loader.residency == residency and re.search(r"\d\.\d [KM]iB", loader.why)
    seen = []
    for batch in loader.compact(2):
        b = batch.arrays()
        for i, row in enumerate(b["index"]):
            if not b["real"][i]:
                assert row == -1 and b["label"][i] == -1 and not b["soft"][i].any()
                assert not b["video_mask"][i].any() and not b["audio_mask"][i].any()
                assert not b["frames"][i].any() and not b["logmel"][i].any()
                continue
            seen.append(int(row))
            clip = features.clips[row]
            stored = naive(config, clip.id)
            check_video(b, i, stored, config)
            check_audio(b, i, stored, config)
            number = features.classes.index(clip.label) if clip.label else -1
            assert b["label"][i] == number
            valence = clip.attributes.get("valence", np.nan)
            np.testing.assert_equal(b["attributes"][i, 0], np.float32(valence))
            if clip.soft:
                assert b["soft"][i].tolist() == list(clip.soft)
            else:
                assert b["soft"][i].sum() == (number >= 0)
    assert sorted(seen) == list(range(len(features)))


def check_video(b, i, stored, config) -> None:
    faces, flow = stored.get("faces"), stored.get("flow")
    if faces is None:
        assert not b["video_mask"][i].any() and not b["flow_mask"][i].any() and not b["frames"][i].any()
        return
    n = len(faces["time"])
    times = faces["time"].astype(np.float32).tolist()
    steps = [t for t in b["video_time"][i].tolist() if t]
    at = [times.index(t) for t in steps]
    assert at and at == sorted(at) and len({k % config.loader.stride for k in at}) == 1
    grid = len(range(at[0] % config.loader.stride, n, config.loader.stride))
    assert len(at) == min(config.loader.steps, grid)
    for t, k in enumerate(at):
        assert np.array_equal(b["frames"][i, t], faces["frames"][k])
        assert b["video_mask"][i, t] == faces["valid"][k]
        if flow is None:
            assert not b["flow_mask"][i, t] and not b["flow"][i, t].any()
            continue
        assert np.array_equal(b["flow"][i, t], flow["flow"][k])
        assert b["flow_mask"][i, t] == (flow["valid"][k] and faces["valid"][k])
        assert b["scale"][i, t] == (flow["scale"][k] if "scale" in flow else 1)
    assert not b["video_mask"][i, len(at) :].any()


def check_audio(b, i, stored, config) -> None:
    sound = stored.get("logmel")
    mask = b["audio_mask"][i]
    if sound is None:
        assert not mask.any() and not b["logmel"][i].any()
        return
    count = min(len(sound["time"]), config.loader.audio_steps)
    assert mask.tolist() == [k < count for k in range(len(mask))]
    start = sound["time"].astype(np.float32).tolist().index(b["audio_time"][i, 0])
    assert np.array_equal(b["logmel"][i, :count], sound["logmel"][start : start + count])
    assert np.array_equal(b["audio_time"][i, :count], sound["time"][start : start + count].astype(np.float32))
    assert not b["logmel"][i, count:].any() and not b["audio_time"][i, count:].any()
    shown = b["video_time"][i][b["video_time"][i] > 0]
    if len(shown) and count < len(sound["time"]):
        middle = (shown[0] + shown[-1]) / 2
        window = sound["time"][start : start + count]
        at_edge = start in (0, len(sound["time"]) - count)
        assert at_edge or abs(window.mean() - middle) <= HOP


@pytest.mark.parametrize("residency", ["stream", "ram"])
def test_batches_are_the_same_whatever_the_threads_and_residency(small, residency):
    config, features = small
    config.loader.residency = residency
    ways = []
    for threads, ahead in ((1, 1), (2, 3), (5, 8)):
        config.loader.threads, config.loader.ahead = threads, ahead
        loader = Loader(features, range(len(features)), config.loader, training=True, seed=3)
        ways.append([b for n in range(2) for b in loader.epoch(n)])
    for other in ways[1:]:
        assert len(other) == len(ways[0]) and all(map(same, ways[0], other))
    assert not same(ways[0][0], ways[0][len(loader)])  # epochs differ


def test_resuming_continues_the_exact_sequence(small):
    config, features = small
    config.loader.batch = 2
    whole = list(Loader(features, range(11), config.loader, training=True, seed=1).epoch(4))
    fresh = Loader(features, range(11), config.loader, training=True, seed=1)
    rest = list(fresh.epoch(4, start=3))
    assert len(rest) == len(whole) - 3 and all(map(same, whole[3:], rest))
    assert list(fresh.epoch(4, start=len(whole))) == []


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_ranks_are_disjoint_and_complete(small, world):
    config, features = small
    config.loader.batch = 2
    loaders = [
        Loader(features, range(11), config.loader, training=True, rank=r, world=world) for r in range(world)
    ]
    seen = [[i for b in each.epoch(0) for i in b.index[b.real].tolist()] for each in loaders]
    assert sorted(sum(seen, [])) == list(range(11))
    assert len({len(list(each.epoch(1))) for each in loaders}) == 1


def test_shapes_never_change(small):
    config, features = small
    loader = Loader(features, range(11), config.loader, training=True)
    shapes = {
        tuple((name, tuple(x.shape), x.dtype) for name, x in b.tensors().items())
        for n in range(2)
        for b in loader.epoch(n)
    }
    assert len(shapes) == 1


def test_a_batch_survives_the_next(small):
    config, features = small
    config.loader.batch = 1
    loader = Loader(features, range(11), config.loader, training=False)
    kept = list(loader.epoch(0))
    copies = [b for b in loader.epoch(0)]
    assert all(map(same, kept, copies)) and [b.index.item() for b in kept] == list(range(11))


def test_two_open_iterators_do_not_share_buffers(small):
    config, features = small
    config.loader.batch = 2
    loader = Loader(features, range(11), config.loader, training=True, seed=1)
    alone = [list(loader.epoch(number)) for number in range(2)]
    together = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    for number, batches in enumerate(alone):
        assert all(map(same, batches, (pair[number] for pair in together)))
    stopped = loader.epoch(0)
    next(stopped)
    assert all(map(same, alone[1], loader.epoch(1)))
    assert all(map(same, alone[0][1:], stopped))


def test_the_next_epoch_takes_the_buffers_over(small, monkeypatch):
    config, features = small
    loader = Loader(features, range(11), config.loader, training=True)
    made: list[int] = []
    allocate = loader.gather.allocate
    monkeypatch.setattr(loader.gather, "allocate", lambda batch: made.append(batch) or allocate(batch))
    for number in range(3):
        list(loader.epoch(number))
    next(loader.epoch(3))
    list(loader.epoch(4))
    assert len(made) == config.loader.ahead + 1


def test_evaluation_keeps_the_order_of_the_chosen_clips(small):
    config, features = small
    chosen = [7, 2, 9, 4]
    loader = Loader(features, chosen, config.loader, training=False)
    (batch,) = loader.epoch(5)
    assert batch.index.tolist() == [*chosen, -1] and batch.real.tolist() == [True] * 4 + [False]


def test_switches_leave_streams_out(small):
    config, features = small
    (batch, *_) = Loader(features, range(5), config.loader, training=False, flow=False, audio=False).epoch(0)
    assert batch.flow.numel() == 0 and batch.logmel.numel() == 0 and batch.frames.numel()
    assert not batch.flow_mask.any() and not batch.audio_mask.any() and batch.video_mask.any()
    (batch, *_) = Loader(features, range(5), config.loader, training=False, video=False, flow=False).epoch(0)
    assert batch.frames.numel() == 0 and not batch.video_mask.any() and batch.audio_mask.any()


def test_time_shift_moves_the_sounds_clock_and_content_together(small):
    config, features = small
    config.loader.time_shift = 0.05
    plain = Loader(features, range(11), config.loader, training=False)
    (straight, *_) = plain.compact(0)
    before = straight.arrays()["audio_time"].copy()
    order = plain.batches(0)[0]
    loader = Loader(features, range(11), config.loader, training=True)
    loader.gather.fill((slot := loader.gather.allocate(5)).arrays(), order, 0)
    for i, row in enumerate(order):
        stored = naive(config, features.clips[row].id).get("logmel")
        if stored is None:
            continue
        start = [
            k for k in range(len(stored["time"])) if np.array_equal(stored["logmel"][k], slot.logmel[i, 0])
        ][0]
        shift = stored["time"][start] - float(slot.audio_time[i, 0])
        assert 0 < abs(shift) <= 0.05
    assert before.shape == slot.audio_time.shape


def test_leaving_an_epoch_early_stops_its_threads(small):
    config, features = small
    config.loader.batch = 1
    loader = Loader(features, range(11), config.loader, training=True)
    before = set(threading.enumerate())  # a thread of an earlier test may end in the meantime
    epoch = loader.epoch(0)
    next(epoch)
    assert set(threading.enumerate()) - before
    epoch.close()
    assert not set(threading.enumerate()) - before
    assert len(list(loader.epoch(1))) == 11  # and the loader goes on


def test_a_vanished_or_cut_shard_is_an_error_that_names_it(small):
    config, features = small
    folder = stage_folder(config.cache, CORPUS, "flow", KEYS["flow"])
    path = sorted(folder.glob("*.h5"))[0]
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(MapError, match=path.name):
        list(Loader(features, range(11), config.loader, training=True).epoch(0))
    path.unlink()
    with pytest.raises(CacheError, match="missing.*deiii preprocess"):
        FeatureSet.open(config, KEYS)


def test_an_error_in_a_thread_reaches_the_reader(small, monkeypatch):
    config, features = small
    loader = Loader(features, range(11), config.loader, training=True)
    monkeypatch.setattr(loader.gather, "copy", lambda *_: 1 / 0)
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError):
        list(loader.epoch(0))
    assert not set(threading.enumerate()) - before


def test_files_are_never_written(small):
    config, features = small
    files = sorted(Path(config.cache).rglob("*.h5"))
    before = [(f.stat().st_mtime_ns, f.read_bytes()) for f in files]
    list(Loader(features, range(11), config.loader, training=True).epoch(0))
    assert before == [(f.stat().st_mtime_ns, f.read_bytes()) for f in files]
    with pytest.raises(ValueError, match="read-only"):
        features.arrays(0)["faces"]["frames"][:] = 0


@pytest.mark.gpu
@pytest.mark.parametrize("residency", ["stream", "ram", "device"])
def test_the_gpu_gets_the_same_batches(small, residency):
    config, features = small
    config.loader.batch = 2
    expected = list(Loader(features, range(11), config.loader, training=True).epoch(1))
    config.loader.residency = residency
    found = list(Loader(features, range(11), config.loader, training=True, device="cuda").epoch(1))
    for a, b in zip(expected, found, strict=True):
        b = b.to("cpu")
        torch.testing.assert_close(a.frames[a.video_mask], b.frames[b.video_mask], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(a.flow[a.flow_mask], b.flow[b.flow_mask])
        torch.testing.assert_close(a.logmel, b.logmel)
        assert torch.equal(a.index, b.index)
