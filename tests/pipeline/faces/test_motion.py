"""Motion of a face between frames against known motion."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.pipeline.faces.motion import fit_similarity, follow
from tests.helpers.clipmaker import GROUND, picture


@settings(max_examples=50, deadline=None)
@given(turn=st.floats(-0.3, 0.3), grow=st.floats(0.8, 1.25), x=st.floats(-9, 9), seed=st.integers(0, 99))
def test_fit_ignores_points_that_move_on_their_own(turn, grow, x, seed):
    rng = np.random.default_rng(seed)
    source = rng.uniform(0, 100, 60) + 1j * rng.uniform(0, 100, 60)
    a, b = grow * np.exp(1j * turn), x + 3j
    target = a * source + b
    target[:18] += 3 * np.exp(2j)  # a third of the points moves together, like a mouth
    (found_a, found_b), share = fit_similarity(source, target)
    assert abs(found_a - a) < 5e-3 and abs(found_a * (50 + 50j) + found_b - a * (50 + 50j) - b) < 0.15
    assert share >= 0.6


def test_follow_measures_subpixel_motion():
    places = [(80 + 0.7 * n, 40 + 0.3 * n) for n in range(6)]
    greys = [cv2.cvtColor(picture(p), cv2.COLOR_RGB2GRAY) for p in places]
    for n, motion in enumerate(follow(greys, np.array([80.0, 40, 60, 60])), start=1):
        a, b = motion
        centre = 110 + 70j
        assert abs(a * centre + b - centre - n * (0.7 + 0.3j)) < 0.1


def test_frames_without_texture_give_no_motion():
    assert follow([GROUND[..., 0]] * 3, np.array([80.0, 40, 60, 60])) == [None, None]


def test_a_still_frame_gives_no_motion():
    points = np.array([1 + 1j, 5 + 2j, 3 + 9j, 8 + 8j, 2 + 6j, 7 + 3j])
    (a, b), share = fit_similarity(points, points)
    assert abs(a - 1) < 1e-9 and abs(b) < 1e-9 and share == 1


def test_points_that_fall_on_one_place_give_a_similarity_without_size():
    (a, b), share = fit_similarity(np.array([0, 1, 1j, 2 + 1j]), np.zeros(4, complex))
    assert abs(a) < 1e-9 and abs(b) < 1e-9 and share == 1
