"""Random Erasing: how often, how much and where, and that frames and flow lose the same pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augment import Augment
from deiii.data.loader.augmentation.geometry import VIDEO_DRAWS, erased
from deiii.data.loader.augmentation.video import batched
from tests.data.loader.test_augment import H, compact

CLIPS = 4000


def rectangles(size: int, share: float, seed: int = 0, count: int = CLIPS) -> np.ndarray:
    """Top, bottom, left and right of the rectangles of many clips, int64 [N,4]."""
    draws = torch.rand(count, VIDEO_DRAWS, generator=torch.Generator().manual_seed(seed))
    found = erased(draws, LoaderConfig(crop=size, erase=share))
    return torch.stack((found.top, found.bottom, found.left, found.right), 1).numpy()


@pytest.mark.parametrize("size", [8, 64, 96, 1024])
def test_rectangles_have_the_sizes_of_the_paper(size):
    top, bottom, left, right = rectangles(size, 1.0).T
    height, width = bottom - top, right - left
    assert (top >= 0).all() and (left >= 0).all() and (bottom <= size).all() and (right <= size).all()
    rounding = 0.5 * (height + width + 0.5) / size**2
    share = height * width / size**2
    assert (share >= 0.02 - rounding).all() and (share <= 0.2 + rounding).all()
    assert ((height + 0.5) / (width - 0.5) >= 0.3).all() and ((width + 0.5) / (height - 0.5) >= 0.3).all()
    if size >= 64:
        np.testing.assert_allclose(np.quantile(share, [0, 0.5, 1]), [0.02, 0.11, 0.2], atol=0.008)
        ratio = np.quantile(np.log(height / width) / np.log(0.3), [0.02, 0.25, 0.5, 0.75, 0.98])
        np.testing.assert_allclose(ratio, [-0.96, -0.5, 0, 0.5, 0.96], atol=0.06)
        for begin, length in ((top, height), (left, width)):
            place = np.quantile(begin / (size - length), [0, 0.25, 0.5, 0.75, 1])
            np.testing.assert_allclose(place, [0, 0.25, 0.5, 0.75, 1], atol=0.04)


def test_numbers_at_their_ends_stay_within_the_square():
    for value in (0.0, 1.0):  # as float32, a number just below 1 is 1
        draws = torch.full((1, VIDEO_DRAWS), value)
        draws[:, 2] = 0
        found = erased(draws, LoaderConfig(crop=9, erase=1.0))
        assert 0 <= found.top < found.bottom <= 9 and 0 <= found.left < found.right <= 9


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_setting_is_the_share_of_the_clips(share):
    top, bottom, left, right = rectangles(64, share).T
    some = (bottom > top) & (right > left)
    assert abs(some.mean() - share) < (0.03 if 0 < share < 1 else 1e-9)
    assert not rectangles(64, share)[~some].any()


@pytest.mark.parametrize("way", ["one_pass", "batched"])
@pytest.mark.parametrize("changes", [{}, {"zoom": 0.2, "rotate": 20.0}])
def test_frames_and_flow_lose_the_same_pixels_in_every_step(way, changes, monkeypatch):
    if way == "batched":
        monkeypatch.setattr("deiii.data.loader.augment.one_pass", batched)
    c = compact()
    c.flow = c.flow.abs().clamp_min(1)
    config = LoaderConfig(crop=H, **changes)
    whole = Augment(config, training=True)(c)
    found = Augment(replace(config, erase=1.0), training=True)(c)
    draws = c.draws[:, -VIDEO_DRAWS:]
    hidden = erased(draws, replace(config, erase=1.0)).covers(H)[:, None, None]
    assert hidden.any() and not hidden.all()
    for name in ("frames", "flow"):
        before, after = whole.tensors()[name], found.tensors()[name]
        assert torch.equal(after, torch.where(hidden, 0.0, before))
        assert (before != 0).float().mean() > 0.99
    assert torch.equal(found.logmel, whole.logmel)


def test_a_stream_that_is_switched_off_stays_empty():
    c = compact()
    c.flow = c.flow[:, :, :0, :0]
    out = Augment(LoaderConfig(crop=6, erase=1.0), training=True)(c)
    assert out.flow.shape[3:] == (0, 0) and (out.frames == 0).any()


def test_covers_is_the_rectangle():
    top, bottom, left, right = rectangles(16, 0.5, count=20).T
    draws = torch.rand(20, VIDEO_DRAWS, generator=torch.Generator().manual_seed(0))
    covered = erased(draws, LoaderConfig(crop=16, erase=0.5)).covers(16).numpy()
    for i in range(20):
        expected = np.zeros((16, 16), bool)
        expected[top[i] : bottom[i], left[i] : right[i]] = True
        assert (covered[i] == expected).all()
