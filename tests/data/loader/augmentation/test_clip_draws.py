"""The random numbers of zoom, rotation, erasing and grey belong to clips; older numbers stay as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augment import Augment, spec_masks
from deiii.data.loader.augmentation.audio import warp
from deiii.data.loader.gather import Gather
from deiii.data.loader.loader import Loader
from deiii.data.loader.recording import recording
from deiii.data.loader.sampling import uniforms
from tests.data.loader.test_augment import compact

SIZE, FRAMES = 16, 40
ALL = {"zoom": 0.4, "rotate": 25.0, "erase": 0.5, "grey": 0.5}
ON = {"video": True, "flow": True, "audio": True}


@pytest.fixture(scope="module")
def features():
    """Seven clips of random features."""
    rng = np.random.default_rng(0)
    time, valid = np.arange(FRAMES) / 10, np.ones(FRAMES, bool)
    arrays = {
        "faces": {"frames": rng.integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)},
        "flow": {
            "flow": rng.integers(-127, 128, (FRAMES, SIZE, SIZE, 2)).astype(np.int8),
            "scale": rng.random(FRAMES, np.float32),
        },
    }
    arrays = {stage: {**fields, "time": time, "valid": valid} for stage, fields in arrays.items()}
    hops = rng.uniform(-80, 0, (400, 8)).astype(np.float16)
    arrays["logmel"] = {"logmel": hops, "time": np.arange(400) / 100}
    return recording(arrays, [(n / 4, 2 + n / 4) for n in range(7)], ("a", "b"))


def by_clip(features, epoch: int = 0, seed: int = 0, batch: int = 3, threads: int = 1, **changes) -> dict:
    """Frames and flow of each clip of an epoch."""
    config = LoaderConfig(
        steps=4, audio_steps=40, crop=12, batch=batch, threads=threads, residency="stream", **changes
    )
    found = {}
    for b in Loader(features, range(7), config, training=True, seed=seed).epoch(epoch):
        for i in torch.nonzero(b.real)[:, 0].tolist():
            found[int(b.index[i])] = torch.cat((b.frames[i], b.flow[i]), 1)
    return found


def test_a_clip_looks_the_same_in_every_batch(features):
    one, other = by_clip(features, **ALL), by_clip(features, batch=7, threads=2, **ALL)
    assert one.keys() == other.keys() == set(range(7))
    assert all(torch.equal(one[clip], other[clip]) for clip in one)


def test_epochs_and_seeds_differ(features):
    first = by_clip(features, **ALL)
    for other in (by_clip(features, epoch=1, **ALL), by_clip(features, seed=1, **ALL)):
        assert not any(torch.equal(first[clip], other[clip]) for clip in first)


def test_steps_of_a_clip_share_their_map_and_rectangle():
    c = compact()
    c.frames, c.flow = (x[:, :1].expand_as(x).contiguous() for x in (c.frames, c.flow))
    c.scale = c.scale[:, :1].expand_as(c.scale)
    out = Augment(LoaderConfig(crop=6, **ALL), training=True)(c)
    for field in (out.frames, out.flow):
        assert torch.equal(field, field[:, :1].expand_as(field))
        assert not torch.equal(field[0], field[1])


@pytest.mark.parametrize("masks", [0, 2])
def test_the_numbers_of_other_augmentation_come_first(features, masks):
    config = LoaderConfig(steps=4, audio_steps=40, crop=12, batch=7, spec_masks=masks, stretch=0.3)
    gather, rows = Gather(features, config, (), True, 5, ON), np.arange(7)
    found = gather.sample(rows, 2).small["draws"]
    before = 2 + 4  # one for the grid, one for each step, one for the shift of the audio
    old = 6 + 4 * masks + 5
    assert (found[:, :old] == uniforms(5, 2, rows, before + old)[:, before:].astype(np.float32)).all()
    for a in range(old):
        for b in range(old, found.shape[1]):
            assert (found[:, a] != found[:, b]).any()


def test_audio_is_warped_by_the_numbers_behind_those_of_its_masks():
    c, config = compact(), LoaderConfig(crop=6, stretch=0.3, mel_shift=2.0, gain_db=6.0, **ALL)
    out = Augment(config, training=True)(c)
    x = (c.logmel.float() + 40) / 20 * c.audio_mask[:, :, None]
    x, time, mask = warp(x, c.audio_time, c.audio_mask, c.draws[:, 14:19], config, 20.0)
    hops, bands = spec_masks(c.draws[:, 6:14], mask.sum(1), x.shape[1], x.shape[2])
    torch.testing.assert_close(out.logmel, x * hops[:, :, None] * bands[:, None], atol=1e-5, rtol=1e-5)
    assert torch.equal(out.audio_time, time) and torch.equal(out.audio_mask, mask)
