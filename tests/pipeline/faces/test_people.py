"""Every person in a clip has a number, the tracks of their face and its crops."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.config.schema import FacesConfig
from deiii.pipeline.faces.face import Face
from deiii.pipeline.faces.people import _Images, find_people, unlike
from deiii.pipeline.faces.quality import Portrait, laplacian_variance
from deiii.pipeline.faces.stage import crops_of, extract_faces, load_detector
from deiii.pipeline.faces.stream import FaceStream
from deiii.pipeline.faces.tracking import Track
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import numbered, write
from tests.helpers.two_faces import rendered, scene

CONFIG = FacesConfig(size=32, pick="active")
FIRST, SECOND = 14, 16  # faces of scene 0, which are rendered once


@pytest.fixture(scope="module")
def haar():
    return load_detector(CONFIG)


def middle(track):
    boxes = np.array([f.box for f in track.seen if f is not None])
    return float(np.median(boxes[:, 0] + boxes[:, 2] / 2))


def beside(left, right):
    """Two videos side by side; where one is None, the wall is seen there."""
    wall = np.full((160, 160, 3), 90, np.uint8)
    return [
        np.concatenate([wall if f is None else f for f in pair], axis=1)
        for pair in zip(left, right, strict=False)
    ]


def test_both_people_are_found_and_numbered_from_the_left(tmp_path, haar):
    right = []
    for number in (0, 1):
        path, who, width = scene(tmp_path, number)
        people = find_people(path, CONFIG, haar).people
        assert [p.number for p in people] == [1, 2]
        assert middle(people[0].tracks[0]) < width / 2 < middle(people[1].tracks[0])
        right.append(people[who].follows > people[1 - who].follows and people[who].chosen)
        assert sum(p.chosen for p in people) == 1
        for person in people:
            assert person.stretches() == [pytest.approx((0.0, 2.4), abs=0.05)] and person.part_of(2.4) is None
    assert all(right)


def test_the_crops_of_a_person_are_those_of_the_stage(tmp_path, haar):
    path, who, _ = scene(tmp_path, 1)
    found = find_people(path, CONFIG, haar)
    (person,) = [p for p in found.people if p.chosen]
    own = crops_of(path, found.tracked, person.tracks, CONFIG, haar, own=True)
    stage = extract_faces(path, CONFIG, haar)
    assert own.outcome == stage.outcome and person.number == who + 1
    for name, values in stage.arrays.items():
        np.testing.assert_array_equal(own.arrays[name], values)
    (other,) = [p for p in found.people if not p.chosen]
    theirs = crops_of(path, found.tracked, other.tracks, CONFIG, haar, own=True).arrays
    assert np.abs(theirs["box"][:, 0] - stage.arrays["box"][:, 0]).min() > 60
    rows = list(FaceStream(CONFIG, haar, tracks=other.tracks).run(read_video(path).frames()))
    np.testing.assert_array_equal(np.concatenate([r["frames"] for r in rows]), theirs["frames"])


def test_a_person_who_comes_later_is_judged_by_their_own_time(tmp_path, haar):
    one, other = rendered(FIRST)[0], rendered(SECOND)[0]
    late = [None] * 40 + list(other[:20])
    path = write(tmp_path / "late.mp4", beside(one, late))
    config = FacesConfig(size=32, min_valid=0.6)
    found = find_people(path, config, haar)
    assert [p.number for p in found.people] == [1, 2] and found.people[1].follows is None
    ((begin, end),) = found.people[1].stretches()
    assert begin == pytest.approx(1.6, abs=0.05) and end == pytest.approx(2.4, abs=0.05)
    assert found.people[1].part_of(2.4) == [(begin, end)]
    result = crops_of(path, found.tracked, found.people[1].tracks, config, haar, own=True)
    assert result.outcome.usable and "no face in" not in result.outcome.reason
    assert not result.arrays["valid"][:38].any() and result.arrays["valid"][42:].all()
    whole = crops_of(path, found.tracked, found.people[1].tracks, config, haar)
    assert not whole.outcome.usable  # a third of the clip is less than faces.min_valid


def test_a_person_keeps_the_number_after_cuts(tmp_path, haar):
    one, other = rendered(FIRST)[0], rendered(SECOND)[0]
    frames = [*one[:20], *other[:20], *one[20:40], *other[20:40], *one[40:60]]
    people = find_people(write(tmp_path / "cuts.mp4", frames), CONFIG, haar).people
    assert [[(round(b, 1), round(e, 1)) for b, e in p.stretches()] for p in people] == [
        [(0.0, 0.8), (1.6, 2.4), (3.2, 4.0)],
        [(0.8, 1.6), (2.4, 3.2)],
    ]


def test_nobody_and_faces_of_a_moment_are_no_people(tmp_path, haar):
    assert find_people(write(tmp_path / "wall.mp4", numbered(20, 96, 96)), CONFIG, haar).people == []
    one, other = rendered(FIRST)[0], rendered(SECOND)[0]
    flash = [None] * 20 + list(other[:8]) + [None] * 20
    found = find_people(write(tmp_path / "flash.mp4", beside(one[:48], flash)), CONFIG, haar)
    assert [p.number for p in found.people] == [1]


def test_images_of_one_face_are_alike_and_of_two_are_not():
    rng = np.random.default_rng(0)
    one = rng.uniform(0, 255, (32, 32, 3)).astype(np.float32)
    assert unlike(one, one) == pytest.approx(0, abs=1e-4)
    assert unlike(one, one + 3) < 12.5 < unlike(one, one[:, ::-1].copy())
    assert unlike(one, one * 0.5) == pytest.approx(unlike(one * 0.5, one))


def test_the_portrait_is_the_sharpest_valid_crop():
    rng = np.random.default_rng(0)
    crops = np.stack([rng.integers(0, level, (16, 16, 3), np.uint8) for level in (20, 120, 60, 250)])
    grey = crops[1].astype(float) @ [0.299, 0.587, 0.114]
    inner = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    assert laplacian_variance(crops[1]) == pytest.approx(inner.var(), rel=0.15)  # the border counts, too
    portrait = Portrait()
    portrait.add({"frames": crops, "valid": np.array([True, True, True, False])})
    np.testing.assert_array_equal(portrait.image, crops[1])


def test_two_real_people_side_by_side_keep_the_places_they_have_alone(tmp_path, haar, test_data):
    alone = [str(test_data / "media/grid" / name) for name in ("lrwp9a.mpg", "swiz3n.mpg")]
    left, right = ([rgb for rgb, _ in read_video(path)][:40] for path in alone)
    frames = [np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)]
    path = write(tmp_path / "pair.mp4", frames)
    found = find_people(path, FacesConfig(size=64), haar)
    assert [p.number for p in found.people] == [1, 2]
    for person, source, shift in zip(found.people, alone, (0, left[0].shape[1]), strict=True):
        together = crops_of(path, found.tracked, person.tracks, FacesConfig(size=64), haar, own=True).arrays
        single = extract_faces(source, FacesConfig(size=64), haar).arrays
        assert together["valid"].all()
        away = together["box"][5:35, :2] - [shift, 0] - single["box"][5:35, :2]
        assert np.abs(away).max() < 0.1 * single["box"][:, 2].mean()


def test_the_look_of_several_tracks_is_the_mean_of_all_their_images():
    rng = np.random.default_rng(0)
    images, tracks, frames = _Images(), [], []
    for length in 3, 1, 0:
        faces = [Face(np.array([0.0, 0.0, 32.0, 32.0]), np.zeros((5, 2)), 1.0) for _ in range(length)]
        for face in faces:
            frames.append(rng.integers(0, 256, (32, 32, 3), np.uint8))
            images.add(frames[-1], [face])
        tracks.append(Track(0, 0, seen=[None, *faces]))
    first, second, none = (images.look(track) for track in tracks)
    wanted = np.stack(frames).mean(axis=0, dtype=np.float64).astype(np.float32)
    assert np.array_equal((first + second + none).mean(), wanted)
    assert none.mean() is None
