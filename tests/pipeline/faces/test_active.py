"""The face whose mouth follows the audio is cropped, whoever is larger or nearer to the centre."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from deiii.data.cache.recipes import stage_keys
from deiii.data.config.schema import Config, FacesConfig
from deiii.pipeline.faces import mouth
from deiii.pipeline.faces.mouth import audio_envelope
from deiii.pipeline.faces.stage import extract_faces, load_detector
from deiii.pipeline.faces.stream import FaceStream
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import needs_shared, shared
from tests.helpers.two_faces import pair_of_clips, scene

SCENES = 42


def chosen(arrays, width, who):
    """Whether the crops show the face on the speaker's side."""
    x = arrays["box"][arrays["valid"]]
    middle = float(np.median(x[:, 0] + x[:, 2] / 2))
    border = {320: 160, 360: 160 if who == 0 else 200}[width]
    return int(middle > border)


@pytest.mark.parametrize("scenes", [5, pytest.param(SCENES, marks=pytest.mark.slow)])
def test_the_speaking_face_is_found(tmp_path, scenes):
    config = FacesConfig(size=32, pick="active")
    detector = load_detector(config)
    right, usual = [], []
    for number in range(scenes):
        path, who, width = scene(tmp_path, number)
        right.append(chosen(extract_faces(path, config, detector).arrays, width, who) == who)
        if number < 4:
            plain = extract_faces(path, FacesConfig(size=32), detector).arrays
            usual.append(chosen(plain, width, who) == who)
    assert np.mean(right) >= 0.95, [i for i, good in enumerate(right) if not good]
    assert not all(usual)  # without the audio, the larger face is chosen


def test_in_order_the_same_face_is_found(tmp_path):
    config = FacesConfig(size=32, pick="active")
    path, who, width = scene(tmp_path, 1)
    stream = FaceStream(config, load_detector(config), audio=audio_envelope(path))
    rows = list(stream.run(read_video(path).frames()))
    arrays = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
    assert chosen(arrays, width, who) == who


def test_without_sound_the_choice_is_the_usual_one(tmp_path):
    path, _, _ = scene(tmp_path, 3, mute=True)
    detector = load_detector(FacesConfig())
    one, other = (
        extract_faces(path, FacesConfig(size=32, pick=pick), detector).arrays
        for pick in ("active", "speaker")
    )
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_mouths_cost_one_small_patch_a_face_and_frame_and_nothing_otherwise(tmp_path, monkeypatch):
    calls = []
    measured = mouth.mouth_patch
    monkeypatch.setattr("deiii.pipeline.faces.mouth.mouth_patch", lambda *a: calls.append(a) or measured(*a))
    path, _, _ = scene(tmp_path, 0)
    detector = load_detector(FacesConfig())
    extract_faces(path, FacesConfig(size=32), detector)
    assert not calls
    extract_faces(path, FacesConfig(size=32, pick="active"), detector)
    assert 0 < len(calls) <= 2 * 60


def test_the_key_of_the_default_stays_and_active_has_its_own():
    keys = {pick: stage_keys(Config(faces=FacesConfig(pick=pick)))["faces"] for pick in ("speaker", "active")}
    assert keys["speaker"] == stage_keys(Config())["faces"] != keys["active"]


@needs_shared
@pytest.mark.parametrize("detector", ["haar", "yunet"])
def test_on_real_faces_the_speaker_is_found(tmp_path, detector):
    clips = [
        shared(f"media/emotional_av/{name}.mp4") for name in ("01-01-01_01", "03-02-04_01", "07-03-05_01")
    ]
    weights = shared("weights/face_detection_yunet_2023mar.onnx")
    config = FacesConfig(
        size=32, pick="active", detector=detector, weights=weights if detector == "yunet" else None
    )
    load = load_detector(config)
    right = []
    for number, (speaking, silent) in enumerate(permutations(clips, 2)):
        path, who, middle = pair_of_clips(tmp_path / f"{number}.mp4", speaking, silent, number % 2)
        x = extract_faces(path, config, load).arrays["box"]
        right.append(int(np.nanmedian(x[:, 0] + x[:, 2] / 2) > middle) == who)
    assert np.mean(right) >= 0.8, right
