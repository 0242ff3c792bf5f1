"""The flow stage: signs and axes, validity, order, batches and memory errors."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.optical_flow import raft_small

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.outcomes import Status
from deiii.data.config.schema import FlowConfig
from deiii.data.tools.devices import DeviceError
from deiii.pipeline.flow.engines import PairEngine
from deiii.pipeline.flow.raft.engine import RaftBatches, fitting_batch
from deiii.pipeline.flow.raft.network import RaftEngine
from deiii.pipeline.flow.stage import FaceClip, compute_flow, load_engine, usable_pairs


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before)


def sliding(n, size=64, u=1.0, v=0.0, seed=0):
    """A clip of a smooth random image that moves by (u, v) px a frame."""
    rng = np.random.default_rng(seed)
    side = size + 64
    big = cv2.resize(rng.integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8), (side, side),
                     interpolation=cv2.INTER_CUBIC)  # fmt: skip
    moves = [np.array([[1, 0, i * u - 32], [0, 1, i * v - 32]], np.float32) for i in range(n)]
    frames = np.stack([cv2.warpAffine(big, m, (size, size)) for m in moves])
    return FaceClip(frames, np.arange(n) / 25.0, np.ones(n, bool))


def run(clips, engine=None, **settings):
    config = FlowConfig(**settings)
    return list(compute_flow(iter(clips), config, engine or load_engine(config)))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return raft_small(weights=None).eval()


@pytest.mark.parametrize("method", ["dis", "tvl1"])
@pytest.mark.parametrize("u,v", [(1.5, 0.0), (0.0, -1.0)])
def test_u_is_right_and_v_is_down(method, u, v):
    (result,) = run([sliding(3, u=u, v=v)], method=method)
    middle = decode_flow(result.arrays)[:2, 16:-16, 16:-16].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(middle, [u, v], atol=0.15)


@pytest.mark.parametrize("size", [100, 128, 130])
def test_raft_agrees_in_sign_axis_and_unit_whatever_the_crop(test_data, size):
    weights = str(test_data / "weights" / "raft_small_princeton.pth")
    (result,) = run([sliding(3, size, 2.0, -1.0)], method="raft", weights=weights, device="cpu")
    flow = decode_flow(result.arrays)
    assert flow.shape == (3, size, size, 2)
    np.testing.assert_allclose(flow[:2, 24:-24, 24:-24].mean(axis=(0, 1, 2)), [2.0, -1.0], atol=0.15)


@pytest.mark.parametrize("storage", ["int8", "float16"])
def test_fields_last_step_and_time(storage):
    clip = sliding(4)
    (result,) = run([clip], storage=storage)
    arrays = result.arrays
    assert result.outcome.status == Status.OK and result.outcome.fraction == 1.0
    assert set(arrays) == {"flow", "valid", "time"} | ({"scale"} if storage == "int8" else set())
    assert arrays["flow"].dtype == np.dtype(storage)
    assert arrays["valid"].tolist() == [True, True, True, False]
    assert not arrays["flow"][3].any() and arrays["flow"][:3].any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(arrays["time"], clip.time)


def test_a_missing_face_makes_both_its_steps_zero_and_invalid():
    clip = sliding(6)
    clip.valid[2] = False
    clip.frames[2] = 0
    (result,) = run([clip])
    assert result.arrays["valid"].tolist() == [True, False, False, True, True, False]
    assert not result.arrays["flow"][[1, 2]].any() and not result.arrays["scale"][[1, 2]].any()
    assert result.outcome.status == Status.OK_PARTIAL and result.outcome.fraction == 3 / 5


def test_no_flow_across_a_cut_or_a_gap_in_time():
    one, other = sliding(4, seed=1), sliding(4, seed=2)
    cut = FaceClip(np.concatenate([one.frames, other.frames]), np.arange(8) / 25.0, np.ones(8, bool))
    assert usable_pairs(cut).tolist() == [True] * 3 + [False] + [True] * 3 + [False]
    hole = sliding(6)
    hole.time[3:] += 0.2
    assert usable_pairs(hole).tolist() == [True, True, False, True, True, False]


def test_clips_without_a_usable_step():
    results = run([sliding(1), FaceClip(*(a[:0] for a in vars(sliding(2)).values()))])
    assert [r.outcome.status for r in results] == [Status.TOO_SHORT] * 2 and not results[0].arrays
    clip = sliding(3)
    clip.valid[1] = False
    (result,) = run([clip])
    assert result.outcome.status == Status.OK_PARTIAL and result.outcome.fraction == 0
    assert not result.arrays["flow"].any()


def clips_of_many_lengths():
    clips = [sliding(n, seed=n) for n in (3, 1, 5, 2, 4)]
    clips[2].valid[2] = False
    return clips


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_order_and_results_do_not_depend_on_batches(network, batch):
    alone = [
        run([c], RaftBatches(RaftEngine(network, 1), "float16", 8), storage="float16")[0]
        for c in clips_of_many_lengths()
    ]
    engine = RaftBatches(RaftEngine(network, 1), "float16", batch)
    calls = []
    submit = engine.submit
    engine.submit = lambda f, first, c: calls.append(len(first)) or submit(f, first, c)
    together = run(clips_of_many_lengths(), engine, storage="float16")
    assert sum(calls) == 8 and max(calls) <= batch
    for a, b in zip(alone, together, strict=True):
        assert a.outcome == b.outcome and set(a.arrays) == set(b.arrays)
        if a.arrays:
            np.testing.assert_array_equal(a.arrays["valid"], b.arrays["valid"])
            difference = a.arrays["flow"].astype(np.float32) - b.arrays["flow"].astype(np.float32)
            assert np.abs(difference).max() <= 1e-4 + np.abs(a.arrays["flow"]).max() / 1000


def test_clips_of_different_sizes_are_not_mixed():
    results = run([sliding(2, 64), sliding(3, 48), sliding(2, 64)], PairEngineOf3("dis", "int8"))
    assert [r.arrays["flow"].shape[:2] for r in results] == [(2, 64), (3, 48), (2, 64)]


class PairEngineOf3(PairEngine):
    batch = 3


def test_results_come_before_later_clips_are_read():
    """Memory is bounded: the first clip is handed over while later ones are still unread."""
    read = []

    def clips():
        for n in range(5):
            read.append(n)
            yield sliding(4, seed=n)

    config = FlowConfig()
    next(compute_flow(clips(), config, load_engine(config)))
    assert read[-1] <= 2


def test_a_batch_that_does_not_fit_is_halved(network):
    class Tight(RaftEngine):
        sizes: list[int] = []

        def flow(self, frames, first=None, continues=False):
            self.sizes.append(len(first))
            if len(first) > 2:
                raise torch.OutOfMemoryError("injected")
            return super().flow(frames, first, continues)

    clips = [sliding(7), sliding(4, seed=3)]
    plain = run(clips, RaftBatches(RaftEngine(network, 1), "float16", 8), storage="float16")
    engine = RaftBatches(Tight(network, 1), "float16", 8)
    halved = run(clips, engine, storage="float16")
    assert engine.batch == 2 and Tight.sizes[0] == 8
    for a, b in zip(plain, halved, strict=True):
        np.testing.assert_allclose(a.arrays["flow"], b.arrays["flow"], atol=1e-2, rtol=1e-3)

    class Hopeless(RaftEngine):
        def flow(self, frames, first=None, continues=False):
            raise torch.OutOfMemoryError("injected")

    with pytest.raises(torch.OutOfMemoryError):
        run(clips, RaftBatches(Hopeless(network, 1), "int8", 4))


def test_a_short_batch_that_does_not_fit_leaves_the_others_as_they_are(network):
    class Sometimes(RaftEngine):
        full = False

        def flow(self, frames, first=None, continues=False):
            if self.full and len(first) > 1:
                raise torch.OutOfMemoryError("injected")
            return super().flow(frames, first, continues)

    engine = RaftBatches(Sometimes(network, 1), "float16", 4)
    frames = np.zeros((5, 128, 128, 3), np.uint8)
    engine.engine.full = True
    engine.submit(frames[:4], np.arange(3), False)()
    assert engine.batch == 4
    engine.submit(frames, np.arange(4), False)()
    assert engine.batch == 1


def test_batches_grow_again_when_memory_is_free_again(network, monkeypatch):
    class Twice(RaftEngine):
        left = 2

        def flow(self, frames, first=None, continues=False):
            if self.left and len(first) > 1:
                self.left -= 1
                raise torch.OutOfMemoryError("injected")
            return torch.zeros(len(first), *frames.shape[1:3], 2)

    engine = RaftBatches(Twice(network, 1), "float16", 4)
    frames = np.zeros((5, 128, 128, 3), np.uint8)
    sizes = []
    for _ in range(200):
        sizes.append(engine.batch)
        engine.submit(frames[: engine.batch + 1], np.arange(engine.batch), False)()
    assert sizes[0] == 4 and sizes[1] == 1 and 2 in sizes and sizes[-1] == 4


def test_threads_share_an_engine(network):
    """Each thread has clips of its own; the features that the engine holds are never another thread's."""
    clips = [[sliding(n, 128, seed=10 * k + n) for n in (5, 7, 3)] for k in range(3)]
    alone = [run(c, RaftBatches(RaftEngine(network, 1), "float16", 2), storage="float16") for c in clips]
    engine = RaftBatches(RaftEngine(network, 1), "float16", 2)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda c: run(c, engine, storage="float16"), clips))
    for a, b in zip(alone, together, strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one.arrays["flow"], other.arrays["flow"], atol=1e-2, rtol=1e-3)


