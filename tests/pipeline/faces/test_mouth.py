"""Measures of a mouth have known answers on images that are shifted, stretched, lit or changed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deiii.pipeline.faces.mouth import (
    PATCH,
    QUIET,
    Envelope,
    Mouth,
    audio_correlation,
    audio_envelope,
    mouth_patch,
    mouth_place,
    mouth_places,
    mouth_state,
)
from tests.helpers.clipmaker import numbered, tone, write

WIDTH, HEIGHT = PATCH


def image(move=lambda x, y: (x, y), light=1.0):
    """A smooth region of a mouth, float32 [20,32], sampled at moved places; x and y run from -1 to 1."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    x, y = move(x, y)
    grey = 120 + 25 * np.sin(2 * x + 0.5) + 40 * np.cos(3 * y) + 15 * x * y
    return (light * grey).astype(np.float32)


def change(one, other):
    return float(np.exp(mouth_state(one, other)[0])) - QUIET


@pytest.mark.parametrize("opening", [-0.03, 0.0, 0.02, 0.05])
def test_the_opening_is_the_vertical_stretch(opening):
    later = image(lambda x, y: (x, y / (1 + opening)))
    edge = (HEIGHT - 1) / 2  # px from the middle; a row moves by the stretch times its distance
    assert mouth_state(image(), later)[1] == pytest.approx(
        opening * edge, rel=0.2, abs=0.01
    )  # to first order


def test_a_shift_and_a_change_of_light_are_no_change_and_a_new_shape_is_one():
    still = image()
    shifted = image(lambda x, y: (x + 0.03, y - 0.04))
    brighter = image(light=1.06)
    lips = still.copy()
    lips[8:12, 10:22] -= 40
    assert change(still, still) == pytest.approx(0, abs=1e-6)
    plain = np.abs(shifted - still).mean() / np.median(still)
    assert change(still, shifted) < 0.1 * plain
    assert change(still, brighter) < 0.001 < 0.05 < np.abs(brighter - still).mean() / np.median(still)
    assert change(still, lips) > 0.02
    assert abs(mouth_state(still, shifted)[1]) < 0.05 and abs(mouth_state(still, brighter)[1]) < 0.05


def test_a_uniform_region_has_no_change_and_no_opening():
    flat = np.full((HEIGHT, WIDTH), 77, np.float32)
    assert mouth_state(flat, flat) == (pytest.approx(np.log(QUIET)), pytest.approx(0))
    assert all(np.isfinite(mouth_state(np.zeros_like(flat), flat)))


@pytest.mark.parametrize("degrees", [0, 25, -90, 180])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_the_region_turns_and_grows_with_the_face(degrees, scale):
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.uniform(0, 255, (300, 300)).astype(np.float32), (0, 0), 6)
    grey = np.clip(128 + 6 * (grey - grey.mean()), 0, 255).astype(np.uint8)
    points = np.array([[130.0, 130], [170, 130], [150, 150], [135, 170], [165, 170]])
    turn = cv2.getRotationMatrix2D((150, 150), degrees, scale)
    turned = cv2.warpAffine(grey, turn, (300, 300), flags=cv2.INTER_CUBIC)
    moved = points @ turn[:, :2].T + turn[:, 2]
    one, other = mouth_patch(grey, mouth_place(points)), mouth_patch(turned, mouth_place(moved))
    assert one.shape == (HEIGHT, WIDTH) and one.std() > 10
    assert np.abs(one - other)[2:-2, 2:-2].mean() < 3


def test_the_places_of_a_mouth_move_back_from_a_detection():
    points = np.array([[20.0, 20], [60, 20], [40, 40], [24, 64], [56, 64]])
    steps = [(1 + 0j, 2 + 0j), (2 + 0j, 0j)]  # 2 px to the right, then twice as large
    assert mouth_places(points, steps) == [(40 + 64j, 44j), (20 + 32j, 22j), (18 + 32j, 22j)]
    assert mouth_places(points, [None, *steps]) == mouth_places(points, steps)
    assert mouth_places(points, [steps[0], None]) == [(40 + 64j, 44j)]


def test_each_frame_is_measured_once_and_only_successive_frames_are_compared():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (12, 60, 80), np.uint8)
    place = (40 + 30j, 12j)
    patches = [mouth_patch(grey, place) for grey in frames]
    mouth = Mouth()
    for index in (3, 4, 5, 5, 4, 8, 9):
        mouth.measure(index, frames[index], place)
    assert mouth.states == {i: mouth_state(patches[i - 1], patches[i]) for i in (4, 5, 9)}
    mouth.forget(5)
    assert sorted(mouth.states) == [5, 9]


def test_envelope_has_the_times_of_the_audio(tmp_path):
    silence, beep = np.zeros(16000), tone(0.4, 1000)
    path = write(tmp_path / "beep.mp4", numbered(50), audio=np.concatenate([silence, beep, silence[:9600]]))
    found = audio_envelope(path)
    level = found.at(np.array([0.5, 1.2, 1.8, 50.0]))
    assert level[1] > 10 * level[0] and level[1] > 10 * level[2] and level[3] == 0
    assert audio_envelope(write(tmp_path / "mute.mp4", numbered(5))) is None


def test_the_level_leaves_the_hum_of_a_room_out(tmp_path):
    levels = []
    for hertz in (100, 1300):
        path = write(tmp_path / f"{hertz}.mp4", numbered(25), audio=tone(1.0, hertz))
        levels.append(audio_envelope(path).at(np.array([0.5]))[0])
    assert levels[0] < levels[1] / 3  # the level is the root of the RMS: 20 dB are a factor of 3.2


@pytest.mark.parametrize("lag", [-2, 0, 2])
def test_a_mouth_that_follows_scores_high_and_another_low(lag):
    rng = np.random.default_rng(0)
    smooth = np.convolve(rng.random(726), np.hanning(7) / 3, "valid")
    sound = Envelope(0.0, smooth.astype(np.float32))
    times = {i: 0.04 * i for i in range(150)}
    at = np.array([t + 0.04 * lag for t in times.values()])
    change, opening = sound.at(at), sound.at(at + 0.04) - sound.at(at - 0.04)

    def score(change, opening):
        return audio_correlation(dict(enumerate(zip(change, opening, strict=True))), times, sound)

    assert score(change, opening) > 0.99
    assert score(change, 0 * opening) == pytest.approx(0.5, abs=0.01)  # one of the two measures follows
    assert score(rng.permutation(change), rng.permutation(opening)) < 0.4
    assert score(-change, -opening) < score(change, opening)
    assert audio_correlation({0: (1.0, 1.0)}, times, sound) == 0.0


def test_the_region_lies_around_the_mouth():
    points = np.array(
        [[130.0, 130], [170, 130], [150, 150], [135, 170], [165, 170]]
    )  # 40 px from eyes to mouth
    y, x = np.mgrid[0:300, 0:300]
    across = mouth_patch(np.clip(x, 0, 255).astype(np.uint8), mouth_place(points))
    down = mouth_patch(np.clip(y, 0, 255).astype(np.uint8), mouth_place(points))
    middles = np.linspace(0.5 / WIDTH, 1 - 0.5 / WIDTH, WIDTH)
    np.testing.assert_allclose(across[0], 150 + 40 * (-0.4 + 0.8 * middles), atol=0.6)
    middles = np.linspace(0.5 / HEIGHT, 1 - 0.5 / HEIGHT, HEIGHT)
    np.testing.assert_allclose(down[:, 0], 170 + 40 * (-0.3 + 0.9 * middles), atol=0.6)
