"""Both implementations of cropping and colouring, compared with a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.loader.augmentation.video import Crop, batched, crop, one_pass, scale_flow

WAYS = pytest.mark.parametrize("way", [batched, one_pass])
B, T, H, S = 4, 3, 10, 6


def inputs(seed: int = 0, b: int = B, t: int = T, h: int = H, size: int = S, dtype=np.int8) -> list:
    """Frames, flow, scale, and what makes a view but its size."""
    rng = np.random.default_rng(seed)
    flow = rng.integers(-127, 128, (b, t, h, h, 2)).astype(dtype)
    values = [
        rng.integers(0, 256, (b, t, h, h, 3), dtype=np.uint8),
        flow,
        rng.random((b, t), np.float32),
        rng.integers(0, h - size + 1, b),
        rng.integers(0, h - size + 1, b),
        rng.random(b) < 0.5,
        rng.normal(size=(b, 3, 3)).astype(np.float32) / 255,
        rng.normal(size=(b, 1, 3)).astype(np.float32),
    ]
    return [torch.from_numpy(v) for v in values]


def seen(values: list, size: int) -> list:
    """The arguments of both ways."""
    return [*values[:3], Crop(*values[3:], size)]


def pixel_by_pixel(frames, flow, scale, y, x, flip, matrix, offset, size) -> tuple[np.ndarray, np.ndarray]:
    """The same pixel by pixel, in double precision."""
    b, t = frames.shape[:2]
    rgb, px = np.zeros((b, t, 3, size, size)), np.zeros((b, t, 2, size, size))
    for i, k, row, column in np.ndindex(b, t, size, size):
        from_column = x[i] + (size - 1 - column if flip[i] else column)
        rgb[i, k, :, row, column] = (
            frames[i, k, y[i] + row, from_column].double() @ matrix[i].double() + offset[i, 0]
        )
        u, v = flow[i, k, y[i] + row, from_column].double() * scale[i, k]
        px[i, k, :, row, column] = (-u if flip[i] else u), v
    return rgb, px


@WAYS
@pytest.mark.parametrize("dtype", [np.int8, np.float16])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), h=st.integers(1, 9), cut=st.integers(0, 3), b=st.integers(1, 3))
def test_pixel_by_pixel(way, dtype, seed, h, cut, b):
    size = max(1, h - cut)
    values = inputs(seed, b, 2, h, size, dtype)
    rgb, px = way(*seen(values, size))
    expected = pixel_by_pixel(*values, size)
    assert rgb.dtype == px.dtype == torch.float32
    np.testing.assert_allclose(rgb, expected[0], atol=1e-5)
    np.testing.assert_allclose(px, expected[1], atol=1e-4, rtol=1e-6)


@WAYS
def test_a_crop_larger_than_what_is_stored_is_refused(way):
    with pytest.raises(ValueError, match="loader.crop=11"):
        way(*seen(inputs(), 11))


@WAYS
@pytest.mark.parametrize("missing", [(0,), (1,), (0, 1)])
def test_streams_that_are_switched_off_stay_empty(way, missing):
    values = inputs()
    for n in missing:
        values[n] = values[n][:, :, :0, :0]
    for n, (field, channels) in enumerate(zip(way(*seen(values, S)), (3, 2), strict=True)):
        assert field.shape == (B, T, channels, *((0, 0) if n in missing else (S, S)))


def test_both_ways_lay_channels_innermost():
    for way in (batched, one_pass):
        assert all(field.stride()[2] == 1 for field in way(*seen(inputs(), S)))


def test_one_pass_reads_fields_that_are_not_contiguous():
    values = inputs()
    whole = one_pass(*seen(values, S))
    values[0] = values[0].transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(one_pass(*seen(values, S))[0], whole[0])


def test_flow_scale_is_per_step():
    flow = torch.ones(1, 2, 1, 1, 2, dtype=torch.int8)
    out = scale_flow(flow, torch.tensor([[0.5, 2.0]]), torch.tensor([True]))
    assert out[0, :, :, 0, 0].tolist() == [[-0.5, 0.5], [-2.0, 2.0]]


def test_a_crop_is_where_it_was_asked_for():
    place = torch.arange(H * H).view(1, 1, H, H, 1)
    y, left, flip = torch.tensor([2]), torch.tensor([3]), torch.tensor([False])
    found = crop(place, Crop(y, left, flip, torch.empty(0), torch.empty(0), 2))
    assert found.flatten().tolist() == [23, 24, 33, 34]