class Recording(PairEngine):
    """Flow of a pair is the sum of its first frame and twice that of its second."""

    def __init__(self, batch):
        super().__init__("dis", "float16")
        self.batch, self.sizes = batch, []

    def submit(self, frames, first, continues):
        self.sizes.append(len(first))
        sums = frames[first].astype(int).mean((1, 2, 3)) + 2 * frames[first + 1].astype(int).mean((1, 2, 3))
        flow = np.zeros((len(first), *frames.shape[1:3], 2), np.float16) + sums[:, None, None, None]
        return lambda: {"flow": flow.astype(np.float16), "finite": np.ones(len(first), bool)}


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    sizes=st.lists(st.sampled_from([8, 16]), min_size=6, max_size=6),
    batch=st.integers(1, 7),
    gaps=st.sets(st.integers(0, 60)),
)
def test_every_usable_step_is_computed_once_and_lands_in_its_place(lengths, sizes, batch, gaps):
    clips, frame = [], 0
    for n, size in zip(lengths, sizes, strict=False):
        levels = np.arange(frame, frame + n) % 200
        frames = np.zeros((n, size, size, 3), np.uint8) + levels[:, None, None, None].astype(np.uint8)
        valid = np.array([frame + i not in gaps for i in range(n)], bool)
        clips.append(FaceClip(frames, np.arange(n) / 25, valid))
        frame += n
    engine = Recording(batch)
    results = run(clips, engine, storage="float16")
    expected = 0
    for clip, result in zip(clips, results, strict=True):
        n = len(clip.time)
        if n < 2:
            continue
        for i in range(n):
            usable = i + 1 < n and clip.valid[i] and clip.valid[i + 1]
            usable = usable and abs(int(clip.frames[i, 0, 0, 0]) - int(clip.frames[i + 1, 0, 0, 0])) <= 20
            levels = clip.frames[i : i + 2, 0, 0, 0].astype(int)
            value = levels[0] + 2 * levels[1] if usable else 0
            assert result.arrays["valid"][i] == usable
            assert (result.arrays["flow"][i] == np.float16(value)).all()
            expected += usable
    assert sum(engine.sizes) == expected and all(size <= batch for size in engine.sizes)


