"""Zoom, rotation, mirroring and place: known motion stays right, and squares lie where they are said to."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augment import MEAN, STD, Augment
from deiii.data.loader.augmentation.geometry import VIDEO_DRAWS, affine, resamples
from tests.data.loader.test_augment import B, T, compact

STORED, CROP = 40, 32
WHOLE = LoaderConfig(crop=CROP, colour=0.0, spec_masks=0, flip=0.5, zoom=0.25, rotate=25.0)
DRAWN = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)


def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth grey levels at any place, 20 to 236."""
    return 128 + 54 * np.sin(x / 5 + 1) + 54 * np.cos(y / 6 - x / 9)


def moving(linear: np.ndarray, shift: np.ndarray):
    """A stored batch whose step t+1 is step t, moved: the point p goes to linear @ p + shift.

    Points are counted from the middle of the stored crop.
    """
    c = compact()
    at = np.arange(STORED) + 0.5 - STORED / 2
    x, y = np.meshgrid(at, at)
    back = np.linalg.inv(linear)
    frames = []
    for _ in range(T):
        frames.append(texture(x, y))
        x, y = np.tensordot(back, np.stack((x - shift[0], y - shift[1])), 1)
    points = np.stack(np.meshgrid(at, at))
    flow = np.tensordot(linear, points, 1) + shift[:, None, None] - points
    levels = torch.from_numpy(np.round(np.stack(frames)).astype(np.uint8))
    c.frames = levels[None, ..., None].expand(B, T, STORED, STORED, 3).contiguous()
    arrows = torch.from_numpy(flow.astype(np.float32)).permute(1, 2, 0).half()
    c.flow, c.scale = arrows.expand(B, T, STORED, STORED, 2).contiguous(), torch.ones(B, T)
    return c


def levels_of(frames: torch.Tensor) -> np.ndarray:
    """Grey levels [B,T,S,S] of normalised frames."""
    std, mean = torch.tensor(STD)[:, None, None], torch.tensor(MEAN)[:, None, None]
    return ((frames * std + mean) * 255).mean(2).double().numpy()


