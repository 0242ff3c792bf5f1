"""Flow of several frames at each step, compared with plain NumPy over the stored arrays, and known motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deiii.data.cache.flow_codec import STEPS
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader import augment as augment_module
from deiii.data.loader.augment import Augment
from deiii.data.loader.augmentation.video import batched
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.data.loader.recording import recording
from deiii.data.loader.residency import hold
from tests.data.loader.test_flow_rate import SPEED, batch_of, speed
from tests.helpers import caches
from tests.helpers.caches import KEYS, SIZE, make_cache

FRAMES = [30, 20, 0, 3, 50, 9, 12, 1, 8, 40, 2]
HOPS = [10] * len(FRAMES)
JOINS = pytest.mark.parametrize("join", ["sum", "stack"])


def features_in(folder, monkeypatch, storage="int8") -> tuple[FeatureSet, object]:
    """Clips of frames at irregular times, of which two have no flow, and the settings of whole crops."""
    regular = caches.clip_arrays

    def irregular(rng, frames, *rest):
        arrays = regular(rng, frames, *rest)
        time = 0.04 + np.cumsum(rng.uniform(0.01, 0.06, frames))
        return {s: a | {"time": time} if a and s != "logmel" else a for s, a in arrays.items()}

    monkeypatch.setattr(caches, "clip_arrays", irregular)
    config = make_cache(folder, FRAMES, HOPS, storage=storage, bad_flow=(1, 9))
    plain = replace(config.loader, crop=SIZE, colour=0.0, spec_masks=0)
    return FeatureSet.open(config, KEYS), plain


def loader_of(features, settings, place="stream", **options) -> Loader:
    """A loader whose large fields are in a place; ``device`` is done with tensors on the CPU."""
    where = replace(settings, residency=place if place != "device" else "stream")
    loader = Loader(features, range(len(features)), where, seed=3, **{"training": True, **options})
    if place == "device":
        loader.gather.held = hold(loader.gather, loader.indices, torch.device("cpu"))
        resident = {stage: held.array for stage, held in loader.gather.held.items()}
        loader.augment = Augment(where, loader.training, resident)
    return loader


def by_hand(features, settings, batch) -> tuple[np.ndarray, np.ndarray]:
    """Flow and mask of a batch from the stored arrays; steps are found by their times."""
    b, t = batch.video_time.shape
    count, flow = settings.flow_frames, np.zeros((b, t, settings.flow_frames, 2, SIZE, SIZE))
    mask = np.zeros((b, t), bool)
    for i, row in enumerate(batch.index.tolist()):
        arrays = features.arrays(row) if row >= 0 else {}
        if "flow" not in arrays:
            continue
        faces, stored = arrays["faces"], arrays["flow"]
        n, time = len(faces["time"]), faces["time"]
        px = stored["flow"].astype(np.float64)
        if "scale" in stored:
            px *= stored["scale"].astype(np.float64)[:, None, None, None]
        if settings.flow_per_second and n > 1:
            px *= (0.04 / np.append(np.diff(time), np.diff(time)[-1]))[:, None, None, None]
        valid = stored["valid"] & faces["valid"]
        for k, second in enumerate(batch.video_time[i].tolist()):
            at = int(np.abs(time - second).argmin())
            if abs(time[at] - second) > 1e-5:
                continue  # a place without a step has the time 0, and no frame is at that time
            mask[i, k] = valid[at]
            for later in range(min(count, n - at)):
                if valid[at + later]:
                    flow[i, k, later] = px[at + later].transpose(2, 0, 1)
    mirrored = flow[..., ::-1] * np.array([-1.0, 1.0])[:, None, None]
    if settings.flip == 1.0:
        flow = mirrored
    joined = flow.sum(axis=2) if settings.flow_join == "sum" else flow.reshape(b, t, -1, SIZE, SIZE)
    return joined, mask


@JOINS
@pytest.mark.parametrize("storage", ["int8", "float16"])
@pytest.mark.parametrize("place", ["stream", "ram", "device"])
@pytest.mark.parametrize("training", [True, False])
def test_batches_hold_the_flow_of_the_next_frames(tmp_path, monkeypatch, join, storage, place, training):
    features, plain = features_in(tmp_path, monkeypatch, storage)
    for count, flip, rate, sampling in ((1, 0.0, True, "segments"), (4, 1.0, True, "segments"),
                                        (64, 0.0, False, "contiguous")):  # fmt: skip
        settings = replace(
            plain, flow_frames=count, flow_join=join, flip=flip * training, flow_per_second=rate,
            sampling=sampling,
        )  # fmt: skip
        seen = 0
        for batch in loader_of(features, settings, place, training=training).epoch(0):
            flow, mask = by_hand(features, settings, batch)
            assert np.array_equal(batch.flow_mask, mask) and batch.flow.dtype == torch.float32
            assert batch.flow.shape == flow.shape
            limit = 1e-5 * STEPS * count if storage == "float16" else 1e-4
            np.testing.assert_allclose(batch.flow.numpy()[mask], flow[mask], rtol=1e-5, atol=limit)
            seen += int(mask.sum())
        assert seen >= 10


@JOINS
def test_where_the_flow_lies_changes_no_batch(tmp_path, monkeypatch, join):
    """Also for clips without flow among others, and for networks that read flow without frames."""
    features, plain = features_in(tmp_path, monkeypatch)
    for video, count in ((True, 1), (False, 1), (True, 3), (False, 3)):
        settings = replace(plain, flow_frames=count, flow_join=join, crop=8, flip=0.5)
        wanted, *others = (loader_of(features, settings, p, video=video) for p in ("stream", "ram", "device"))
        for a, *same in zip(wanted.epoch(0), *(x.epoch(0) for x in others), strict=True):
            for b in same:
                assert torch.equal(a.flow_mask, b.flow_mask)
                assert torch.equal(a.flow[a.flow_mask], b.flow[b.flow_mask])


@JOINS
def test_tensor_operations_and_the_compiled_loop_agree(tmp_path, monkeypatch, join):
    features, plain = features_in(tmp_path, monkeypatch)
    settings = replace(plain, flow_frames=5, flow_join=join, crop=8, flip=0.5, colour=0.2)
    compiled = list(loader_of(features, settings).epoch(0))
    assert len(compiled) == 3
    monkeypatch.setattr(augment_module, "one_pass", batched)
    for a, b in zip(compiled, loader_of(features, settings).epoch(0), strict=True):
        torch.testing.assert_close(a.flow, b.flow, rtol=1e-6, atol=1e-6)
        assert a.flow.stride() == b.flow.stride() and a.flow.stride()[2] == 1


def still_window(begin: float, end: float, *, count: int, join: str, bad=()):
    """What a window of a recording of 20 frames gets, whose stored flow is (1, 2) px everywhere."""
    time, valid = np.arange(20) / 10, np.ones(20, bool)
    flow_valid = ~np.isin(np.arange(20), bad)
    flow = np.broadcast_to(np.array([1, 2], np.float16), (20, 8, 8, 2))
    arrays = {
        "faces": {"frames": np.zeros((20, 8, 8, 3), np.uint8), "time": time, "valid": valid},
        "flow": {"flow": flow, "time": time, "valid": flow_valid},
    }
    settings = LoaderConfig(
        steps=5, stride=1, sampling="contiguous", crop=8, batch=1,
        flow_per_second=False, flow_frames=count, flow_join=join,
    )  # fmt: skip
    features = recording(arrays, [(begin, end)], ("a", "b"))
    batch = next(iter(Loader(features, [0], settings, training=False, audio=False).epoch(0)))
    return batch.flow[0, :, :, 0, 0].tolist(), batch.flow_mask[0].tolist()


def test_a_window_of_a_recording_reads_no_flow_behind_its_end():
    flow, mask = still_window(0.5, 1.0, count=3, join="sum")
    assert flow == [[3, 6], [3, 6], [3, 6], [2, 4], [1, 2]] and all(mask)
    flow, mask = still_window(0.5, 1.0, count=2, join="stack")
    assert flow == [[1, 2, 1, 2]] * 4 + [[1, 2, 0, 0]] and all(mask)


def test_flow_that_is_not_valid_counts_as_zero_and_masks_only_the_step_of_its_frame():
    flow, mask = still_window(0.5, 1.0, count=3, join="stack", bad=(7,))
    assert mask == [True, True, False, True, True]
    assert flow[:2] == [[1, 2, 1, 2, 0, 0], [1, 2, 0, 0, 1, 2]]
    assert flow[3:] == [[1, 2, 1, 2, 0, 0], [1, 2, 0, 0, 0, 0]]


@pytest.mark.parametrize("rate", [12.5, 25.0, 50.0])
def test_the_sum_is_px_in_as_many_25ths_of_a_second(rate):
    """Of frames of a steady motion; the frame rate does not matter unless ``flow_per_second`` is off."""
    times, words = np.arange(0, 2.0, 1 / rate), ["loader.flow_frames=4", "loader.steps=4"]
    words += ["loader.stride=1", "loader.sampling=contiguous"]  # steps in the middle, far from the end
    assert speed(batch_of(times, *words)) == pytest.approx(4 * SPEED / 25, rel=0.1)
    px = batch_of(times, *words, "loader.flow_per_second=false")
    assert speed(px) == pytest.approx(4 * SPEED / rate, rel=0.1)


def test_zoom_rotation_and_erasing_change_the_flow_of_every_frame_alike(tmp_path, monkeypatch):
    features, plain = features_in(tmp_path, monkeypatch)
    settings = replace(plain, flow_frames=3, crop=SIZE - 4, zoom=0.2, rotate=25, erase=1.0)
    summed, stack = (
        next(loader_of(features, replace(settings, flow_join=join)).epoch(0)) for join in ("sum", "stack")
    )
    pairs = stack.flow.unflatten(2, (3, 2))
    torch.testing.assert_close(pairs.sum(dim=2), summed.flow, rtol=1e-5, atol=1e-5)
    assert (pairs.abs().sum(dim=(0, 1, 3, 4, 5)) > 0).all()  # every frame has some flow
    single = next(loader_of(features, replace(settings, flow_frames=1)).epoch(0))
    torch.testing.assert_close(pairs[:, :, 0], single.flow)
