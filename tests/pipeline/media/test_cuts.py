"""Cuts are found between all neighbouring images, also where thumbnails are made for few of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.pipeline.media import frame
from deiii.pipeline.media.frame import cuts_between, differences, is_cut, thumbnail


def by_thumbnails(images):
    small = [thumbnail(image) for image in images]
    return [is_cut(a, b) for a, b in zip(small[:-1], small[1:], strict=True)]


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([16, 31, 32, 33, 64, 112]),
    reach=st.integers(0, 120),
    channels=st.sampled_from([(0,), (1,), (2,), (0, 1, 2)]),
)
def test_the_result_is_that_of_all_thumbnails(seed, size, reach, channels):
    """Changes of one colour or of all, by patterns of any fineness, around the level of a cut."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(60, 190, (size, size, 3))]
    for _ in range(4):
        cells = int(rng.integers(1, size + 1))
        pattern = rng.integers(0, 2, (cells, cells))[:: 1 if rng.random() < 0.5 else -1]
        change = np.kron(pattern, np.ones((-(-size // cells), -(-size // cells))))[:size, :size] * reach
        following = images[-1].copy()
        for channel in channels:
            following[..., channel] += change.astype(int) * int(rng.choice([-1, 1]))
        images.append(following)
    stacked = np.clip(np.stack(images), 0, 255).astype(np.uint8)
    assert cuts_between(stacked).tolist() == by_thumbnails(stacked)


def test_the_largest_change_that_needs_no_thumbnails_is_no_cut():
    """All the change in green, which grey follows most, in one direction, with the worst rounding."""
    for level in range(0, 225, 7):
        pair = np.full((2, 64, 64, 3), level, np.uint8)
        pair[1, ..., 1] += int(frame.QUIET_LEVELS)
        assert np.abs(thumbnail(pair[1]) - thumbnail(pair[0])).mean() <= frame.CUT_LEVELS


@pytest.mark.parametrize("count", [1, 2])
def test_quiet_images_need_no_thumbnails(count, monkeypatch):
    monkeypatch.setattr(frame, "thumbnail", None)
    assert not cuts_between(np.zeros((count, 40, 40, 3), np.uint8)).any()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 20])
@pytest.mark.parametrize("together", [1, 5000, 1 << 22])
def test_differences_are_sums_over_each_image(monkeypatch, count, together):
    """The result does not depend on how many images are compared in one call."""
    monkeypatch.setattr(frame, "MOST_SUMMED", together)
    images = np.random.default_rng(count).integers(0, 256, (count, 33, 40, 3), dtype=np.uint8)
    images[count // 2] = 255
    expected = [int(np.abs(b.astype(int) - a).sum()) for a, b in zip(images, images[1:], strict=False)]
    assert differences(images).tolist() == expected
    assert differences(list(images)).tolist() == expected
    assert differences(images[:, ::2, 1:]).shape == (count - 1,)


def test_differences_of_large_images_do_not_overflow():
    white = np.full((1700, 1700, 3), 255, np.uint8)
    assert differences(np.stack([white, np.zeros_like(white)])).tolist() == [1700 * 1700 * 3 * 255]