def warped(image: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of an image [S,S] at the ends of flow [2,S,S], bilinear, and which ends lie within it."""
    rows, columns = np.indices(image.shape)
    y, x = rows + flow[1], columns + flow[0]
    last = len(image) - 1
    inside = (y >= 0) & (x >= 0) & (y <= last) & (x <= last)
    y, x = np.clip(y, 0, last), np.clip(x, 0, last)
    top, left = np.minimum(y.astype(int), last - 1), np.minimum(x.astype(int), last - 1)
    y, x = y - top, x - left
    above = image[top, left] * (1 - x) + image[top, left + 1] * x
    below = image[top + 1, left] * (1 - x) + image[top + 1, left + 1] * x
    return above * (1 - y) + below * y, inside


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    angle=st.floats(-0.1, 0.1),
    growth=st.floats(0.95, 1.05),
    shift=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
)
def test_flow_still_leads_from_each_frame_to_the_next(seed, angle, growth, shift):
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    c = moving(turn * growth, np.array(shift))
    c.draws = torch.rand(c.draws.shape, generator=torch.Generator().manual_seed(seed))
    # Only the inner part is rotated into view, because beyond the stored crop the border is repeated.
    out = Augment(replace(WHOLE, crop=24), training=True)(c)
    levels = levels_of(out.frames)
    for i in range(B):
        for k in range(T - 1):
            found, inside = warped(levels[i, k + 1], out.flow[i, k].numpy().astype(np.float64))
            error = np.abs(found - levels[i, k])[inside]
            assert inside.mean() > 0.5 and error.mean() < 1.5 and error.max() < 5


@settings(max_examples=50, deadline=None)
@given(u=st.integers(-20, 20), v=st.integers(-20, 20), drawn=DRAWN, flip=st.booleans())
def test_a_translation_is_turned_and_stretched(u, v, drawn, flip):
    c = compact()
    c.frames = c.frames[:, :, :0, :0]
    c.flow = torch.tensor([u, v], dtype=torch.int8).expand(B, T, STORED, STORED, 2).contiguous()
    c.scale = torch.full((B, T), 0.5)
    c.draws[:, 2] = 0.0 if flip else 0.9
    c.draws[:, 11:13] = torch.tensor(drawn[:2])  # behind 6 for the video and 5 for the audio
    out = Augment(WHOLE, training=True)(c).flow
    room = math.log(STORED / CROP)
    zoom = math.exp(-math.log(1.25) + drawn[0] * (math.log(1.25) + min(room, math.log(1.25))))
    angle = math.radians(25 * (2 * drawn[1] - 1))
    # The camera turns clockwise on the image (v is down), so that what it sees turns the other way.
    seen_u = (math.cos(angle) * u + math.sin(angle) * v) * 0.5 / zoom
    seen_v = (math.cos(angle) * v - math.sin(angle) * u) * 0.5 / zoom
    expected = torch.tensor([-seen_u if flip else seen_u, seen_v])
    torch.testing.assert_close(out, expected[:, None, None].expand_as(out), atol=1e-4, rtol=1e-4)


def corners(config: LoaderConfig, draws: torch.Tensor, corner: torch.Tensor, stored: int) -> np.ndarray:
    """The stored places of the corners of each square, float64 [B,4,2]: x and y."""
    flip = torch.arange(len(draws)) % 2 == 0
    place = affine(draws, corner, flip, config, stored).place.double().numpy()
    s = config.crop
    ends = np.array([[0, 0, 1], [s, 0, 1], [0, s, 1], [s, s, 1]], np.float64)
    return np.einsum("bij,nj->bni", place, ends)


def drawn(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, VIDEO_DRAWS, generator=generator), torch.rand(count, 2, generator=generator)


@settings(max_examples=50, deadline=None)
@given(
    crop=st.integers(8, 200), more=st.integers(0, 60), zoom=st.floats(0, 1), rotate=st.floats(0, 180),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_squares_lie_within_the_stored_crop_where_they_fit(crop, more, zoom, rotate, seed):
    stored = crop + more
    config = LoaderConfig(crop=crop, zoom=zoom, rotate=rotate)
    ends = corners(config, *drawn(64, seed), stored)
    side = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    assert (side >= crop / (1 + zoom) - 1e-3).all()
    assert (side <= min(crop * (1 + zoom), stored) + 1e-3).all()
    np.testing.assert_allclose(np.linalg.norm(ends[:, 2] - ends[:, 0], axis=1), side, atol=1e-3)  # a square
    extent = np.ptp(ends, axis=1)
    fits = (extent <= stored).all(1)
    assert (ends[fits] >= -1e-3).all() and (ends[fits] <= stored + 1e-3).all()
    np.testing.assert_allclose(ends[~fits].mean(1), stored / 2, atol=1e-3)


def test_size_angle_and_place_are_uniform():
    draws, place = drawn(4000)
    config = LoaderConfig(crop=64, zoom=0.5, rotate=10)
    ends = corners(config, draws, place, 128)
    size = np.log(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) / 64) / math.log(1.5)
    down = ends[:, 2] - ends[:, 0]
    angle = np.degrees(np.arctan2(-down[:, 0], down[:, 1])) / 10
    for values in (size, angle):
        quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(quantiles, [-1, -0.5, 0, 0.5, 1], atol=0.05)
    assert np.abs(np.corrcoef(size, angle)[0, 1]) < 0.05
    low, high = ends.min(1), ends.max(1)
    share = low / (128 - (high - low))
    np.testing.assert_allclose(
        np.quantile(share, [0, 0.25, 0.5, 0.75, 1], axis=0).T, [[0, 0.25, 0.5, 0.75, 1]] * 2, atol=0.05
    )


def test_squares_are_reduced_only_as_far_as_the_stored_crop_reaches():
    draws, place = drawn(1000)
    sides = np.ptp(corners(LoaderConfig(crop=96, zoom=0.5), draws, place, 112), axis=1)
    assert 111.5 < sides.max() <= 112.001 and sides.min() < 64.5
    assert np.mean(np.isclose(sides, 112, atol=0.01)) < 0.01  # no heap of clips at the limit
    none = np.ptp(corners(LoaderConfig(crop=96, zoom=0.5), draws, place, 96), axis=1)
    assert none.max() <= 96.001 and none.min() < 64.5


def test_arrows_are_the_inverse_of_places():
    draws, place = drawn(50)
    found = affine(draws, place, torch.arange(50) % 2 == 0, LoaderConfig(crop=64, zoom=1, rotate=180), 128)
    product = found.arrow.double() @ found.place[:, :, :2].double()
    torch.testing.assert_close(
        product, torch.eye(2, dtype=torch.float64).expand_as(product), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("changes", [{}, {"zoom": 0.1}, {"rotate": 5.0}])
def test_pixels_are_interpolated_only_where_it_is_asked_for(changes, monkeypatch):
    config = LoaderConfig(crop=6, **changes)
    seen = []

    def prepare(frames, flow, scale, view):
        seen.append(view)
        return frames[:, :, :6, :6].permute(0, 1, 4, 2, 3).float(), flow[:, :, :6, :6].permute(0, 1, 4, 2, 3)

    monkeypatch.setattr("deiii.data.loader.augment.one_pass", prepare)
    for training in (True, False):
        Augment(config, training)(compact())
    assert resamples(config) == bool(changes)
    assert (seen[0].affine is not None) == bool(changes)
    assert seen[1].affine is None and seen[1].erased is None


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_rotation_by_almost_nothing_shows_the_same_square(place, flip):
    c, config = compact(), LoaderConfig(crop=6, colour=0.0, flip=flip)
    c.draws[:, :2] = torch.tensor(place)
    exact, found = (Augment(replace(config, rotate=degrees), training=True)(c) for degrees in (0.0, 1e-5))
    torch.testing.assert_close(found.frames, exact.frames, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.flow, exact.flow, atol=1e-3, rtol=1e-4)
