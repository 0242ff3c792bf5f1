"""Interpolated frames and flow, compared with SciPy's interpolation in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from deiii.data.loader.augmentation.geometry import Affine
from deiii.data.loader.augmentation.resample import flow_at, resample, turn
from deiii.data.loader.augmentation.video import Crop, batched, one_pass

WAYS = pytest.mark.parametrize("way", [batched, one_pass])
B, T = 3, 2


def fields(seed: int, h: int, dtype=np.int8) -> list[torch.Tensor]:
    """Frames, flow and its scale."""
    rng = np.random.default_rng(seed)
    values = [
        rng.integers(0, 256, (B, T, h, h, 3), dtype=np.uint8),
        rng.integers(-127, 128, (B, T, h, h, 2)).astype(dtype),
        rng.random((B, T), np.float32) / 10,
    ]
    return [torch.from_numpy(v) for v in values]


def view(seed: int, h: int, size: int, wide: float = 1.0) -> Crop:
    """Any maps, also with places beyond the stored crop, and any colours."""
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=(B, 2, 2)) * wide
    begin = h / 2 - linear.sum(2) * size / 2 + rng.normal(size=(B, 2)) * wide
    place = torch.from_numpy(np.concatenate((linear, begin[:, :, None]), 2).astype(np.float32))
    affine = Affine(place, torch.from_numpy(rng.normal(size=(B, 2, 2)).astype(np.float32)))
    matrix = torch.from_numpy(rng.normal(size=(B, 3, 3)).astype(np.float32) / 255)
    nowhere = torch.full((B,), -1)
    return Crop(nowhere, nowhere, nowhere > 0, matrix, torch.from_numpy(rng.random((B, 1, 3), np.float32)),
                size, affine)  # fmt: skip


def by_scipy(x: torch.Tensor, place: torch.Tensor, size: int) -> np.ndarray:
    """[B,T,H,H,C] at the places, float64 [B,T,S,S,C]; SciPy counts from the centre of the first pixel."""
    b, t, _, _, c = x.shape
    at = np.arange(size) + 0.5
    found = np.empty((b, t, size, size, c))
    for i, k, n in np.ndindex(b, t, c):
        (xx, xy, x0), (yx, yy, y0) = place[i].double().numpy()
        column, row = np.meshgrid(at, at)
        rows, columns = yx * column + yy * row + y0 - 0.5, xx * column + xy * row + x0 - 0.5
        image = x[i, k, :, :, n].double().numpy()
        found[i, k, :, :, n] = map_coordinates(image, (rows, columns), order=1, mode="nearest")
    return found


@WAYS
@pytest.mark.parametrize("dtype", [np.int8, np.float16])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), h=st.integers(1, 12), cut=st.integers(0, 4), wide=st.floats(0.1, 3))
def test_scipy_interpolates_the_same(way, dtype, seed, h, cut, wide):
    size = max(1, h - cut)
    (frames, flow, scale), seen = fields(seed, h, dtype), view(seed, h, size, wide)
    rgb, px = way(frames, flow, scale, seen)
    colours = by_scipy(frames, seen.affine.place, size)
    colours = colours @ seen.matrix.double().numpy()[:, None, None] + seen.offset.numpy()[:, None, None]
    arrows = by_scipy(flow, seen.affine.place, size) * scale.numpy()[:, :, None, None, None]
    arrows = np.einsum("bij,btyxj->btyxi", seen.affine.arrow.double().numpy(), arrows)
    assert rgb.dtype == px.dtype == torch.float32
    np.testing.assert_allclose(rgb, colours.transpose(0, 1, 4, 2, 3), atol=2e-4)
    np.testing.assert_allclose(px, arrows.transpose(0, 1, 4, 2, 3), atol=1e-3)


@WAYS
def test_pixels_at_their_own_places_are_as_stored(way):
    (frames, flow, scale), seen = fields(0, 9), view(0, 9, 6)
    y, x, flip = torch.tensor([0, 1, 3]), torch.tensor([2, 0, 3]), torch.tensor([False, True, True])
    colours = seen.matrix, seen.offset
    mirror = 1.0 - 2.0 * flip
    place, arrow = torch.zeros(B, 2, 3), torch.zeros(B, 2, 2)
    place[:, 0, 0], place[:, 1, 1], place[:, 1, 2] = mirror, 1, y.float()
    place[:, 0, 2] = x + 6.0 * flip
    arrow[:, 0, 0], arrow[:, 1, 1] = mirror, 1
    exact = way(frames, flow, scale, Crop(y, x, flip, *colours, 6))
    found = way(frames, flow, scale, Crop(y, x, flip, *colours, 6, Affine(place, arrow)))
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@WAYS
def test_a_square_larger_than_what_is_stored_is_refused(way):
    with pytest.raises(ValueError, match="loader.crop=11"):
        way(*fields(0, 10), view(0, 10, 11))


@WAYS
@pytest.mark.parametrize("missing", [(0,), (1,), (0, 1)])
def test_streams_that_are_switched_off_stay_empty(way, missing):
    values, seen = fields(0, 10), view(0, 10, 6)
    for n in missing:
        values[n] = values[n][:, :, :0, :0]
    for n, (field, channels) in enumerate(zip(way(*values, seen), (3, 2), strict=True)):
        assert field.shape == (B, T, channels, *((0, 0) if n in missing else (6, 6)))


def test_both_ways_lay_channels_innermost():
    for way in (batched, one_pass):
        assert all(field.stride()[2] == 1 for field in way(*fields(0, 10), view(0, 10, 6)))


def test_one_pass_reads_fields_that_are_not_contiguous():
    values, seen = fields(0, 10), view(0, 10, 6)
    whole = one_pass(*values, seen)
    values[:2] = (x.transpose(0, 1).contiguous().transpose(0, 1) for x in values[:2])
    assert all(torch.equal(*pair) for pair in zip(one_pass(*values, seen), whole, strict=True))


def test_flow_of_several_pairs_is_the_flow_of_each():
    (_, flow, scale), affine = fields(0, 10), view(0, 10, 6).affine
    more = torch.cat((flow, -flow.flip(0)), 4)
    arrays = affine.place.numpy(), affine.arrow.numpy(), scale.numpy()
    by_torch, by_numba = turn(resample(more, affine, 6), affine), torch.empty(B, T, 6, 6, 4)
    flow_at(more.numpy(), *arrays, by_numba.numpy())
    for found in (by_torch * scale[:, :, None, None, None], by_numba):
        for n in range(0, 4, 2):
            alone = torch.empty(B, T, 6, 6, 2)
            flow_at(more[..., n : n + 2].contiguous().numpy(), *arrays, alone.numpy())
            torch.testing.assert_close(found[..., n : n + 2], alone, atol=1e-3, rtol=1e-4)
