"""Pictures: colours of flow and log-mel, and tiles that fit."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from torchvision.utils import flow_to_image

from deiii.data.tools.pictures import (
    colour_wheel,
    flow_colours,
    flow_saturation,
    mel_picture,
    paste_fitted,
    resized,
)


def test_flow_colours_show_direction_and_length():
    flow = np.zeros((4, 4, 2), np.float32)
    assert (flow_colours(flow, 1.0) == 255).all()
    right = flow_colours((flow + (1, 0)).astype(np.float32), 1.0)[0, 0]
    left = flow_colours((flow + (-1, 0)).astype(np.float32), 1.0)[0, 0]
    assert right[0] > 200 and right[2] < 100 and left[0] < 100 < left[2]  # red and blue
    np.testing.assert_array_equal(right, colour_wheel(65)[32, 64])


def test_flow_saturation_is_the_99th_percentile():
    angle = np.linspace(0, 6, 101)
    length = np.arange(101.0)
    flow = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=-1).astype(np.float32)
    assert flow_saturation(flow) == pytest.approx(99, rel=1e-5)


@pytest.mark.parametrize(("flow", "expected"), [(np.zeros((2, 3, 2)), 0.5), (np.zeros((0, 3, 3, 2)), 1.0)])
def test_flow_saturation_of_still_and_of_missing_flow(flow, expected):
    assert flow_saturation(flow) == expected


def test_mel_picture_has_matplotlibs_magma_colours():
    logmel = np.random.default_rng(0).uniform(-90, -10, (30, 12)).astype(np.float16)
    levels = logmel.astype(np.float32).T[::-1]
    levels = (levels - levels.min()) / (levels.max() - levels.min())
    expected = matplotlib.colormaps["magma"](levels)[..., :3] * 255
    picture = mel_picture(logmel)
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).max() < 4


def test_resized_averages_where_it_shrinks():
    image = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    means = image.reshape(10, 4, 15, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resized(image, 15, 10), means, atol=1)
    assert resized(image, 90, 50).shape == (50, 90, 3)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"), [((10, 30), (20, 30), (10, 40)), ((8, 4), (10, 40), (17, 32))]
)
def test_paste_fitted_keeps_the_ratio_and_the_centre(shape, rows, columns):
    canvas = np.zeros((60, 80, 3), np.uint8)
    paste_fitted(canvas, np.full((*shape, 3), 200, np.uint8), (10, 10, 30, 30))
    painted = np.zeros((60, 80), bool)
    painted[slice(*rows), slice(*columns)] = True
    np.testing.assert_array_equal(canvas.any(axis=2), painted)


def test_flow_colours_equal_those_of_torchvision():
    """Within one level: torchvision computes in float32, and scales by the longest flow of the image."""
    flow = np.random.default_rng(0).normal(size=(40, 50, 2)).astype(np.float32)
    largest = float(np.linalg.norm(flow, axis=2).max())
    wanted = flow_to_image(torch.from_numpy(flow).permute(2, 0, 1).contiguous()).permute(1, 2, 0).numpy()
    assert np.abs(flow_colours(flow, largest).astype(int) - wanted).max() <= 1