def test_flow_that_is_not_finite_is_zero_and_invalid(network):
    class Broken(RaftEngine):
        def flow(self, frames, first=None, continues=False):
            flow = torch.ones(len(first), *frames.shape[1:3], 2)
            flow[1, 0, 0, 0] = float("nan")
            return flow

    (result,) = run([sliding(4)], RaftBatches(Broken(network, 1), "int8", 8))
    assert result.arrays["valid"].tolist() == [True, False, True, False]
    assert not result.arrays["flow"][1].any()


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_the_same_clip_gives_the_same_bytes(method):
    first, second = (run([sliding(3)], method=method)[0].arrays for _ in range(2))
    assert all(first[k].tobytes() == second[k].tobytes() for k in first)


def test_a_missing_gpu_is_an_error_that_names_the_setting(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="flow.device=cuda"):
        load_engine(FlowConfig(method="raft", device="cuda"))


@pytest.mark.parametrize("free_gib,size", [(0.01, 128), (4, 128), (4, 512), (80, 128)])
def test_the_batch_follows_the_free_memory(monkeypatch, network, free_gib, size):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free_gib * 2**30), 80 * 2**30))
    batch = fitting_batch(RaftEngine(network, 1), size)
    assert 1 <= batch <= 512 and batch & (batch - 1) == 0
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(4 * free_gib * 2**30), 80 * 2**30))
    assert batch <= fitting_batch(RaftEngine(network, 1), size) <= max(4, 4 * batch)


def test_long_clips_keep_their_flow_on_disk(monkeypatch):
    (short,) = run([sliding(6)])
    monkeypatch.setattr("deiii.pipeline.flow.stage.IN_MEMORY", 1000)
    (long,) = run([sliding(6)])
    assert isinstance(long.arrays["flow"], np.memmap) and not isinstance(short.arrays["flow"], np.memmap)
    np.testing.assert_array_equal(long.arrays["flow"], short.arrays["flow"])


def test_tvl1_without_contrib_names_the_package(monkeypatch):
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(RuntimeError, match="opencv-contrib-python"):
        load_engine(FlowConfig(method="tvl1"))


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_opencvs_methods_load_no_pytorch(method):
    """It would take hundreds of MB of every worker of the default settings."""
    code = f"""
import sys
import numpy as np
import deiii.pipeline.faces.stage, deiii.pipeline.logmel.stage, deiii.pipeline.stages.shard
from deiii.data.config.schema import FlowConfig
from deiii.data.tools.devices import DeviceError
from deiii.pipeline.flow.stage import compute_flow, load_engine
class Clip: frames, time, valid = np.zeros((2, 32, 32, 3), np.uint8), np.arange(2) / 25, np.ones(2, bool)
config = FlowConfig(method={method!r})
assert len(list(compute_flow([Clip], config, load_engine(config)))) == 1
assert "torch" not in sys.modules, sorted(m for m in sys.modules if m.startswith("torch"))[:3]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
